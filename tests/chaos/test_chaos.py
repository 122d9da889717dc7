"""All stages under faults and kills: what is left is that of a quiet run. One seed of many."""

import itertools
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def lab(chaos, tmp_path_factory):
    """Four blocks a stage, and the undisturbed run; without detection, which loads torch."""
    tissue = chaos.Tissue(shape=(112, 64, 12), densities=14, detect=False)
    with chaos.Lab(tmp_path_factory.mktemp("lab"), tissue) as lab:
        assert lab.make_reference_on_disk() >= 20
        yield lab


def test_a_run_under_faults_leaves_what_a_quiet_one_leaves(lab, chaos, faults) -> None:
    rates = faults.Rates(twice_every=5)
    plan = chaos.Plan(7, workers=2, kill_every=(4, 7), driver_kills=1, rates=rates, seconds=200)
    outcome = lab.disturb(plan)
    assert outcome.problems == []
    assert outcome.notes == []
    assert outcome.tasks == lab.tasks
    assert outcome.objects == len(lab.reference) >= 10
    assert outcome.faults["worker killed"] >= 1
    assert outcome.faults["driver killed"] == 1
    assert outcome.faults["delivered twice"] >= 3
    refused = sum(outcome.faults[kind] for kind in ("500", "503", "SlowDown"))
    assert refused >= 5


def test_what_differs_is_told(moto) -> None:
    expected = {"a": b"1", "b": b"2", "c": b"3"}
    found = {"b": b"2", "c": b"4", "d": b"5"}
    assert moto.differences(expected, expected) == []
    assert moto.differences(expected, found) == ["differs: c", "missing: a", "not expected: d"]


def test_a_kill_is_due_by_tasks_and_hits_who_asks(chaos, faults) -> None:
    """So work always goes on, wherever in a task the kill falls."""

    class Process:
        def __init__(self) -> None:
            self.killed_at: list[int] = []

        def poll(self) -> None:
            return None

        def kill(self) -> None:
            self.killed_at.append(len(killer.complete))

    killer = chaos._Killer(chaos.Plan(3, kill_every=(4, 6), driver_kills=2), tasks=400)
    names = ("driver-0", "worker-0", "worker-1")
    killer.processes = {name: Process() for name in names}
    for n in range(4000):
        path = f"/b/out/.cnapse/label/done/000000/{n // 10:012d}.json"
        method, path = ("PUT", path) if n % 10 == 0 else ("GET", "/b/x")
        killer.watch(faults.Seen(names[n % 3], method, path))
    assert len(killer.complete) == 400
    killed = {name: process.killed_at for name, process in killer.processes.items()}
    assert killer.kills == Counter({"worker killed": len(killed["worker-0"] + killed["worker-1"]),
                                    "driver killed": 2})  # fmt: skip
    workers = sorted(killed["worker-0"] + killed["worker-1"])
    assert min(len(killed["worker-0"]), len(killed["worker-1"])) > 10
    apart = [b - a for a, b in itertools.pairwise(workers)]
    assert min(apart) >= 4
    assert max(apart) <= 6 + 5
