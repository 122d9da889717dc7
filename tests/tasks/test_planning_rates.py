"""A plan can be made without a calibration: each stage has a rate that comes with cnapse."""

import pytest

from cnapse_tasks.planning.loads import load_of
from cnapse_tasks.planning.rates import reference
from cnapse_tasks.planning.tissue import USUAL
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, stages_of


@pytest.mark.parametrize("first", ["image", "probability"])
def test_every_unit_of_work_has_a_rate(tissue, tmp_path, first) -> None:
    layers = {"cells": f"file://{tissue.folder}/cells"}
    layers[first] = f"file://{tissue.folder}/probability"
    config = tissue.config(
        tmp_path / "out", layers=layers, detect={"model": "phantom"} if first == "image" else {},
        meshes={"skeletons": True}, storage={"sharded": True},
    )  # fmt: skip
    run = Run(config)
    rates = reference().rates
    for stage in stages_of(run):
        units = set(load_of(stage, run, USUAL).work) - {"task"}
        assert units or stage.name == "pyramid", stage.name
        assert {f"{stage.name}.{unit}" for unit in units} <= rates.keys()


def test_no_stage_is_left_out() -> None:
    named = {name.partition(".")[0] for name in reference().rates}
    assert set(STAGES) <= named
