"""What a run's records tell of it."""

import pytest

from cnapse.tables import read_table
from cnapse_tasks import history
from cnapse_tasks.history import run_history
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of


def _ledger(run, name):
    return next(stage for stage in stages_of(run) if stage.name == name).ledger(run)


@pytest.fixture
def finished(tissue, tmp_path, run_here):
    config = tissue.config(tmp_path / "out")
    run_here(config)
    return Run(config)


def test_every_stage_with_its_tasks_times_and_counts(finished, monkeypatch):
    found = run_history(finished)
    assert [stage.name for stage in found.stages] == [s.name for s in stages_of(finished)]
    assert all(stage.complete and stage.sampled == stage.done for stage in found.stages)
    stages = {stage.name: stage for stage in found.stages}
    rows = len(read_table(f"{finished.config.output}/tables/partners"))
    assert stages["assign"].counts["rows"] == rows > 0
    assert stages["label"].done > 1
    for stage in found.stages:
        assert stage.key == _ledger(finished, stage.name).plan()["key"]
        assert stage.hosts
        assert stage.task_seconds >= 0
        assert stage.wall_seconds >= 0
        assert stage.parameters["stage"] == stage.name
    assert set(stages["label"].counts) <= {*history._COUNTED}

    # Of very many tasks a sample is read, and scaled up.
    monkeypatch.setattr(history, "_MOST_RECORDS", 2)
    sampled = {stage.name: stage for stage in run_history(finished).stages}["label"]
    assert sampled.sampled <= 2 < sampled.done == stages["label"].done
    assert sampled.total == stages["label"].total

    ledger = _ledger(finished, "gather")
    ledger.set_aside(0, "disk <full>")
    ledger.forget([0])
    broken = {stage.name: stage for stage in run_history(finished).stages}["gather"]
    assert broken.set_aside == ("task 0: disk <full>",)
    assert (broken.complete, broken.done, broken.wall_seconds) == (False, 0, None)


def test_a_run_that_has_not_begun(tissue, tmp_path):
    assert run_history(Run(tissue.config(tmp_path / "out"))).stages == ()
