"""Tries, leases, signals and records round python-task-queue."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnapse.config import Config
from cnapse.errors import BoundsError, ConfigError
from cnapse_tasks import stages, worker
from cnapse_tasks.ledger import Ledger, describe_changes, stage_key
from cnapse_tasks.run import Run
from cnapse_tasks.worker import open_queue, run_task, work

ROOT = Path(__file__).parents[2]
KEY = "k"


class _Module:
    """A stage whose tasks do as they are told."""

    def __init__(self, act) -> None:
        self.act = act
        self.calls: list[int] = []

    def execute(self, run: Run, index: int) -> dict[str, object]:
        self.calls.append(index)
        self.act(index, len(self.calls))
        return {"voxels": 1}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A run whose stage `label` can be replaced, and its ledger."""
    worker._context.cache_clear()
    values = {
        "output": f"file://{tmp_path}/out",
        "resolution": (4, 4, 50),
        "layers": {"probability": f"file://{tmp_path}/p"},
    }
    config = Config.from_dict(values)
    ledger = Ledger(Run(config).store, "label")
    ledger.open(KEY, {}, config.model_dump(mode="json"))

    def with_act(act) -> _Module:
        module = _Module(act)
        monkeypatch.setattr(stages.Stage, "module", module)
        return module

    return config, ledger, with_act


def do(config: Config, index: int = 0, key: str = KEY) -> None:
    run_task(config.output, "label", index, key)


def test_a_done_task_is_not_done_again(stage) -> None:
    config, ledger, with_act = stage
    module = with_act(lambda index, call: None)
    do(config)
    do(config)
    assert module.calls == [0]
    record = ledger.store.get_json("done/000000000000.json")
    assert record["key"] == KEY
    assert record["voxels"] == 1
    assert ledger.store.names("tries") == []


def test_a_task_for_other_parameters_is_passed_over(stage) -> None:
    config, ledger, with_act = stage
    module = with_act(lambda index, call: None)
    do(config, key="older")
    assert module.calls == []
    assert ledger.done() == set()


def test_a_failing_task_is_tried_again_then_set_aside(stage) -> None:
    config, ledger, with_act = stage

    def fail(index, call):
        raise ValueError(f"no luck {call}")

    with_act(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            do(config, 7)
        assert ledger.aside() == []
    do(config, 7)
    (failure,) = ledger.aside()
    assert (failure.stage, failure.index, failure.tries) == ("label", 7, 3)
    assert failure.reason == "ValueError: no luck 3"
    assert "in fail" in failure.traceback
    assert ledger.done() == set()


def test_what_cnapse_says_itself_is_not_tried_again(stage) -> None:
    config, ledger, with_act = stage

    def fail(index, call):
        raise BoundsError("outside")

    module = with_act(fail)
    do(config)
    assert module.calls == [0]
    assert ledger.aside()[0].reason == "BoundsError: outside"


def test_a_task_that_kills_its_workers_is_set_aside(stage) -> None:
    config, ledger, with_act = stage

    def die(index, call):
        raise SystemExit

    with_act(die)
    for _ in range(9):
        with pytest.raises(SystemExit):
            do(config)
    do(config)
    assert "the worker died each time" in ledger.aside()[0].reason


def test_a_new_run_tries_anew(stage) -> None:
    config, ledger, with_act = stage
    test_what_cnapse_says_itself_is_not_tried_again(stage)
    ledger.open(KEY, {}, config.model_dump(mode="json"))
    assert ledger.aside() == []
    with_act(lambda index, call: None)
    do(config)
    assert ledger.done() == {0}


def test_the_lease_is_renewed_while_a_task_runs(stage, tmp_path) -> None:
    config, _, with_act = stage
    queue = open_queue(f"fq://{tmp_path}/q")
    queue.insert([functools.partial(run_task, config.output, "label", 0, KEY)])
    seen = []

    def slow(index, call):
        time.sleep(3.2)
        seen.append(queue.leased)

    with_act(slow)
    report = work(f"fq://{tmp_path}/q", lease_seconds=2, idle_seconds=0)
    assert seen == [1]
    assert report.executed == 1
    assert queue.enqueued == 0


def test_a_failed_task_goes_back_and_the_worker_goes_on(stage, tmp_path) -> None:
    config, ledger, with_act = stage
    queue = open_queue(f"fq://{tmp_path}/q")
    queue.insert([functools.partial(run_task, config.output, "label", i, KEY) for i in range(3)])

    def fail_once(index, call):
        if call == 1:
            raise OSError("passing")

    with_act(fail_once)
    report = work(f"fq://{tmp_path}/q", idle_seconds=2)
    assert (report.executed, report.failed) == (3, 1)
    assert ledger.done() == {0, 1, 2}


def test_sigterm_finishes_the_task_at_hand(tmp_path) -> None:
    """A worker of its own: the signal comes in the middle of its task."""
    script = tmp_path / "w.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from taskqueue import queueable, TaskQueue\n"
        "from functools import partial\n"
        "import cnapse_tasks.worker as w\n"
        "@queueable\n"
        "def slow(path):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "    open(path, 'a').write('x')\n"
        "q = TaskQueue(sys.argv[1], progress=False)\n"
        "q.insert([partial(slow, sys.argv[2])] * 2)\n"
        "report = w.work(sys.argv[1])\n"
        "assert report.executed == 1, report\n"
        "assert q.enqueued == 1 and q.leased == 0\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))}
    command = [sys.executable, str(script), f"fq://{tmp_path}/q", str(tmp_path / "out")]
    subprocess.run(command, check=True, env=env, timeout=60)
    assert (tmp_path / "out").read_text() == "x"


def test_signal_handlers_are_put_back(tmp_path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    work(f"fq://{tmp_path}/q", idle_seconds=0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_queues_are_named(tmp_path) -> None:
    for url in ("nowhere", "ftp://x/y"):
        with pytest.raises(ConfigError, match="is no queue: give fq://FOLDER or sqs://NAME"):
            open_queue(url)


def test_foreign_tasks_are_refused_and_stay(tmp_path) -> None:
    queue = open_queue(f"fq://{tmp_path}/q")
    queue.api.insert({"payload": [["os", "system"], ["true"], {}, -1], "queueName": "q"})
    with pytest.raises(ConfigError, match="not cnapse's"):
        work(f"fq://{tmp_path}/q", idle_seconds=0)
    assert queue.enqueued == 1
    queue.purge()
    queue.api.insert({"payload": "garbage", "queueName": "q"})
    with pytest.raises(ConfigError, match="holds a message that is no task"):
        work(f"fq://{tmp_path}/q", idle_seconds=0)


def test_keys_and_changes() -> None:
    a = {"threshold": 0.5, "block": [1, 2], "image": {"path": "x", "version": ""}}
    b = {"block": [1, 2], "image": {"path": "x", "version": "2"}, "threshold": 0.6}
    assert stage_key(a) == stage_key(dict(reversed(a.items())))
    assert stage_key(a) != stage_key(b)
    assert describe_changes(a, b, "label.") == [
        "label.image.version:  -> 2",
        "label.threshold: 0.5 -> 0.6",
    ]
