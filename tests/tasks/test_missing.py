"""Chunks that are not there: an error, or counted and told."""

import shutil
from collections import deque

import pytest

from cnapse.errors import LayerNotFoundError
from cnapse_tasks.missing import KEY, missing_counts, missing_notes
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES


@pytest.fixture
def holed(tissue, tmp_path):
    """A probability of which two chunks are not there."""
    copy = tmp_path / "holed"
    shutil.copytree(tissue.folder / "probability", copy)
    for file in sorted((copy / "4_4_50").iterdir())[3:5]:
        file.unlink()
    return f"file://{copy}"


def test_it_is_an_error_by_default(tissue, tmp_path, holed) -> None:
    run = Run(tissue.config(tmp_path / "out", layers={"probability": holed}))
    stage = STAGES["label"].module
    message = r"chunk 4_4_50/\S+ is missing: .* fill_missing"
    with pytest.raises(LayerNotFoundError, match=message):
        deque((stage.execute(run, index) for index in stage.indices(run)), maxlen=0)


def test_they_are_counted_and_told(tissue, tmp_path, holed) -> None:
    layers = {"probability": {"path": holed, "fill_missing": True}}
    run = Run(tissue.config(tmp_path / "out", layers=layers, block=(64, 64, 8)))
    stage = STAGES["label"]
    ledger = stage.ledger(run)
    counts = []
    for index in stage.module.indices(run):
        facts = stage.module.execute(run, index)
        found = run.taken_missing()
        counts.append(found.get("probability", 0))
        ledger.record(index, "key", {**facts, **({KEY: found} if found else {})})
    # Blocks read a voxel more on their upper sides, so that some read the same chunk.
    assert sum(counts) >= 2
    assert 0 in counts
    assert run.taken_missing() == {}
    assert missing_counts(run) == {"probability": sum(counts)}
    assert missing_notes(run) == [
        (
            f"note: probability ({holed}): {sum(counts)} times a chunk was not there and counted "
            "as 0, since it has fill_missing"
        )
    ]
    whole = Run(tissue.config(tmp_path / "out"))
    assert missing_notes(whole) == []
