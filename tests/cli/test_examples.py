"""The scripts that people start from run as they are, and say what is so."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cnapse
from cnapse.volumes.writer import create_layer

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
Example = Callable[..., str]


@pytest.fixture(scope="module")
def config(tissue, tmp_path_factory, run_here) -> Path:
    """A finished run with an image that is linear in x and y: interpolation is exact in it."""
    folder = tmp_path_factory.mktemp("examples")
    x, y, _ = np.indices(tissue.box.shape)
    writer = create_layer(
        folder / "image", kind="image", dtype="uint16", bounds=tissue.box, chunk_size=(32, 32, 4)
    )
    writer.write(np.asfortranarray(100 + 2 * x + 3 * y).astype(np.uint16), tissue.box)
    file = folder / "cnapse.toml"
    file.write_text(
        f'output = "out"\nresolution = [4, 4, 50]\n[layers]\nimage = "image"\n'
        f'probability = "{tissue.folder}/probability"\ncells = "{tissue.folder}/cells"\n'
        "[label]\nmin_voxels = 5\n[pyramid]\nlevels = 0\n"
    )
    run_here(cnapse.load_config(file))
    return file


@pytest.fixture
def example(config, tmp_path, monkeypatch, capsys) -> Example:
    """Run a script in an empty folder; what it prints."""

    def run(name: str, *options: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, str(config), *map(str, options)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_cell(example, config, tmp_path) -> None:
    tables = cnapse.open_run(config)
    out = example("cell_synapses")
    cell = out.split(":")[0]
    made = (tables.synapses["pre"] == cell).sum()
    assert made == tables.synapses["pre"].value_counts().max()
    assert f"makes {made} synapses, receives {(tables.partners['post'] == cell).sum()}" in out
    example("cell_synapses", "--cell", cell, "--made", "--most", 1, "-o", "one.png")
    with Image.open(tmp_path / "cell_synapses.png") as many, Image.open("one.png") as one:
        assert one.width < many.width
    with pytest.raises(SystemExit, match="nothing to draw"):
        example("cell_synapses", "--cell", "nobody")


def test_profiles(example, config, tissue, tmp_path) -> None:
    example("cleft_profiles", "--reach", 60)
    table = pd.read_csv(tmp_path / "cleft_profiles.csv", index_col="nm")
    assert table.index[[0, -1]].tolist() == [-60, 60]
    assert len(table.columns) > 5
    pairs = cnapse.open_run(config).partners
    pairs.index = [f"{s}-{p}" for s, p in zip(pairs["syn_id"], pairs["post_id"], strict=True)]
    first, last = tissue.box.start_nm, np.array(tissue.box.stop_nm)
    for name, values in table.items():
        pair = pairs.loc[name]
        assert pair["z_pos"] == pair["post_z"]
        start, hit = (pair[[f"{a}x{b}", f"{a}y{b}"]].to_numpy(float) for a, b in
                      (("", "_pos"), ("post_", "")))  # fmt: skip
        along = (hit - start) / np.hypot(*(hit - start))
        points = hit + table.index.to_numpy()[:, None] * along
        inside = ((points > np.add(first[:2], 2)) & (points < last[:2] - 2)).all(axis=1)
        expected = 100 + (points - first[:2] - 2) @ [2 / 4, 3 / 4]
        np.testing.assert_allclose(values[inside], expected[inside], atol=0.06)
    assert (tmp_path / "cleft_profiles.png").stat().st_size > 10_000


def test_density(example, config, tissue, tmp_path) -> None:
    out = example("synapse_density", "--size", 0.2)
    table = pd.read_csv(tmp_path / "synapse_density.csv")
    places = cnapse.open_run(config).synapses[["x_pos", "y_pos", "z_pos"]].to_numpy() / 1000
    assert len(table) == 3 * 2 * 5
    assert table["synapses"].sum() == len(places)
    assert table["um3"].sum() == pytest.approx(0.6 * 0.44 * 1.0, rel=1e-3)
    row = table.loc[table["synapses"].idxmax()]
    low = row[["x_um", "y_um", "z_um"]].to_numpy(float)
    inside = ((places >= low - 1e-3) & (places < low + np.array([0.201, 0.221, 0.201]))).all(axis=1)
    assert row["synapses"] == inside.sum()
    assert row["per_um3"] == pytest.approx(row["synapses"] / row["um3"], rel=1e-2)
    assert f"{len(places)} synapses in 0.264 µm³" in out
    assert (tmp_path / "synapse_density.png").stat().st_size > 5_000
