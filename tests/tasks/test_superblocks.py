"""Runs of many blocks: superblocks are joined first, and leave no trace."""

import pytest

from cnapse.errors import RunStateError
from cnapse_tasks import join, stitch
from cnapse_tasks.run import Run
from cnapse_tasks.stages import components_of, stages_of

LABELLING = ["label", "stitch", "relabel"]


def run_here(config, last: str) -> Run:
    """Do all stages up to one of them in this process."""
    run = Run(config)
    for stage in stages_of(run):
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)
        if stage.name == last:
            break
    return run


@pytest.fixture
def few_blocks_suffice(monkeypatch):
    """Superblocks of 2 x 2 x 2 blocks wherever there are more than 4 blocks."""
    monkeypatch.setattr(join, "_BLOCKS_PER_AXIS", 2)
    monkeypatch.setattr(join, "_MOST_BLOCKS", 4)


def test_superblocks_leave_no_trace(tissue, tmp_path, fingerprint, few_blocks_suffice) -> None:
    one = tissue.config(tmp_path / "one", block=(160, 128, 20))
    many = tissue.config(tmp_path / "many", block=(32, 32, 4))
    run = run_here(one, "relabel")
    assert [stage.name for stage in stages_of(run)][:3] == LABELLING
    run = run_here(many, "relabel")
    assert [stage.name for stage in stages_of(run)][:4] == ["label", "join", "stitch", "relabel"]
    assert len(join.grid_of(run)) == 3 * 2 * 3
    opened = [run.data("join").get_arrays(f"open/{i:012d}.st") for i in range(18)]
    assert sum(len(arrays["exit_keys"]) for arrays in opened) > 5
    assert fingerprint(many) == fingerprint(one)


def test_superblocks_and_limits_are_in_the_key(tissue, tmp_path, few_blocks_suffice) -> None:
    run = Run(tissue.config(tmp_path / "out", block=(32, 32, 4)))
    found = components_of(run)
    assert found["join"]["superblock"] == [64, 64, 8]
    assert found["join"]["min_voxels"] == 5
    assert set(found["stitch"]["upstream"]) == {"label", "join"}


def test_few_blocks_keep_the_keys_of_earlier_runs(tissue, tmp_path) -> None:
    found = components_of(Run(tissue.config(tmp_path / "out")))
    assert "join" not in found
    assert set(found["stitch"]["upstream"]) == {"label"}
    assert set(found["relabel"]["upstream"]) == {"label", "stitch"}


def test_lost_superblocks_are_named(tissue, tmp_path, few_blocks_suffice) -> None:
    run = run_here(tissue.config(tmp_path / "out", block=(32, 32, 4)), "stitch")
    run.data("stitch").delete(["open/000000000000.st"])
    with pytest.raises(
        RunStateError, match=r"stitch/data/open/000000000000\.st is not there: make"
    ):
        [stitch.mapping_of(run, index) for index in join.label.indices(run)]
    run.data("join").delete(["open/000000000002.st"])
    with pytest.raises(RunStateError, match=r"join/data/open/0+2\.st is not .*--from join --redo"):
        stitch.execute(run, 0)
