"""`cnapse evaluate` as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

PREDICTED = pd.DataFrame(
    {
        "syn_id": [1, 1, 2, 3],
        "pre_id": [10, 10, 11, 11],
        "post_id": [20, 21, 20, 22],
        "x_pos": [0.0, 0.0, 1000.0, 2000.0],
        "y_pos": 0.0,
        "z_pos": 0.0,
    }
)
# Found up to 250 nm away; the second has another presynaptic cell.
TRUE = PREDICTED.assign(syn_id=[5, 5, 6, 7], pre_id=[10, 10, 12, 11], x_pos=PREDICTED.x_pos + 250)


@pytest.fixture
def tables(tmp_path):
    PREDICTED.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "truth").mkdir()
    TRUE.to_csv(tmp_path / "truth/partners.csv", index=False)
    return tmp_path


def test_partners_at_the_usual_distances(cnapse, tables) -> None:
    code, out, err = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth", "--json", tables / "s.json"
    )
    assert code == 0, err
    assert "100 nm" in out
    scores = json.loads((tables / "s.json").read_text())
    found = {m["max_nm"]: m for m in scores["predicted"]["matchings"]}
    assert {nm: m["synapses"]["f1"] for nm, m in found.items()} == {100: 0, 200: 0, 300: 1, 400: 1}
    assert found[300]["partners"]["f1"] == 1
    assert found[300]["partners_combined"]["f1"] == 0.75
    assert found[300]["presynaptic_accuracy"] == 2 / 3
    assert scores["baseline"] is None
    assert scores["predicted"]["notes"][0] == (
        "error of shares left out: the predicted and true tables have no share"
    )


def test_partners_at_chosen_distances_with_a_baseline(cnapse, tables) -> None:
    PREDICTED[["syn_id", "post_id"]].assign(post_id=20).to_csv(tables / "area.csv", index=False)
    code, out, err = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth", "--distance", 249,
        "--distance", 251, "--baseline", tables / "area.csv", "--json", tables / "s.json",
    )  # fmt: skip
    assert code == 0, err
    (head,) = [line for line in out.splitlines() if line.startswith("matched within")]
    assert head.split()[2:] == ["249", "nm", "baseline", "251", "nm", "baseline"]
    scores = json.loads((tables / "s.json").read_text())
    assert [m["max_nm"] for m in scores["baseline"]["matchings"]] == [249, 251]
    # 20 is right at two synapses and wrong at the third; 21 and 22 are missed.
    area = scores["baseline"]["matchings"][1]["partners"]
    assert (area["precision"], area["recall"]) == (2 / 3, 1 / 2)


def test_a_baseline_of_other_synapses_has_its_own_matches(cnapse, tables) -> None:
    TRUE[:2].to_csv(tables / "other.csv", index=False)
    code, _, err = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth", "--distance", 10,
        "--baseline", tables / "other.csv", "--json", tables / "s.json",
    )  # fmt: skip
    assert code == 0, err
    scores = json.loads((tables / "s.json").read_text())
    assert scores["predicted"]["matchings"][0]["synapses"]["true_positives"] == 0
    assert scores["baseline"]["matchings"][0]["synapses"]["true_positives"] == 1


@pytest.fixture
def layers(tmp_path):
    """Objects 1, 2, 3 as predicted; of the true 5, 6, 7 the last is elsewhere."""
    box = Box((0, 0, 0), (64, 32, 8), (4, 4, 50))
    for name, ids, starts in (("mine", (1, 2, 3), (0, 20, 40)), ("true", (5, 6, 7), (0, 21, 50))):
        labels = np.zeros(box.shape, np.uint64, order="F")
        for i, start in zip(ids, starts, strict=True):
            labels[start : start + 8, :8, :4] = i
        layer = create_layer(
            tmp_path / name,
            kind="segmentation",
            dtype="uint64",
            bounds=box,
            chunk_size=(32, 32, 8),
        )
        layer.write(labels, box)
    return tmp_path


def test_partners_by_overlap(cnapse, tables, layers) -> None:
    code, out, err = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth",
        "--objects", layers / "true", "--predicted-objects", layers / "mine",
        "--min-iou", 0.5, "--json", tables / "s.json",
    )  # fmt: skip
    assert code == 0, err
    assert "IoU 0.5" in out
    assert " nm  " not in out.split("edges")[0]
    (one,) = json.loads((tables / "s.json").read_text())["predicted"]["matchings"]
    assert (one["by"], one["min_iou"]) == ("overlap", 0.5)
    assert one["synapses"]["true_positives"] == 2
    assert one["partners_combined"]["true_positives"] == 2
    code, out, _ = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth", "--distance", 300,
        "--objects", layers / "true", "--predicted-objects", layers / "mine",
    )  # fmt: skip
    assert out.index("IoU 0.1") < out.index("300 nm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{t}/none", "{t}/truth"], "cnapse: no predicted table at "),
        (["{t}/mine.csv", "{t}/none.csv"], "none.csv is not there"),
        (
            ["{t}/mine.csv", "{t}/truth", "--distance", "-5"],
            "cnapse: the largest distance of a match must be positive, not -5.0 nm",
        ),
        (
            ["{t}/mine.csv", "{t}/truth", "--objects", "x"],
            "cnapse: --objects needs the predicted layer: give --predicted-objects, or a cnapse",
        ),
        (
            ["{t}/mine.csv", "{t}/truth", "--predicted-objects", "x"],
            "cnapse: --predicted-objects without --objects: give the true layer, too",
        ),
        (
            ["{t}/bare.csv", "{t}/truth"],
            "cnapse: the predicted table has no columns x_pos, y_pos, z_pos: synapses match by",
        ),
    ],
)
def test_errors_are_one_line(cnapse, tables, arguments, message) -> None:
    PREDICTED[["syn_id", "post_id"]].to_csv(tables / "bare.csv", index=False)
    code, _, err = cnapse("evaluate", "partners", *(a.format(t=tables) for a in arguments))
    assert code == 1
    assert message in err
    assert "\n" not in err


def test_a_baseline_of_other_synapses_does_not_overlap(cnapse, tables, layers) -> None:
    TRUE.to_csv(tables / "other.csv", index=False)
    code, _, err = cnapse(
        "evaluate", "partners", tables / "mine.csv", tables / "truth", "--baseline",
        tables / "other.csv", "--objects", layers / "true", "--predicted-objects", layers / "mine",
    )  # fmt: skip
    assert code == 1
    assert "other.csv has other synapses than the predicted ones: it can be matched by" in err


def test_without_a_subcommand_it_is_a_run(cnapse, tmp_path) -> None:
    """As it was called before there were subcommands."""
    for arguments in (["none.toml"], ["--truth", tmp_path, "none.toml"], ["run", "none.toml"]):
        code, _, err = cnapse("evaluate", *arguments)
        assert (code, err) == (1, "cnapse: none.toml: no such configuration file")
    code, _, err = cnapse("evaluate", "detecton")
    assert code == 2
    assert "No such command 'detecton'. Did you mean 'detection'?" in err
    code, out, _ = cnapse("evaluate", "--help")
    assert code == 0
    assert "\n  run " in out
    assert "\n  partners " in out
    code, out, _ = cnapse("evaluate", "partners", "--help")
    assert "docs/evaluation.md" in out
