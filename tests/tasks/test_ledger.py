"""Records: checksums, folders, claims; and what is awaited, at any number of tasks."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ConfigError, StorageError
from cnapse.store import Store
from cnapse_tasks.claims import taken_seconds
from cnapse_tasks.entrance import one_at_a_time
from cnapse_tasks.failures import Kind, kind_of, tries_of, wait_seconds
from cnapse_tasks.ledger import Ledger, folders_of
from cnapse_tasks.pending import Pending


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(Store(tmp_path), "label")


def record_file(tmp_path, index):
    return tmp_path / f"label/done/{index // 1000:09d}/{index:012d}.json"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "binary", "other"])
def test_a_damaged_record_is_not_done(ledger, tmp_path, damage, caplog) -> None:
    for index in (0, 1, 1001):
        ledger.record(index, "k", {"labels": 3})
    path = record_file(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-20],
            "flipped": whole.replace(b'"labels": 3', b'"labels": 2'),
            "empty": b"",
            "binary": b"\xff\x00" + whole,
            "other": json.dumps([1]).encode(),
        }[damage]
    )
    pending = Pending(ledger, range(1500))
    pending.verify("k")
    assert pending.done == 2
    assert ledger.done() == {0, 1001}
    assert "damaged" in caplog.text


def test_a_record_of_another_key_is_not_done(ledger) -> None:
    ledger.record(0, "old", {})
    ledger.record(1, "new", {})
    assert ledger.whole(0, "new") == [1]
    assert ledger.done() == {1}


def test_a_damaged_plan_counts_as_none(ledger, tmp_path) -> None:
    making = ledger.open("k", {"a": 1}, {"threshold": 0.5})
    assert ledger.open("k", {"a": 1}, {"threshold": 0.5}) == making
    path = tmp_path / "label/stage.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    assert ledger.plan() is None
    assert ledger.open("k", {"a": 1}, {"threshold": 0.5}) != making


def test_folders_of_a_range_are_not_searched_task_by_task() -> None:
    assert list(folders_of(range(10**15, 10**15 + 2001))) == [10**12, 10**12 + 1, 10**12 + 2]
    assert list(folders_of([3, 999, 1000, 5_000_000])) == [0, 1, 5000]
    assert list(folders_of(range(0))) == []


@settings(max_examples=25, deadline=None)
@given(
    indices=st.one_of(
        st.integers(0, 3000).map(range),
        st.sets(st.integers(0, 9000), max_size=60).map(sorted),
    ),
    data=st.data(),
)
def test_pending_is_the_difference_of_sets(indices, data, tmp_path_factory) -> None:
    """Against plain sets, which is what it replaces."""
    ledger = Ledger(Store(tmp_path_factory.mktemp("p")), "label")
    pending = Pending(ledger, indices)
    some = st.sets(st.sampled_from(list(indices) or [0]), max_size=8)
    done = data.draw(some) & set(indices)
    aside = data.draw(some) & set(indices)
    for index in done:
        ledger.record(index, "k", {})
    for index in aside:
        ledger.set_aside(index, "no")
    sent = []
    while batch := pending.unsent(700):
        sent += batch
    assert sent == list(indices)
    pending.refresh()
    assert pending.done == len(done)
    assert pending.left == len(set(indices) - done - aside)
    assert set(pending.failures) == aside
    lost = data.draw(some) & set(indices)
    assert pending.lost(lost) == len(lost - done - aside)
    assert set(pending.unsent(10**6)) == lost - done - aside
    assert ledger.retry() == len(aside)
    pending.refresh()
    assert set(pending.unsent(10**6)) == aside - done
    assert pending.in_flight == len(set(indices) - done)


def test_a_million_tasks_are_a_few_megabytes(ledger) -> None:
    import tracemalloc

    tracemalloc.start()
    pending = Pending(ledger, range(1_000_000))
    batch = pending.unsent(2000)
    pending.refresh()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch == list(range(2000))
    assert pending.left == 1_000_000
    assert peak < 20e6


def test_a_task_is_left_to_who_is_at_it(ledger) -> None:
    ledger.begin(3, 60)
    note = ledger.note(3)
    assert taken_seconds(note) == 0  # this process itself
    elsewhere = note | {"host": "elsewhere"}
    assert 0 < taken_seconds(elsewhere) <= 60
    assert taken_seconds(elsewhere | {"until": time.time() - 1}) == 0
    assert ledger.at_hand() == [3]
    with subprocess.Popen(["sleep", "60"]) as other:
        mine = note | {"host": socket.gethostname(), "pid": other.pid}
        assert taken_seconds(mine) > 0
        other.kill()
    assert taken_seconds(mine) == 0


def test_passing_faults_are_told_from_lasting_ones() -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    def answer(status, code):
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return ClientError(response, "GetObject")

    wrapped = StorageError("cannot")
    wrapped.__cause__ = answer(503, "SlowDown")
    for error, kind in (
        (ConnectionResetError(104, "reset"), Kind.TRANSIENT),
        (TimeoutError(), Kind.TRANSIENT),
        (OSError(5, "I/O error"), Kind.TRANSIENT),
        (answer(503, "SlowDown"), Kind.TRANSIENT),
        (answer(400, "RequestTimeout"), Kind.TRANSIENT),
        (EndpointConnectionError(endpoint_url="http://x"), Kind.TRANSIENT),
        (wrapped, Kind.TRANSIENT),
        (MemoryError(), Kind.MEMORY),
        (np.exceptions.AxisError(3, 2), Kind.UNKNOWN),
        (ValueError("cut short"), Kind.UNKNOWN),
        (answer(403, "AccessDenied"), Kind.PERMANENT),
        (PermissionError(13, "denied"), Kind.PERMANENT),
        (OSError(28, "no space"), Kind.PERMANENT),
        (ConfigError("wrong"), Kind.PERMANENT),
    ):
        assert kind_of(error) is kind, error
    assert [tries_of(kind, 3) for kind in (Kind.PERMANENT, Kind.UNKNOWN, Kind.TRANSIENT)] == [
        1,
        3,
        9,
    ]
    assert wait_seconds(Kind.UNKNOWN, 2) == 0
    assert 4 <= wait_seconds(Kind.TRANSIENT, 3) <= 8
    assert wait_seconds(Kind.TRANSIENT, 500) <= 60


def test_one_driver_at_a_time(tmp_path) -> None:
    """Four processes count in one file without losing any."""
    counter = tmp_path / "n"
    counter.write_text("0")
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from cnapse.store import Store\n"
        "from cnapse_tasks.entrance import one_at_a_time\n"
        "n = Path(sys.argv[2])\n"
        "for _ in range(3):\n"
        "    with one_at_a_time(Store(sys.argv[1])):\n"
        "        before = int(n.read_text())\n"
        "        time.sleep(0.02)\n"
        "        n.write_text(str(before + 1))\n"
    )
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tasks'}"}
    command = [sys.executable, "-c", script, str(tmp_path / "s"), str(counter)]
    running = [subprocess.Popen(command, env=env) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert counter.read_text() == "9"


def test_a_killed_driver_holds_up_nobody(tmp_path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    store = Store(tmp_path)
    note = {"number": 1, "beat": 1, "pid": dead.pid, "host": socket.gethostname()}
    store.put_json("entrance/a.json", note)
    began = time.monotonic()
    with one_at_a_time(store):
        pass
    assert time.monotonic() - began < 20
