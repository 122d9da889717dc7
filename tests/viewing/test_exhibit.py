"""A run shown on a server, read back over HTTP."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from neuroglancer import ViewerState

from cnapse.geometry import Box
from cnapse.viewing.connections import Connections
from cnapse.viewing.exhibit import (
    Aim,
    Exhibit,
    measured_contrast,
    present_layers,
)
from cnapse.viewing.scene import View
from cnapse.viewing.server import LayerServer
from cnapse.volumes.reader import open_layer

BIG = 2**63 + 5


def paths_of(run: Path) -> dict[str, str]:
    names = {"image": "image", "cells": "cells", "probability": "none", "synapses": "out/synapses"}
    return {name: f"file://{run}/{path}" for name, path in names.items()}


def state_of(address: str) -> ViewerState:
    with urllib.request.urlopen(f"{address}state.json") as answer:
        return ViewerState(json.load(answer))


def test_only_layers_that_are_there(finished_run: Path) -> None:
    paths = {**paths_of(finished_run), "other": "https://host/layer"}
    there = present_layers(paths)
    assert list(there) == ["image", "cells", "synapses", "other"]
    assert Exhibit(there).folders == {
        "image": finished_run / "image",
        "cells": finished_run / "cells",
        "synapses": finished_run / "out" / "synapses",
    }


def test_every_address_of_the_scene_leads_to_a_layer(
    finished_run: Path, connections: Connections
) -> None:
    paths = present_layers(paths_of(finished_run)) | {"cells": "https://host/cells"}
    shown = Exhibit(paths)
    with LayerServer(shown.folders) as server:
        address = shown.show(
            server,
            (4.0, 4.0, 50.0),
            Aim.at_synapse(connections, 7),
            connections=connections,
            view=View(contrast=(20.0, 190.0)),
        )
        state = state_of(address)
        for name in ("image", "synapses"):
            url = state.layers[name].source[0].url.removeprefix("precomputed://")
            with urllib.request.urlopen(f"{url}/info") as answer:
                assert json.load(answer)["scales"][0]["resolution"] == [4, 4, 50]
        assert state.layers["cells"].source[0].url == "precomputed://https://host/cells"
        np.testing.assert_allclose(
            state.position * np.array([4, 4, 50]), connections.position_nm(7), atol=0.01
        )
        assert len(state.layers["partners"].annotations) == 2


def test_a_cell_is_selected_with_all_its_synapses(connections: Connections) -> None:
    aim = Aim.at_cell(connections, 11)
    assert aim.selection.pre_id == 11
    assert list(aim.selection.syn_ids) == [BIG, 7]
    assert aim.position_nm == connections.position_nm(BIG)
    assert len(connections.lines(near_nm=aim.position_nm, longest=9, syn_ids=aim.syn_ids)) == 3


def test_a_cell_that_only_receives_has_no_presynaptic_colour(connections: Connections) -> None:
    aim = Aim.at_cell(connections, 12)
    assert (aim.selection.pre_id, list(aim.selection.post_ids)) == (0, [12])
    both = Aim.at_cell(connections, 14)
    assert both.selection.pre_id == 14


def test_a_volume_that_fits_is_shown_as_a_whole() -> None:
    frame = Box.from_shape((512, 1024, 40), (4.0, 4.0, 50.0), (100, 200, 30))
    aim = Aim.over(frame, (500.0, 900.0, 1775.0))
    assert aim.position_nm == (400 + 1024, 800 + 2048, 1775.0)
    assert 4096 / 900 < aim.nm_per_pixel < 4096 / 700


def test_in_a_large_volume_one_looks_at_the_place() -> None:
    frame = Box.from_shape((20_000, 512, 40), (4.0, 4.0, 50.0))
    place = (500.0, 900.0, 1775.0)
    aim = Aim.over(frame, place)
    assert aim.position_nm == place
    assert aim.nm_per_pixel < 4


@pytest.mark.parametrize("position", [(1200.0, 1500.0, 1700.0), (0.0, 0.0, 0.0), (1e7, 1e7, 1e7)])
def test_contrast_comes_from_the_data_wherever_one_looks(
    finished_run: Path, position: tuple[float, float, float]
) -> None:
    low, high = measured_contrast(open_layer(finished_run / "image"), position)
    assert 20 <= low < 70
    assert 190 < high <= 200
