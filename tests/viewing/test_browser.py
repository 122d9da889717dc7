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
import pytest

from cnapse.viewing.connections import Connections
from cnapse.viewing.exhibit import Aim, Exhibit, measured_contrast
from cnapse.viewing.scene import View
from cnapse.viewing.server import LayerServer
from cnapse.volumes.reader import open_layer
from docs.screenshots import CHROMIUM, DRIVER, chromium, facts, settled

pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)

BIG = 2**63 + 5
WIDTH, HEIGHT = 640, 420
LAYERS = ["image", "probability", "cells", "synapses", "partners"]
_VISIBLE = "window.viewer.layerManager.getLayerByName(arguments[0]).setVisible(arguments[1])"
_SELECT = """
const state = window.viewer.state.toJSON();
state.layers.find(layer => layer.name === 'cells').segments = arguments[0];
window.viewer.state.restoreState(state);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(WIDTH, HEIGHT) as driver:
        yield driver


@contextmanager
def shown(browser: Any, run: Path, connections: Connections, aim: Aim) -> Iterator[np.ndarray]:
    """The page on an aim, open as long as one looks at it."""
    folders = {"image": "image", "probability": "probability", "cells": "cells"}
    paths = {name: f"file://{run}/{folder}" for name, folder in folders.items()}
    paths["synapses"] = f"file://{run}/out/synapses"
    contrast = measured_contrast(open_layer(run / "image"), aim.position_nm)
    exhibit = Exhibit(paths)
    with LayerServer(exhibit.folders) as server:
        look = View(contrast=contrast)
        address = exhibit.show(server, (4.0, 4.0, 50.0), aim, connections=connections, view=look)
        browser.get(address)
        yield pixels(browser)
        browser.get("about:blank")


def pixels(browser: Any) -> np.ndarray:
    return np.asarray(settled(browser)).astype(int)


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The section and the view in space, without what lies on their rims."""
    return picture[80:-40, : WIDTH // 2 - 10], picture[80:-40, WIDTH // 2 + 10 :]


def changed(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.abs(one - other).max(axis=2) > 8).sum())


def assert_sound(browser: Any) -> dict[str, Any]:
    """Every source was read, every chunk that the view needs has come, nobody complained."""
    found = facts(browser)
    assert sorted(found) == sorted(LAYERS)
    assert {name: layer["errors"] for name, layer in found.items()} == {name: [] for name in LAYERS}
    for name in ("image", "probability", "cells", "synapses"):
        assert found[name]["needed"] == found[name]["available"] > 0, name
    serious = [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
    assert serious == []
    return found


def selected(found: dict[str, Any], layer: str) -> set[int]:
    return {int(segment) for segment in found[layer]["segments"]}


def test_every_layer_is_loaded_and_drawn(
    browser: Any, finished_run: Path, connections: Connections
) -> None:
    """Taken away one after the other, each leaves another picture."""
    frame = open_layer(finished_run / "image").bounds
    aim = Aim.over(frame, connections.position_nm(7))
    with shown(browser, finished_run, connections, aim) as picture:
        found = assert_sound(browser)
        assert selected(found, "cells") == selected(found, "synapses") == set()
        section, space = halves(picture)
        for name in ("probability", "partners", "synapses", "cells", "image"):
            browser.execute_script(_VISIBLE, name, False)
            fewer = halves(pixels(browser))
            assert changed(section, fewer[0]) > 20, name
            assert changed(space, fewer[1]) > 20, name
            section, space = fewer
        assert (section.max(axis=2) > 0).mean() < 0.05, "more than the scale bar is left"


def test_a_synapse_with_its_cells(
    browser: Any, finished_run: Path, connections: Connections
) -> None:
    aim = Aim.at_synapse(connections, 7)
    with shown(browser, finished_run, connections, aim) as picture:
        found = assert_sound(browser)
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
    browser: Any, finished_run: Path, connections: Connections, name: str
) -> None:
    """AVAL is presynaptic, RIML is not."""
    cell = connections.cell_id(name)
    table = connections.partners
    own = table[(table["pre"] == name) | (table["post"] == name)]
    with shown(browser, finished_run, connections, Aim.at_cell(connections, cell)):
        found = assert_sound(browser)
    assert selected(found, "cells") == {cell}
    assert selected(found, "synapses") == set(map(int, own["syn_id"]))


def test_lines_are_tied_to_their_cells(
    browser: Any, finished_run: Path, connections: Connections
) -> None:
    """They go when the cell is not selected any more, and come with a partner of it."""
    aim = Aim.at_cell(connections, connections.cell_id("RIML"))
    with shown(browser, finished_run, connections, aim):
        browser.execute_script(_VISIBLE, "probability", False)
        drawn = []
        for cell in ("12", "99", "11"):
            browser.execute_script(_SELECT, [cell])
            browser.execute_script(_VISIBLE, "partners", True)
            lines = halves(pixels(browser))[0]
            browser.execute_script(_VISIBLE, "partners", False)
            drawn.append(changed(lines, halves(pixels(browser))[0]))
    of_riml, of_nobody, of_aval = drawn
    assert 30 < of_riml < of_aval
    assert of_nobody == 0
