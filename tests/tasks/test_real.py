"""Real EM: from TIFF to tables. The data is not part of the project; see tests/conftest.py."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from cnapse.config import Config
from cnapse.geometry import Box
from cnapse.partners.assign import assign_many
from cnapse.partners.parameters import parameters_of
from cnapse.synapses.measure import measure
from cnapse.tables import read_table
from cnapse.volumes.ingest import IngestOptions, ingest, plan_ingest
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import open_source
from cnapse_tasks.driver import Options, run_stages

VNC_NM = (4.6, 4.6, 50.0)


@pytest.fixture(scope="module")
def vnc(shared_data, tmp_path_factory):
    """The VNC stack as layers, brought in from TIFF."""
    folder = tmp_path_factory.mktemp("vnc")
    for file, name, kind in (
        ("raw", "image", "image"),
        ("neurites_derived", "cells", "segmentation"),
        ("synapses", "drawn", "image"),
    ):
        source = open_source(shared_data / "vnc_sstem" / f"{file}.tif")
        options = IngestOptions(kind=kind, resolution=VNC_NM)
        ingest(plan_ingest(source, folder / name, options))
    return folder


def config_of(folder, output, layers, **changes) -> Config:
    values = {
        "output": f"file://{output}",
        "resolution": VNC_NM,
        "layers": layers,
        "label": {"min_voxels": 30},
    }
    return Config.from_dict(values | changes)


def test_hand_drawn_synapses_to_a_table(vnc, tmp_path) -> None:
    """They cover T-bar and cleft, where the derived neurites end: cells are grown over them."""
    layers = {
        "probability": f"file://{vnc}/drawn",
        "cells": {"path": f"file://{vnc}/cells", "grow_nm": 40},
    }
    label = {"binary": True, "min_voxels": 30}
    config = config_of(vnc, tmp_path / "out", layers, label=label)
    run_stages(config, Options(workers=2))
    synapses = read_table(f"{config.output}/tables/synapses")
    partners = read_table(f"{config.output}/tables/partners")
    drawn = open_layer(vnc / "drawn", mip=0)
    whole = ndimage.label(drawn.read(drawn.bounds) > 0, np.ones((3, 3, 3)))[0]
    large = np.bincount(whole.ravel())[1:] >= 30
    assert len(synapses) == large.sum() > 25
    assert (synapses["pre_id"] > 0).all()
    assert synapses["mean_probability"].isna().all()
    assert (synapses["n_partners"] > 0).mean() > 0.9
    assert len(partners) == synapses["n_partners"].sum()


def test_without_growing_nothing_lies_under_them(vnc, tmp_path) -> None:
    layers = {"probability": f"file://{vnc}/drawn", "cells": f"file://{vnc}/cells"}
    config = config_of(vnc, tmp_path / "out", layers, label={"binary": True})
    run_stages(config, Options(workers=1))
    synapses = read_table(f"{config.output}/tables/synapses")
    assert (synapses["flags"] & 1 == 1).all()
    assert len(read_table(f"{config.output}/tables/partners")) == 0


def test_detection_and_all_that_follows(vnc, tmp_path) -> None:
    """The shipped weights have never seen real EM: that it runs is all that is asked of them."""
    layers = {"image": f"file://{vnc}/image", "cells": f"file://{vnc}/cells"}
    detect = {"model": "phantom"}
    bounds = {"start": (100, 150, 3), "stop": (500, 600, 9)}
    config = config_of(vnc, tmp_path / "out", layers, detect=detect, bounds=bounds)
    run_stages(config, Options(workers=2))
    layer = open_layer(f"{config.output}/probability", mip=0)
    inside = Box(bounds["start"], bounds["stop"], VNC_NM)
    probability = layer.read(layer.bounds)
    assert layer.bounds.shape == (640, 1024, 20)
    assert probability[inside.slices(layer.bounds)].any()
    probability[inside.slices(layer.bounds)] = 0
    assert not probability.any()
    synapses = read_table(f"{config.output}/tables/synapses")
    partners = read_table(f"{config.output}/tables/partners")
    assert set(partners["syn_id"]) <= set(synapses["syn_id"])


def test_touching_cells_with_densities_on_their_contacts(shared_data) -> None:
    """FIB-25: labels touch. Active zones are put on real contacts, so the partner is known."""
    cells = tifffile.imread(shared_data / "fib25" / "neurons.tif").T.astype(np.uint64)
    box = Box.from_shape(cells.shape, (10, 10, 10))
    sites = _flat_contacts(cells, radius=9)
    assert len(sites) >= 15
    densities = np.zeros_like(cells)
    for number, (mask, place, _, _) in enumerate(sites, start=1):
        densities[place][mask] = number
    table = measure(densities, cells, box)
    rows, per_synapse = assign_many(densities, cells, box, table, parameters_of("cnapse"))
    assert (per_synapse["emitters"] > 0).all()
    for number, (_, _, pre, post) in enumerate(sites, start=1):
        assert table["pre_id"][number - 1] == pre
        own = rows[rows["syn_id"] == number]
        assert own["post_id"].tolist() == [post]
    # Where cells touch there is no extracellular space to release transmitter into.
    _, none = assign_many(densities, cells, box, table, parameters_of("witvliet", padding_nm=100))
    assert (none["flags"] & 2 == 2).all()


def _flat_contacts(cells: np.ndarray, radius: int) -> list[tuple]:
    """Places where a ball holds two cells only, and the density in one of them."""
    rng = np.random.default_rng(1)
    here, there = cells[:-1], cells[1:]
    contact = np.argwhere((here != there) & (here > 0) & (there > 0))
    inside = (contact > radius).all(axis=1) & (contact < np.array(cells.shape) - radius - 1).all(1)
    contact = rng.permutation(contact[inside])
    grid = np.stack(np.mgrid[tuple(slice(-radius, radius + 1) for _ in range(3))], -1)
    away = np.sqrt((grid**2).sum(-1))
    sites, taken = [], []
    for centre in contact[:6000]:
        if any(np.abs(centre - other).max() < 2 * radius for other in taken):
            continue
        place = tuple(slice(c - radius, c + radius + 1) for c in centre)
        around = cells[place]
        pre, post = cells[tuple(centre)], cells[centre[0] + 1, centre[1], centre[2]]
        if set(np.unique(around[away <= radius]).tolist()) - {0} != {pre, post}:
            continue
        mask = (around == pre) & (away <= 3)
        if mask.sum() < 20:
            continue
        taken.append(centre)
        sites.append((mask, place, pre, post))
        if len(sites) == 25:
            break
    return sites


def test_the_table_of_real_contacts_is_stable(vnc) -> None:
    """The same rows from a part of the volume as from all of it."""
    drawn, cells = (open_layer(vnc / name, mip=0) for name in ("drawn", "cells"))
    labels = ndimage.label(drawn.read(drawn.bounds) > 0, np.ones((3, 3, 3)))[0].astype(np.uint64)
    box = drawn.bounds
    body = cells.read(box)
    body[labels > 0] = 1  # a presynaptic cell for the purpose
    table = measure(labels, body, box)
    how = parameters_of("cnapse", particles=100)
    rows, _ = assign_many(labels, body, box, table, how)
    half = table[table["stop_x"] < 400]
    part = Box(box.start, (500, *box.stop[1:]), box.resolution)
    cut = part.slices(box)
    again, _ = assign_many(labels[cut], body[cut], part, half, how, bounds=box)
    expected = rows[rows["syn_id"].isin(half["syn_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, expected)
