import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_vnc", BENCHMARKS / "train_vnc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("count", [2, 3, 5])
def test_strips_cover_all_and_keep_away_from_what_is_learned(script, count):
    config = script.load_train_config(script.RECIPE)
    held = []
    for fold, rows in script.folds(config, count):
        *learned, judged = fold.layers
        assert judged.validation
        assert not judged.auxiliary
        assert (rows.start, rows.stop) == (judged.start[1], judged.stop[1])
        held += range(rows.start, rows.stop)
        for part in learned:
            assert part.auxiliary
            assert not part.validation
            assert max(part.start[1] - judged.stop[1], judged.start[1] - part.stop[1]) == 32
    assert held == list(range(1024))
    assert len({fold.output for fold, _ in script.folds(config, count)}) == count
