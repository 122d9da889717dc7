"""Measuring a machine on a piece of the run's own layers."""

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnapse.config import Config
from cnapse.errors import FormatError, RunStateError
from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer
from cnapse_tasks.planning import cache, calibration
from cnapse_tasks.planning.calibration import calibrate
from cnapse_tasks.planning.loads import load_of
from cnapse_tasks.planning.rates import Rates, reference
from cnapse_tasks.planning.tissue import USUAL
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of


@pytest.fixture(scope="module")
def measured(tissue, tmp_path_factory) -> tuple[Config, Rates]:
    config = tissue.config(tmp_path_factory.mktemp("calibrated") / "out")
    return config, calibrate(config, seconds=0.1)


def test_every_unit_of_the_run_has_a_rate(measured) -> None:
    config, rates = measured
    run = Run(config)
    for stage in stages_of(run):
        for unit in set(load_of(stage, run, USUAL).work) - {"task"}:
            # Of tables a sample has too few rows: those rates are the developers'.
            name = f"{stage.name}.{unit}"
            assert name in rates.rates or (unit == "synapse" and name in reference().rates)
    assert {"task", "start", "assign.synapse"} <= set(rates.rates)
    assert all(0 <= rate.low <= rate.seconds <= rate.high for rate in rates.rates.values())
    assert all(rate.low > 0 for name, rate in rates.rates.items() if not name.endswith(".first"))
    assert rates.host == socket.gethostname()


def test_the_run_itself_is_not_touched(measured) -> None:
    config, _ = measured
    assert not Path(config.output.removeprefix("file://")).exists()


def test_the_sample_tells_what_synapses_there_are(measured, tmp_path) -> None:
    """The whole tissue is smaller than a sample: it must find what a run finds."""
    config, rates = measured
    run = Run(config.model_copy(update={"output": f"file://{tmp_path}/run"}))
    for stage in stages_of(run):
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)
    um3 = run.region.voxels * run.region.voxel_volume_nm3 / 1e9
    assert rates.tissue is not None
    assert rates.tissue.density_um3 == pytest.approx(len(run.synapses) / um3)
    assert rates.tissue.low < rates.tissue.density_um3 < rates.tissue.high
    assert rates.tissue.partners == pytest.approx(len(run.partners) / len(run.synapses))
    assert rates.stored["probability"] == 1.0
    assert 0 < rates.stored["synapses.gz"] < rates.stored["synapses"] < 1


def test_a_calibration_is_kept_by_parameters(measured, tissue, tmp_path, monkeypatch) -> None:
    config, rates = measured
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.kept(config) is None
    path = cache.keep(config, rates)
    assert socket.gethostname() in path.name
    assert cache.kept(config) == rates
    elsewhere = config.model_copy(update={"output": "file:///other", "names": "file:///n.csv"})
    assert cache.kept(elsewhere) == rates
    assert cache.kept(tissue.config(tmp_path / "out", assign={"method": "montecarlo"})) is None
    path.write_text("{}")
    with pytest.raises(FormatError, match=r"is no calibration .*: delete it, or measure anew"):
        cache.kept(config)


def test_what_was_not_measured_comes_from_the_developers(measured) -> None:
    _, rates = measured
    both = rates.over(reference())
    assert both.host == rates.host
    assert both.rates["label.voxel"] == rates.rates["label.voxel"]
    assert both.rates["detect.pixel"] == reference().rates["detect.pixel"]
    assert reference().tissue is None
    assert replace(both, tissue=None).tissue is None


def test_a_sample_lies_where_something_is(tmp_path) -> None:
    box = Box.from_shape((256, 256, 8), (4, 4, 50))
    array = np.zeros(box.shape, np.uint8, order="F")
    array[140:, 140:] = 9
    for name, content in (("there", array), ("nothing", np.zeros_like(array))):
        create_layer(
            tmp_path / name, kind="image", dtype="uint8", bounds=box, chunk_size=(64, 64, 8)
        ).write(content, box)

    def of(name: str) -> Run:
        values = {
            "output": f"file://{tmp_path}/run",
            "resolution": (4, 4, 50),
            "layers": {"probability": f"file://{tmp_path}/{name}"},
        }
        return Run(Config.from_dict(values))

    found = calibration.choose_box(of("there"), (64, 64, 8))
    assert array[found.slices(box)].any()
    with pytest.raises(RunStateError, match=r"nothing to measure: .*/nothing has only zeros at 27"):
        calibration.choose_box(of("nothing"), (64, 64, 8))
