"""States and links, read back by the neuroglancer package."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neuroglancer import ViewerState, parse_url

from cnapse.config import LinkSection
from cnapse.errors import ConfigError
from cnapse.viewing.palette import POSTSYNAPTIC, PRESYNAPTIC, SYNAPSE, cell_colours, rgb
from cnapse.viewing.scene import (
    CLOSE_NM,
    LinkMaker,
    PartnerLine,
    Selection,
    View,
    link,
    scene,
    source_url,
)

VIEWER = "https://viewer.example/x"
SECTION = LinkSection(
    viewer=VIEWER,
    image="gs://bucket/im'age_1",
    cells="https://host.example/cells@7@%22",
    synapses="s3://bucket/synapses",
)
PUBLIC = {"image": SECTION.image, "cells": SECTION.cells, "synapses": SECTION.synapses}
LOCAL = {
    name: f"http://127.0.0.1:8080/token/{name}"
    for name in ("image", "probability", "cells", "synapses")
}
BIG = 2**64 - 1

ids = st.integers(0, BIG)


def full_scene() -> dict[str, Any]:
    lines = [PartnerLine("7/2", 1, BIG, (2.0, 6.0, 25.0), (42.0, 46.0, 125.0), "AVAL to 2")]
    return scene(
        LOCAL,
        (4.6, 4.6, 50.0),
        (2.3, 6.9, 25.0),
        Selection(1, [BIG, 3], [7, 8]),
        view=View(contrast=(30.0, 200.0)),
        lines=lines,
    )


def test_neuroglancer_reads_what_was_meant() -> None:
    state = parse_url(link(VIEWER, full_scene()))
    assert state.layout.type == "xy-3d"
    assert [layer.name for layer in state.layers] == [
        "image",
        "probability",
        "cells",
        "synapses",
        "partners",
    ]
    assert list(state.dimensions.names) == ["x", "y", "z"]
    np.testing.assert_array_equal(state.dimensions.scales, [4.6e-9, 4.6e-9, 5e-8])
    np.testing.assert_allclose(state.position, [0.5, 1.5, 0.5])
    cells = state.layers["cells"].layer
    assert cells.source[0].url == "precomputed://http://127.0.0.1:8080/token/cells"
    assert list(cells.segments) == [1, BIG, 3]
    assert dict(cells.segment_colors) == {
        1: PRESYNAPTIC,
        BIG: POSTSYNAPTIC[0],
        3: POSTSYNAPTIC[1],
    }
    assert list(state.layers["synapses"].layer.segments) == [7, 8]
    assert state.layers["synapses"].layer.segment_default_color == SYNAPSE
    controls = state.layers["image"].layer.shader_controls
    assert list(controls["normalized"].range) == [30.0, 200.0]
    assert "toNormalized" in state.layers["probability"].layer.shader


def test_partner_lines_are_tied_to_both_cells() -> None:
    layer = parse_url(link(VIEWER, full_scene())).layers["partners"].layer
    assert layer.source[0].url == "local://annotations"
    assert layer.linked_segmentation_layer.to_json() == {
        "presynaptic": "cells",
        "postsynaptic": "cells",
    }
    (line,) = layer.annotations
    assert (line.type, line.description) == ("line", "AVAL to 2")
    np.testing.assert_allclose(line.point_a, [2 / 4.6, 6 / 4.6, 0.5], atol=1e-3)
    np.testing.assert_allclose(line.point_b, [42 / 4.6, 46 / 4.6, 2.5], atol=1e-3)
    assert [[int(i) for i in group] for group in line.segments] == [[1], [BIG]]
    assert list(line.props) == [POSTSYNAPTIC[0]]


def test_a_line_ends_in_the_colour_of_its_cell() -> None:
    """And in the first of the postsynaptic colours where the cell is not picked out."""
    ends = [PartnerLine(str(post), 1, post, (0, 0, 0), (4, 4, 50)) for post in (2, 3, 4)]
    state = scene(LOCAL, (4, 4, 50), (0, 0, 0), Selection(1, [2, 3]), lines=ends)
    layer = ViewerState(state).layers["partners"].layer
    first, second, *_ = POSTSYNAPTIC
    assert [list(line.props) for line in layer.annotations] == [[first], [second], [first]]
    assert [(p.id, p.type) for p in layer.annotation_properties] == [("colour", "rgb")]


@pytest.mark.parametrize("nm_per_pixel", [CLOSE_NM, 7.0])
def test_section_and_space_show_the_same_place_as_large(nm_per_pixel: float) -> None:
    state = ViewerState(
        scene(LOCAL, (4.6, 4.6, 50), (0, 0, 0), view=View(nm_per_pixel=nm_per_pixel))
    )
    assert state.cross_section_scale * 4.6 == pytest.approx(nm_per_pixel)
    assert 800 < state.projection_scale * 4.6 / nm_per_pixel < 1100
    assert np.linalg.norm(state.projection_orientation) == pytest.approx(1, abs=1e-3)


def test_no_key_of_a_state_is_unknown_to_neuroglancer() -> None:
    """A key that its classes do not know would be kept, but not be an attribute of them."""
    state = full_scene()
    known = ViewerState(state)
    assert json.loads(json.dumps(known.to_json())) == state
    for key in state:
        assert hasattr(type(known), key), key
    for layer, written in zip(known.layers, state["layers"], strict=True):
        for key in set(written) - {"name"}:
            # Its class calls this key by another name than the client.
            known_as = "volume_rendering" if key == "volumeRendering" else key
            assert hasattr(type(layer.layer), known_as), key


def test_layers_that_are_absent_are_left_out() -> None:
    state = scene({"image": "gs://b/i", "cells": ""}, (4, 4, 50), (0, 0, 0))
    assert [layer["name"] for layer in state["layers"]] == ["image"]
    assert "shaderControls" not in state["layers"][0]
    no_cells = scene(
        {"image": "gs://b/i"},
        (4, 4, 50),
        (0, 0, 0),
        lines=[PartnerLine("a", 1, 2, (0, 0, 0), (4, 4, 50))],
    )
    assert "linkedSegmentationLayer" not in no_cells["layers"][-1]


def test_the_class_that_objects_are_made_of_is_shown() -> None:
    def shader(channel: int) -> str:
        state = scene(
            {"probability": "gs://b/p"}, (4, 4, 50), (0, 0, 0), view=View(channel=channel)
        )
        return str(state["layers"][0]["shader"])

    assert "toNormalized(getDataValue())" in shader(0)
    assert "toNormalized(getDataValue(2))" in shader(2)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gs://b/i", "precomputed://gs://b/i"),
        ("https://h/i", "precomputed://https://h/i"),
        ("precomputed://gs://b/i", "precomputed://gs://b/i"),
        ("graphene://https://h/t", "graphene://https://h/t"),
        ("https://h/i.zarr|zarr3:", "https://h/i.zarr|zarr3:"),
    ],
)
def test_source_url(address: str, expected: str) -> None:
    assert source_url(address) == expected


@settings(max_examples=30, deadline=None)
@given(
    position=st.tuples(*[st.floats(-1e7, 1e7)] * 3),
    syn=ids,
    pre=ids,
    posts=st.lists(ids, max_size=12),
)
def test_a_filled_in_link_is_the_slow_link(
    position: tuple[float, float, float], syn: int, pre: int, posts: list[int]
) -> None:
    resolution = (4.6, 4.6, 50.0)
    fast = LinkMaker(SECTION, resolution).link(position, syn, pre, posts)
    slow = link(VIEWER, scene(PUBLIC, resolution, position, Selection(pre, posts, [syn])))
    assert fast == slow


def test_links_take_numpy_numbers() -> None:
    maker = LinkMaker(SECTION, (4.0, 4.0, 50.0))
    plain = maker.link((2.0, 6.0, 25.0), 9, BIG, [1, 2])
    numpy = maker.link(
        tuple(np.array([2.0, 6.0, 25.0])), np.uint64(9), np.uint64(BIG), np.array([1, 2], np.uint64)
    )
    assert plain == numpy
    assert parse_url(plain).layers["cells"].layer.segments == {BIG, 1, 2}


def test_a_link_survives_text() -> None:
    """Nothing in a link ends it in a CSV, a terminal, Markdown or HTML."""
    made = LinkMaker(SECTION, (4.0, 4.0, 50.0)).link((2.0, 6.0, 25.0), 9, 1, [2])
    assert made.startswith(f"{VIEWER}/#!%7B")
    assert made.isascii()
    assert not set(made) & set(" \"'<>()[]{}|\\^`")


def test_cells_without_id_are_not_selected() -> None:
    made = LinkMaker(SECTION, (4.0, 4.0, 50.0)).link((2.0, 6.0, 25.0), 9, 0, [])
    assert list(parse_url(made).layers["cells"].layer.segments) == []


@pytest.mark.parametrize(
    "section", [LinkSection(), LinkSection(viewer="", image="gs://bucket/image")]
)
def test_no_link_without_a_public_address(section: LinkSection) -> None:
    assert LinkMaker(section, (4.0, 4.0, 50.0)).link((0.0, 0.0, 0.0), 1, 2, [3]) == ""


def test_colours_of_cells() -> None:
    assert cell_colours(5, [9, 5, 0, 7, 9]) == {
        5: PRESYNAPTIC,
        9: POSTSYNAPTIC[0],
        7: POSTSYNAPTIC[1],
    }
    assert cell_colours(0, []) == {}
    assert len({PRESYNAPTIC, SYNAPSE, *POSTSYNAPTIC}) == 2 + len(POSTSYNAPTIC)
    assert rgb("#ff8000") == (255, 128, 0)


ADDITIONS = {
    "cells": ["gs://b/properties", "https://h/meshes"],
    "synapses": [],
    "annotations": ["gs://b/lines"],
}


def test_additions_are_further_sources() -> None:
    state = ViewerState(scene(PUBLIC, (4, 4, 50), (0, 0, 0), additions=ADDITIONS))
    urls = {layer.name: [source.url for source in layer.source] for layer in state.layers}
    assert urls["cells"][1:] == [
        "precomputed://gs://b/properties",
        "precomputed://https://h/meshes",
    ]
    assert urls["partners"] == ["precomputed://gs://b/lines"]
    assert len(urls["synapses"]) == 1


@pytest.mark.parametrize(
    ("shown", "expected"),
    [("cells", ["presynaptic cell", "postsynaptic cell"]), ("synapses", ["synapse"])],
)
def test_selected_segments_tell_which_written_lines_are_shown(
    shown: Any, expected: list[str]
) -> None:
    state = ViewerState(
        scene(PUBLIC, (4, 4, 50), (0, 0, 0), view=View(shown=shown), additions=ADDITIONS)
    )
    layer = state.layers["partners"].layer
    assert layer.linked_segmentation_layer.to_json() == {
        "presynaptic cell": "cells",
        "postsynaptic cell": "cells",
        "synapse": "synapses",
    }
    assert list(layer.filter_by_segmentation) == expected
    controls = set(re.findall(r"#uicontrol \w+ (\w+)", layer.shader))
    assert {"least_share", "most_doubt", "marker_scale", "colour_by_doubt"} <= controls


def test_lines_are_tied_to_layers_that_are_there() -> None:
    only = scene({"image": "gs://b/i"}, (4, 4, 50), (0, 0, 0), additions=ADDITIONS)
    assert "linkedSegmentationLayer" not in only["layers"][-1]
    assert "filterBySegmentation" not in only["layers"][-1]


def test_written_lines_go_before_lines_in_the_state() -> None:
    line = PartnerLine("a", 1, 2, (0, 0, 0), (4, 4, 50))
    state = scene(PUBLIC, (4, 4, 50), (0, 0, 0), additions=ADDITIONS, lines=[line])
    assert [layer["name"] for layer in state["layers"]].count("partners") == 1
    assert "annotations" not in state["layers"][-1]


def test_of_a_hand_drawn_map_all_but_0_is_shown() -> None:
    state = scene({"probability": "gs://b/p"}, (4, 4, 50), (0, 0, 0), view=View(binary=True))
    assert "toNormalized(getDataValue()) > 0.0 ? 1.0 : 0.0" in state["layers"][0]["shader"]


@pytest.mark.parametrize(
    ("viewer", "expected"),
    [
        ("neuroglancer", "https://neuroglancer-demo.appspot.com/#!gs://b/s.json"),
        ("Spelunker", "https://spelunker.cave-explorer.org/#!gs://b/s.json"),
        ("https://host.example/ng/", "https://host.example/ng/#!gs://b/s.json"),
        ("https://host.example/fafb.html", "https://host.example/fafb.html#!gs://b/s.json"),
    ],
)
def test_viewers_by_name_and_by_address(viewer: str, expected: str) -> None:
    assert link(viewer, "gs://b/s.json") == expected


def test_an_unknown_viewer() -> None:
    with pytest.raises(
        ConfigError,
        match=r"viewer 'neuroglance': give an address that starts with "
        "https://, or one of neuroglancer, spelunker",
    ):
        link("neuroglance", {})
