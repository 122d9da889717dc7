"""`cnapse evaluate detection` and `search`, and `cnapse groundtruth`, as a user meets them."""

from __future__ import annotations

import json
import tomllib

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile

from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.0, 40.0)
SHAPE = (64, 64, 8)


def layer(path, kind: str, array: np.ndarray) -> None:
    box = Box.from_shape(array.shape, NM)
    writer = create_layer(path, kind=kind, dtype=array.dtype, bounds=box, chunk_size=(32, 32, 8))
    writer.write(np.asfortranarray(array), box)


@pytest.fixture
def volumes(tmp_path):
    truth = np.zeros(SHAPE, np.uint32)
    truth[4:14, 4:14, 2:5], truth[40:50, 40:50, 1:4] = 1, 2
    levels = np.zeros(SHAPE, np.uint8)
    levels[4:14, 4:14, 2:5] = 200
    levels[30:33, 5:8, 6] = 120
    layer(tmp_path / "truth", "segmentation", truth)
    layer(tmp_path / "map", "image", levels)
    with h5py.File(tmp_path / "map.h5", "w") as file:
        file["main"] = (levels / 255).T.astype(np.float32)
    tifffile.imwrite(tmp_path / "truth.tif", (truth > 0).astype(np.uint8).T * 255)
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "em.tif", rng.integers(0, 255, SHAPE[::-1]).astype(np.uint8))
    (tmp_path / "cnapse.toml").write_text(
        'output = "run"  # here\nresolution = [4, 4, 40]\n'
        '[layers]\nprobability = "map"\n[label]\nthreshold = 0.6  # mine\n'
    )
    return tmp_path


def test_layers_files_and_a_run_score_the_same(cnapse, volumes) -> None:
    scores = []
    for predicted, truth in (
        (volumes / "map", volumes / "truth"),
        (f"{volumes}/map.h5", volumes / "truth.tif"),
        (volumes / "cnapse.toml", volumes / "truth"),
    ):
        by_hand = ("--resolution", *NM) if str(predicted).endswith("h5") else ()
        threshold = () if str(predicted).endswith("toml") else ("--threshold", 0.6)
        code, out, err = cnapse(
            "evaluate", "detection", predicted, truth, *by_hand, *threshold,
            "--json", volumes / "s.json",
        )  # fmt: skip
        assert code == 0, err
        scores.append(json.loads((volumes / "s.json").read_text()))
    assert scores[0] == scores[1] == scores[2]
    assert "64 x 64 x 8 voxels" in out
    by_overlap = scores[0]["objects"][0]
    assert (by_overlap["true_positives"], by_overlap["false_negatives"]) == (1, 1)
    assert by_overlap["false_positives"] == 0
    assert scores[0]["voxels"]["precision"] == 1
    assert scores[0]["voxels"]["recall"] == 0.5
    assert [m.get("max_nm") for m in scores[0]["objects"]] == [None, 100, 300]


def test_pictures_and_the_sweep(cnapse, volumes) -> None:
    code, out, err = cnapse(
        "evaluate", "detection", volumes / "cnapse.toml", volumes / "truth", "--min-voxels", 2,
        "--curve", volumes / "c.png", "--gallery", volumes / "g.png", "--image",
        volumes / "em.tif", "--json", volumes / "s.json", "--distance", 50, "--size-bin", 100,
    )  # fmt: skip
    assert code == 0, err
    for name in ("c.png", "g.png"):
        assert (volumes / name).read_bytes().startswith(b"\x89PNG")
    sweep = json.loads((volumes / "s.json").read_text())["sweep"]
    assert [t["objects"]["false_positives"] for t in sweep] == [1] * 9 + [0] * 10
    assert [t["min_voxels"] for t in sweep] == [2] * 19
    assert "threshold   objects" in out


def test_a_sweep_of_a_run_has_its_sizes(cnapse, volumes) -> None:
    layer(volumes / "run/synapses", "segmentation", np.zeros(SHAPE, np.uint64))
    text = (volumes / "cnapse.toml").read_text()
    (volumes / "cnapse.toml").write_text(text + "min_voxels = 10\n")
    code, _, err = cnapse(
        "evaluate", "detection", volumes / "cnapse.toml", volumes / "truth", "--sweep",
        "--json", volumes / "s.json",
    )  # fmt: skip
    assert code == 0, err
    scores = json.loads((volumes / "s.json").read_text())
    assert scores["predicted_objects"] == 0, "the run's own objects"
    assert [t["objects"]["false_positives"] for t in scores["sweep"]] == [0] * 19
    assert {t["min_voxels"] for t in scores["sweep"]} == {10}


def test_the_search_is_written_where_asked(cnapse, volumes) -> None:
    arguments = ("evaluate", "search", volumes / "map", volumes / "truth", "--threshold", 0.3,
                 "--threshold", 0.6, "--min-voxels", 1, "--connectivity", 6)  # fmt: skip
    code, out, err = cnapse(*arguments)
    assert code == 0, err
    assert "2 trials" in out
    assert "[label]\nthreshold = 0.6\nconnectivity = 6\nmin_voxels = 1" in out
    code, out, err = cnapse(*arguments, "--write", volumes / "cnapse.toml")
    assert code == 0, err
    text = (volumes / "cnapse.toml").read_text()
    assert "# here" in text
    assert "threshold = 0.6  # mine" in text
    assert tomllib.loads(text)["label"] == {"threshold": 0.6, "connectivity": 6, "min_voxels": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("map.h5", "truth"), "does not tell its voxel size: give --resolution X Y Z in nm"),
        (("truth", "truth", "--sweep"), "is no probability: there is no threshold to try"),
        (("map", "truth", "--image", "em.tif"), "--image is for the gallery: give --gallery"),
        (("map", "truth", "--border", "9", "9", "9"), "leaves nothing of"),
        (("cnapse.toml", "truth", "--kind", "mask"), "leave out --kind and --resolution"),
        (("map", "truth", "--start", "0", "0", "0"), "give both --start and --stop, or neither"),
        (("map", "truth", "--connectivity", "4"), "connectivity must be 6, 18 or 26, not 4"),
        (("map", "truth", "--distance", "0"), "distance of a match must be positive"),
        (("nowhere", "truth"), "nowhere"),
    ],
)
def test_mistakes_are_one_line(cnapse, volumes, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(volumes)
    code, _, err = cnapse("evaluate", "detection", *arguments)
    assert code != 0
    assert message in err
    assert "\n" not in err.strip()


def test_groundtruth_of_two(cnapse, volumes, monkeypatch) -> None:
    monkeypatch.chdir(volumes)
    code, out, err = cnapse(
        "groundtruth", "em.tif", "truth.tif", "truth", "-o", "gt.h5", "--resolution", *NM,
        "--patch", 40, "--overlap", 8, "--json", "a.json", "--ignore-disputed",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads((volumes / "a.json").read_text())["agreement"][0]["dice"] == 1
    assert "4 patches written to gt.h5, 2 of them with densities" in out
    table = pd.read_csv(volumes / "gt.csv")
    assert table["start_x"].tolist() == [0, 24, 0, 24]
    layers = tomllib.loads((volumes / "gt.toml").read_text())["layers"]
    assert layers[1]["labels"] == f"{volumes}/gt.h5:/patch_00001/label"
    again = cnapse("groundtruth", "em.tif", "truth.tif", "-o", "gt.h5", "--resolution", *NM)
    assert "gt.csv is there already" in again[2]
    code, out, err = cnapse(
        "groundtruth", "em.tif", "truth.tif", "-o", "folder", "--resolution", *NM,
        "--box", "0,0,0,32,32,8", "--box", "32,32,0,64,64,8", "--sections", "2,4-5",
        "--skip-empty",
    )  # fmt: skip
    assert code == 0, err
    assert "3 patches written to folder, 3 of them" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("truth.tif",), "one annotator has nobody to agree with"),
        (("truth.tif", "truth", "--box", "0,0,0,65,9,8"), "reaches out of what the volumes share"),
        (("truth.tif", "-o", "x", "--sections", "20"), "no patch is left"),
        (("truth.tif", "truth", "-o", "x", "--merge", "majority"), "a majority of two annotators"),
    ],
)
def test_mistakes_of_groundtruth(cnapse, volumes, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(volumes)
    code, _, err = cnapse("groundtruth", "em.tif", *arguments, "--resolution", *NM)
    assert code != 0
    assert message in err
    assert not (volumes / "x").exists()
