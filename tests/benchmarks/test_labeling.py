"""The records that the stitching benchmark makes are what they say they are."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cnapse_tasks import join, label, stitch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in ("_stitching", "_open_groups"):
        sys.modules.pop(name, None)


def test_records_hold_the_equivalences_that_igneous_is_given(bench, tmp_path, monkeypatch) -> None:
    records = bench("_stitching")
    size = records.Size((3, 2, 2), 600, 100)
    objects, pairs = records.write_records(tmp_path, size)
    assert objects >= 600
    assert pairs >= 100
    run = records.prepare(tmp_path, size)
    monkeypatch.setattr(join, "_BLOCKS_PER_AXIS", 2)
    monkeypatch.setattr(join, "_MOST_BLOCKS", 4)
    for index in join.indices(run):
        join.execute(run, index)
    stitch.execute(run, 0)
    ours = {}
    for index in label.indices(run):
        labels, ids = stitch.mapping_of(run, index)
        known = (labels + index * records.igneous_offset()).tolist()
        ours |= dict(zip(known, ids.tolist(), strict=True))
    theirs: dict[int, int] = {}
    for file in (tmp_path / "probability").rglob("*.json"):
        theirs |= {int(k): v for k, v in json.loads(file.read_text()).items() if int(k) != v}
    assert len(theirs) == pairs
    number = {key: i for i, key in enumerate(sorted(ours))}
    edges = np.array([(number[a], number[b]) for a, b in theirs.items()]).T
    shape = (len(number),) * 2
    count, _ = connected_components(coo_matrix((np.ones(pairs), edges), shape), directed=False)
    assert all(ours[a] == ours[b] for a, b in theirs.items())
    assert len(set(ours.values())) == count


def test_open_groups_meet_each_other(bench, tmp_path) -> None:
    groups = bench("_open_groups")
    count, exits = groups.write_open_groups(tmp_path, (20_000, 9000, 3000))
    assert count == 2 * exits > 1000
    run = groups.prepare(tmp_path, (20_000, 9000, 3000))
    assert stitch.execute(run, 0) == {"open": count}
    store = run.data("stitch")
    found = [store.get_arrays(f"open/{n}")["ids"] for n in store.names("open")]
    assert len(np.unique(np.concatenate(found))) == exits
