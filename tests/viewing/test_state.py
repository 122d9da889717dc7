"""States are read back as they were meant, in every form that a viewer gives them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neuroglancer import ViewerState
from neuroglancer.url_state import json_to_url_safe, to_url

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError
from cnapse.viewing import read_state
from cnapse.viewing.scene import PartnerLine, Selection, link, scene
from cnapse.viewing.state import write_state

RESOLUTION = (4.6, 4.6, 50.0)
LAYERS = {"image": "gs://b/i", "cells": "gs://b/c", "synapses": "https://h/s"}
VIEWER = "https://viewer.example"
BIG = 2**64 - 1

ids = st.integers(0, BIG)
places = st.tuples(*[st.floats(-1e7, 1e7)] * 3)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def local(annotations: list[dict[str, Any]], **layer: Any) -> dict[str, Any]:
    """A state of one layer that a person draws in."""
    return {
        "dimensions": {"x": [4e-9, "m"], "y": [4e-9, "m"], "z": [50e-9, "m"]},
        "layers": [
            {
                "type": "annotation",
                "name": "mine",
                "source": "local://annotations",
                "annotations": annotations,
                **layer,
            }
        ],
    }


POINT = {"type": "point", "id": "a", "point": [1.5, 2.5, 0.5], "description": "a synapse"}


@settings(max_examples=30, deadline=None)
@given(
    position=places,
    pre=ids.filter(bool),
    posts=st.lists(ids.filter(bool), max_size=5, unique=True),
    syn_ids=st.lists(ids, max_size=5, unique=True),
    lines=st.lists(st.builds(PartnerLine, texts, ids, ids, places, places, texts), max_size=4),
)
def test_a_scene_is_read_back(
    position: tuple[float, float, float],
    pre: int,
    posts: list[int],
    syn_ids: list[int],
    lines: list[PartnerLine],
) -> None:
    """By way of a link that neuroglancer's own classes have read and written."""
    made = scene(LAYERS, RESOLUTION, position, Selection(pre, posts, syn_ids), lines=lines)
    for address in (link(VIEWER, made), to_url(ViewerState(made), VIEWER + "/")):
        found = read_state(address)
        # Coordinates are kept to a thousandth of a voxel; neuroglancer's classes keep float32.
        near = pytest.approx
        assert found.position_nm == near(position, rel=1e-6, abs=0.051)
        assert found.unit_nm == RESOLUTION
        assert found.selected["synapses"] == tuple(syn_ids)
        assert set(found.selected["cells"]) == {pre, *posts}
        assert len(found.annotations) == len(lines)
        for one, line in zip(found.annotations, lines, strict=True):
            assert (one.id, one.description, one.kind) == (line.name, line.text, "line")
            assert one.segments == ((line.pre_id,), (line.post_id,))
            assert one.points_nm[0] == near(line.pre_nm, rel=1e-6, abs=0.051)
            assert one.points_nm[1] == near(line.post_nm, rel=1e-6, abs=0.051)
            assert one.properties["colour"].startswith("#")


def test_every_form_gives_the_same(tmp_path: Path) -> None:
    state = local([POINT])
    text = json.dumps(state)
    file = tmp_path / "state.json"
    file.write_text(text)
    expected = read_state(state)
    assert expected.annotations[0].points_nm == ((6.0, 10.0, 25.0),)
    safe = json_to_url_safe(text.replace(" ", ""))
    assert safe.startswith("{'")
    for form in (
        text,
        file,
        str(file),
        f"file://{file}",
        f"{VIEWER}/#!{text}",
        f"{VIEWER}/#!+{text}",
        link(VIEWER, state),
        f"{VIEWER}/#!file://{file}",
        f"{VIEWER}/?json_url=file://{file}",
    ):
        assert read_state(form) == expected, form
    # There a blank within a text stays one, and an underscore is a comma.
    assert read_state(f"{VIEWER}/#!{safe}").annotations[0].points_nm == ((6.0, 10.0, 25.0),)


def test_a_short_link_leads_back(tmp_path: Path) -> None:
    state = local([POINT])
    name = write_state(str(tmp_path), state)
    assert name == write_state(str(tmp_path), dict(reversed(state.items())))
    assert name != write_state(str(tmp_path), local([]))
    short = link("spelunker", f"file://{tmp_path}/{name}")
    assert short == f"https://spelunker.cave-explorer.org/#!file://{tmp_path}/{name}"
    assert read_state(short) == read_state(state)


def test_every_kind_of_annotation() -> None:
    found = read_state(
        local(
            [
                POINT,
                {"type": "line", "id": "b", "pointA": [0, 0, 0], "pointB": [1, 1, 1]},
                {
                    "type": "axis_aligned_bounding_box",
                    "id": "c",
                    "pointA": [0, 0, 0],
                    "pointB": [1, 2, 3],
                    "props": [7, "#ff0000"],
                    "segments": [["5", str(BIG)], []],
                },
                {"type": "ellipsoid", "id": "d", "center": [1, 1, 1], "radii": [2, 2, 2]},
                {"type": "polyline", "id": "e", "points": [[0, 0, 0], [1, 0, 0], [1, 1, 0]]},
                {"type": "POINT", "id": "f", "point": [1, 1, 1], "segments": ["9"]},
            ],
            annotationProperties=[
                {"id": "n", "type": "uint8"},
                {"id": "colour", "type": "rgb"},
            ],
        )
    )
    point, line, box, ball, path, old = found.annotations
    assert (point.id, point.layer, point.description) == ("a", "mine", "a synapse")
    assert line.points_nm == ((0, 0, 0), (4, 4, 50))
    assert box.properties == {"n": 7, "colour": "#ff0000"}
    assert box.segments == ((5, BIG), ())
    assert (ball.points_nm, ball.radii_nm) == (((4, 4, 50),), (8, 8, 100))
    assert path.points_nm == ((0, 0, 0), (4, 0, 0), (4, 4, 0))
    assert old.segments == ((9,),)


def test_a_source_has_its_own_space() -> None:
    own = {"y": [1, "um"], "t": [1, "s"], "z": [2, "µm"], "x": [0.5, "mm"]}
    source = {"url": "local://annotations", "transform": {"outputDimensions": own}}
    place = {"type": "point", "id": "a", "point": [1, 99, 2, 3]}
    (found,) = read_state(local([place], source=source)).annotations
    assert found.points_nm == ((1_500_000.0, 1000.0, 4000.0),)


def test_a_moved_source_moves_its_annotations() -> None:
    nm = {axis: [1e-9, "m"] for axis in "xyz"}
    matrix = [[0, 1, 0, 100], [1, 0, 0, 0], [0, 0, 2, -1]]
    source = {"url": "local://annotations", "transform": {"outputDimensions": nm, "matrix": matrix}}
    (found,) = read_state(local([POINT], source=[source])).annotations
    assert found.points_nm == ((102.5, 1.5, 0.0),)


def test_selected_starred_and_hidden() -> None:
    state = local([])
    state["layers"] += [
        {"type": "segmentation", "name": "cells", "segments": ["7", "!8", str(BIG)]},
        {"type": "image", "name": "em", "source": {"url": "gs://b/i"}, "visible": False},
    ]
    found = read_state(state)
    cells = found.layer("cells")
    assert (cells.segments, cells.starred, cells.visible) == ((7, BIG), (8,), True)
    assert found.selected == {"cells": (7, BIG)}
    assert (found.layer("em").sources, found.layer("em").visible) == (("gs://b/i",), False)
    assert found.position_nm is None
    with pytest.raises(LayerNotFoundError, match=r"no layer 'cell': it has mine, cells, em"):
        found.layer("cell")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", r"^{: no state of a viewer \(.*\): give a link, or JSON as the button {}"),
        ("https://viewer/#!{'a'", "no state of a viewer"),
        ({"a": 1}, "state: neither layers nor dimensions"),
        ({"dimensions": {"x": [1, "m"]}}, r"dimensions \['x'\] have no y: x, y, z are needed"),
        (
            {"dimensions": {"x": [1, ""], "y": [1, "m"], "z": [1, "m"]}},
            r"dimension x is \[1, ''\], not a length as \[4e-9, 'm'\]",
        ),
        (local([{"type": "sphere", "id": "s"}]), "layer 'mine': annotation 's' is a 'sphere'"),
        (local([{"type": "point", "id": "s"}]), "a state that cannot be read: KeyError"),
        (local([{"type": "point", "id": "s", "point": [1]}]), "cannot be read: IndexError"),
        (
            {"layers": [{"name": "a", "annotations": [POINT]}]},
            "annotations, but no dimensions: their unit is not known",
        ),
        ({"layers": [3]}, "a state that cannot be read: AttributeError"),
    ],
)
def test_what_is_no_state(source: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_state(source)
    assert "\n" not in str(caught.value)


def test_states_that_are_not_there_or_not_for_us(tmp_path: Path) -> None:
    with pytest.raises(LayerNotFoundError, match=r"nothing\.json is not there"):
        read_state(tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="only a viewer can log in there: open the link"):
        read_state("https://spelunker/#!middleauth+https://host/state/1")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(FormatError, match="a state is a JSON object, not a list"):
        read_state(tmp_path / "list.json")
