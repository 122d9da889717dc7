"""`cnapse view` in a real browser: headless Chromium, WebGL in software.

What Neuroglancer says of itself is believed more than pixels: the chunks that it needs and has, the
errors of its sources, the segments that it has selected. Pixels tell only that it draws them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnapse.config import Config
from cnapse.runs import RunData, open_run
from cnapse.viewing.additions import additions_of
from cnapse.viewing.connections import Connections
from cnapse.viewing.exhibit import Aim, Exhibit, fitting, measured_contrast
from cnapse.viewing.scene import View
from cnapse.viewing.server import LayerServer
from cnapse.volumes.reader import open_layer
from docs.screenshots import CHROMIUM, Window, chromium, settled

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

BIG = 2**63 + 5
WIDTH, HEIGHT = 640, 420
LAYERS = ["image", "probability", "cells", "synapses", "partners"]
NAME = "AVAL"
_VISIBLE = "([name, shown]) => viewer.layerManager.getLayerByName(name).setVisible(shown)"
_SELECT = """segments => {
  const state = viewer.state.toJSON();
  state.layers.find(layer => layer.name === 'cells').segments = segments;
  viewer.state.restoreState(state);
}"""
_SEGMENTS_TAB = """visible => {
  const state = viewer.state.toJSON();
  state.selectedLayer = {layer: 'cells', visible};
  state.layers.find(layer => layer.name === 'cells').tab = 'segments';
  viewer.state.restoreState(state);
}"""
_PICK_LINE = """id => {
  const state = viewer.state.toJSON();
  state.selection = {layers: {partners: {annotationId: id, annotationSource: 0,
                                         annotationSubsource: 'default'}}, visible: true};
  viewer.state.restoreState(state);
}"""
_OPACITY = """opacity => {
  const state = viewer.state.toJSON();
  state.layers.find(layer => layer.name === 'cells').objectAlpha = opacity;
  viewer.state.restoreState(state);
}"""
_SLOW_CLOCK = "const now = Date.now; let late = 0; Date.now = () => now() + (late += 500);"
# Lines that have come for the selected segments, one list a relationship.
_LINES = """() => viewer.layerManager.getLayerByName('partners').layer.annotationStates.states
  .flatMap(state => state.source.segmentFilteredSources.map(
    source => Array.from(source.chunks.values()).flatMap(
      chunk => chunk.data ? chunk.data.serializedAnnotations.typeToIds.flat() : []
    )
  )
)"""


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with chromium(WIDTH, HEIGHT) as opened:
        yield opened


@contextmanager
def shown(window: Window, run: Path, connections: Connections, aim: Aim) -> Iterator[np.ndarray]:
    """The page on an aim, open as long as one looks at it."""
    folders = {"image": "image", "probability": "probability", "cells": "cells"}
    paths = {name: f"file://{run}/{folder}" for name, folder in folders.items()}
    paths["synapses"] = f"file://{run}/out/synapses"
    contrast = measured_contrast(open_layer(run / "image"), aim.position_nm)
    exhibit = Exhibit(paths)
    with LayerServer(exhibit.folders) as server:
        look = View(contrast=contrast)
        address = exhibit.show(server, (4.0, 4.0, 50.0), aim, connections=connections, view=look)
        window.open(address)
        yield pixels(window)
        window.open("about:blank")


def pixels(window: Window) -> np.ndarray:
    return np.asarray(settled(window)).astype(int)


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The section and the view in space, without what lies on their rims."""
    return picture[80:-40, : WIDTH // 2 - 10], picture[80:-40, WIDTH // 2 + 10 :]


def changed(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.abs(one - other).max(axis=2) > 8).sum())


def assert_sound(window: Window) -> dict[str, Any]:
    """Every source was read, every chunk that the view needs has come, nobody complained."""
    found = window.facts()
    assert sorted(found) == sorted(LAYERS)
    assert {name: layer["errors"] for name, layer in found.items()} == {name: [] for name in LAYERS}
    for name in ("image", "probability", "cells", "synapses"):
        assert found[name]["needed"] == found[name]["available"] > 0, name
    assert window.complaints == []
    return found


def selected(found: dict[str, Any], layer: str) -> set[int]:
    return {int(segment) for segment in found[layer]["segments"]}


def test_every_layer_is_loaded_and_drawn(
    window: Window, finished_run: Path, connections: Connections
) -> None:
    """Taken away one after the other, each leaves another picture."""
    frame = open_layer(finished_run / "image").bounds
    aim = Aim.over(frame, connections.position_nm(7))
    with shown(window, finished_run, connections, aim) as picture:
        found = assert_sound(window)
        assert selected(found, "cells") == selected(found, "synapses") == set()
        section, space = halves(picture)
        for name in ("probability", "partners", "synapses", "cells", "image"):
            window.run(_VISIBLE, [name, False])
            fewer = halves(pixels(window))
            assert changed(section, fewer[0]) > 20, name
            assert changed(space, fewer[1]) > 20, name
            section, space = fewer
        assert (section.max(axis=2) > 0).mean() < 0.05, "more than the scale bar is left"


def test_a_synapse_with_its_cells(
    window: Window, finished_run: Path, connections: Connections
) -> None:
    aim = Aim.at_synapse(connections, 7)
    with shown(window, finished_run, connections, aim) as picture:
        found = assert_sound(window)
    own = connections.partners_of(7)
    assert selected(found, "cells") == {int(own["pre_id"].iloc[0]), *map(int, own["post_id"])}
    assert selected(found, "synapses") == {7}
    section, _ = halves(picture)
    red, green, blue = (section[..., i] for i in range(3))
    assert ((red - blue > 60) & (green - blue > 60)).sum() > 50, "no yellow synapse"
    assert (blue - red > 25).sum() > 2000, "no blue presynaptic cell"
    assert ((green - red > 15) & (green - blue > 5)).sum() > 300, "no green partner"
    assert (section.std(axis=2) < 1).sum() > 2000, "no grey image"


@pytest.mark.parametrize("name", ["AVAL", "RIML"])
def test_a_cell_by_name_with_its_synapses(
    window: Window, finished_run: Path, connections: Connections, name: str
) -> None:
    """AVAL is presynaptic, RIML is not."""
    cell = connections.cell_id(name)
    table = connections.partners
    own = table[(table["pre"] == name) | (table["post"] == name)]
    with shown(window, finished_run, connections, Aim.at_cell(connections, cell)):
        found = assert_sound(window)
    assert selected(found, "cells") == {cell}
    assert selected(found, "synapses") == set(map(int, own["syn_id"]))


def test_lines_are_tied_to_their_cells(
    window: Window, finished_run: Path, connections: Connections
) -> None:
    """They go when the cell is not selected any more, and come with a partner of it."""
    aim = Aim.at_cell(connections, connections.cell_id("RIML"))
    with shown(window, finished_run, connections, aim):
        window.run(_VISIBLE, ["probability", False])
        drawn = []
        for cell in ("12", "99", "11"):
            window.run(_SELECT, [cell])
            window.run(_VISIBLE, ["partners", True])
            lines = halves(pixels(window))[0]
            window.run(_VISIBLE, ["partners", False])
            drawn.append(changed(lines, halves(pixels(window))[0]))
    of_riml, of_nobody, of_aval = drawn
    assert 30 < of_riml < of_aval
    assert of_nobody == 0


@pytest.fixture(scope="module")
def phantom_run(
    phantom: Path, tmp_path_factory: pytest.TempPathFactory, run_here: Any
) -> tuple[RunData, int]:
    """A run of the phantom with all that is made for the viewer, and its busiest cell, named."""
    truth = pd.read_csv(phantom / "truth" / "partners.csv", dtype={"pre_id": np.uint64})
    cell = int(truth["pre_id"].mode()[0])
    folder = tmp_path_factory.mktemp("shown")
    (folder / "names.csv").write_text(f"id,name,type\n{cell},{NAME},interneuron\n")
    layers = {"image": "image", "cells": "cells", "probability": "truth/probability"}
    config = Config.from_dict(
        {
            "output": f"file://{folder}/out",
            "resolution": (4, 4, 50),
            "names": f"{folder}/names.csv",
            "layers": {name: f"file://{phantom}/{path}" for name, path in layers.items()},
            "meshes": {"layers": ("cells",), "mip": 2},
            "block": (512, 512, 32),
        }
    )
    run_here(config)
    return open_run(config), cell


def test_a_slow_machine_shows_all_layers(window: Window, phantom_run: tuple[RunData, int]) -> None:
    """While it restores a scene it writes its address: every look at the clock takes half a second.

    The client as it is in its package leaves the layer of lines out then.
    """
    run, _ = phantom_run
    paths = {"cells": run.layer_path("cells")}
    exhibit = Exhibit(paths, fitting(additions_of(run.config.output), paths))
    with LayerServer(exhibit.folders) as server:
        address = exhibit.show(server, (4.0, 4.0, 50.0), Aim.over(run.frame, (5000.0, 0.0, 2500.0)))
        page = window.page.context.browser.new_page()
        page.add_init_script(_SLOW_CLOCK)
        slow = Window(page)
        slow.open(address)
        settled(slow)
        assert sorted(slow.facts()) == ["cells", "partners"]
        assert not page.get_by_text("Cannot read").count()
        page.close()


def test_a_phantoms_run(window: Window, phantom_run: tuple[RunData, int]) -> None:
    """A cell selected by its name shows its lines and its mesh; all numbers are the tables'."""
    run, cell = phantom_run
    paths = {name: run.layer_path(name) for name in ("image", "probability", "cells", "synapses")}
    exhibit = Exhibit(paths, fitting(additions_of(run.config.output), paths))
    partners = run.connections.partners
    made = partners[partners["pre_id"] == np.uint64(cell)]
    received = partners[partners["post_id"] == np.uint64(cell)]
    assert len(made) > 0
    with LayerServer(exhibit.folders) as server:
        aim = Aim.at_synapse(run.connections, int(made["syn_id"].iloc[0]))
        everything = Aim.over(run.frame, aim.position_nm)
        window.open(exhibit.show(server, (4.0, 4.0, 50.0), everything))
        settled(window)
        found = assert_sound(window)
        assert found["partners"]["needed"] == found["partners"]["available"] > 0
        window.run(_SEGMENTS_TAB, True)
        query = window.page.locator(".neuroglancer-segment-list-query")
        query.fill(f"{NAME} |inputs |outputs")
        row = window.page.locator(".neuroglancer-segment-list-entry", has_text=str(cell))
        numbers = f"{len(received)} {made['syn_id'].nunique()}"
        playwright.expect(row).to_have_text(
            f"{cell} {NAME} #interneuron {numbers}", use_inner_text=True, timeout=60_000
        )
        query.press("Enter")
        window.run(_SEGMENTS_TAB, False)
        drawn = halves(pixels(window))
        assert selected(assert_sound(window), "cells") == {cell}
        lines = [sorted(map(int, ids)) for ids in window.run(_LINES)]
        assert lines[:2] == [line_ids(partners, made), line_ids(partners, received)]
        window.run(_OPACITY, 0)
        bare = halves(pixels(window))
        assert changed(drawn[1], bare[1]) > 200, "no mesh"
        assert changed(drawn[0], bare[0]) == 0
        own = made.sort_values(["syn_id", "post_id"]).iloc[0]
        window.run(_PICK_LINE, str(line_ids(partners, made)[0]))
        details = window.page.locator(".neuroglancer-selection-details-body")
        details.get_by_text("share").wait_for()
        shown_values = details.inner_text().split("\n")
        for name in ("share", "size"):
            value = float(shown_values[shown_values.index(name) + 1])
            assert value == pytest.approx(own[name], rel=1e-5), name
        for name in ("presynaptic cell", "postsynaptic cell", "synapse"):
            column = {"presynaptic cell": "pre_id", "postsynaptic cell": "post_id"}
            expected = str(own[column.get(name, "syn_id")])
            assert shown_values[shown_values.index(name) + 1] == expected
        assert window.complaints == []


def line_ids(partners: pd.DataFrame, some: pd.DataFrame) -> list[int]:
    """Ids of lines as the format of the layer says: 1024 x synapse + the partner's place by id."""
    rows = partners.sort_values(["syn_id", "post_id"], ignore_index=True)
    rank = rows.groupby("syn_id").cumcount()
    ids = {
        (int(syn), int(post)): 1024 * int(syn) + int(place)
        for syn, post, place in zip(rows["syn_id"], rows["post_id"], rank, strict=True)
    }
    return sorted(ids[int(row.syn_id), int(row.post_id)] for row in some.itertuples())
