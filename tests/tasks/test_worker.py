"""Tries, leases, signals and records round python-task-queue."""

import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cnapse
from cnapse.config import Config
from cnapse.errors import BoundsError, ConfigError
from cnapse_tasks import logs, stages
from cnapse_tasks.ledger import Ledger, describe_changes, stage_key
from cnapse_tasks.run import Run
from cnapse_tasks.task import CANCELLED, Outcome, Result, forget_contexts, run_task
from cnapse_tasks.worker import open_queue, work

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
    forget_contexts()
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


def do(config: Config, index: int = 0, key: str = KEY) -> Result:
    return run_task(config.output, "label", index, key)


def test_a_done_task_is_not_done_again(stage) -> None:
    config, ledger, with_act = stage
    module = with_act(lambda index, call: None)
    do(config)
    do(config)
    assert module.calls == [0]
    record = ledger.store.get_json("done/000000000/000000000000.json")
    assert record["key"] == KEY
    assert record["voxels"] == 1
    assert ledger.store.names("tries") == []


@pytest.mark.parametrize("runs_kept", [0, 100])
def test_a_worker_of_another_algorithm_makes_nothing(stage, monkeypatch, runs_kept) -> None:
    """Else a cluster of two versions of cnapse would mix results under one key."""
    monkeypatch.setattr("cnapse_tasks.task._MOST_RUNS", runs_kept)
    config, ledger, with_act = stage
    module = with_act(lambda index, call: None)
    own = stages.STAGES["label"].version
    ledger.open(KEY, {"version": own + 1}, config.model_dump(mode="json"))
    assert do(config).outcome is Outcome.ASIDE
    assert not module.calls
    assert not ledger.done()
    (failure,) = ledger.aside()
    assert f"has version {own} of stage label, the run was begun with version" in failure.reason

    # The same cnapse everywhere, and another try.
    forget_contexts()
    ledger.open(KEY, {"version": own}, config.model_dump(mode="json"))
    assert do(config).outcome is Outcome.DONE
    assert ledger.record_of(0)["cnapse"] == cnapse.__version__


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
        result = do(config, 7)
        assert (result.outcome, result.wait) == (Outcome.AGAIN, 0)
        assert ledger.aside() == []
    assert do(config, 7).outcome == Outcome.ASIDE
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
            raise RuntimeError("passing")

    with_act(fail_once)
    report = work(f"fq://{tmp_path}/q", idle_seconds=1)
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


LONG = """
import sys
from pathlib import Path
import cnapse_tasks.label as label
from cnapse_tasks import logs
from cnapse_tasks.worker import work

def execute(run, index):
    Path(sys.argv[2]).write_text("begun")
    {act}

label.execute = execute
logs.configure("text")
work(sys.argv[1], **{options})
"""


@pytest.mark.parametrize(
    ("act", "options", "signals", "code"),
    [
        ("import time; time.sleep(60)", {"grace_seconds": 0.5}, 1, 143),
        ("import time; time.sleep(60)", {"grace_seconds": 50}, 2, 143),
        ("x = bytearray(10**9); import time; time.sleep(60)", {"memory_gb": 0.9}, 0, 1),
    ],
    ids=["grace", "second signal", "memory"],
)
def test_a_task_that_is_given_back_is_anothers_at_once(
    stage, tmp_path, act, options, signals, code
) -> None:
    config, ledger, _ = stage
    url = f"fq://{tmp_path}/q"
    queue = open_queue(url)
    queue.insert([functools.partial(run_task, config.output, "label", 4, KEY)])
    script = tmp_path / "w.py"
    script.write_text(LONG.format(act=act, options=options))
    begun = tmp_path / "begun"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))}
    with subprocess.Popen([sys.executable, str(script), url, str(begun)], env=env) as process:
        until = time.monotonic() + 100
        while not begun.exists() and time.monotonic() < until:
            time.sleep(0.05)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert process.wait(30) == code
    note = ledger.note(4)
    assert note["until"] == 0
    if signals:
        # It was stopped, which says nothing against the task.
        assert (note["begun"], note["failed"]) == (0, 0)
        assert queue.leased == 0
    else:
        assert note["reason"].startswith("MemoryError: not enough memory (the worker used")
        assert note["failed"] == 1
    assert queue.enqueued == 1


def test_tasks_of_other_stages_are_left_to_others(stage, tmp_path) -> None:
    config, _, with_act = stage
    module = with_act(lambda index, call: None)
    queue = open_queue(f"fq://{tmp_path}/q")
    queue.insert([functools.partial(run_task, config.output, "label", 0, KEY)])
    work(f"fq://{tmp_path}/q", idle_seconds=0.3, stages=("detect",))
    assert module.calls == []
    assert queue.enqueued == 1
    work(f"fq://{tmp_path}/q", idle_seconds=3, stages=("detect", "label"))
    assert module.calls == [0]


def test_a_cancelled_run_is_passed_over(stage) -> None:
    config, _, with_act = stage
    module = with_act(lambda index, call: None)
    records = Run(config).store
    records.put_json(CANCELLED, {})
    assert do(config).outcome == Outcome.PASSED
    records.delete([CANCELLED])
    forget_contexts()
    assert do(config).outcome == Outcome.DONE
    assert module.calls == [0]


def test_what_another_worker_is_at_comes_back_later(stage) -> None:
    config, ledger, with_act = stage
    module = with_act(lambda index, call: None)
    ledger.begin(0, 60)
    ledger.put_note(0, ledger.note(0) | {"host": "elsewhere"})
    result = do(config)
    assert (result.outcome, module.calls) == (Outcome.TAKEN, [])
    assert 50 < result.wait <= 60


def test_passing_faults_wait_and_are_tried_more_often(stage) -> None:
    config, _, with_act = stage

    def fail(index, call):
        raise ConnectionResetError(104, "reset")

    with_act(fail)
    results = [do(config) for _ in range(9)]
    assert [r.outcome for r in results] == [Outcome.AGAIN] * 8 + [Outcome.ASIDE]
    assert results[0].wait < results[4].wait <= 60


def test_json_lines_say_what_a_task_did(stage, capsys) -> None:
    config, _, with_act = stage
    with_act(lambda index, call: None)
    root, own = logging.getLogger(), logging.getLogger("cnapse")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    try:
        logs.configure("json")
        logs.tell(do(config, 5), None, None)
        logging.getLogger("cnapse.ledger").warning("damaged")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        own.setLevel(own_level)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["task"], first["outcome"], first["level"]) == ("label/5", "done", "info")
    assert (first["facts"], first["pid"]) == ({"voxels": 1}, os.getpid())
    assert (second["level"], second["message"]) == ("warning", "damaged")


def test_signal_handlers_are_put_back(tmp_path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    work(f"fq://{tmp_path}/q", idle_seconds=0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_queues_are_named(tmp_path) -> None:
    for url in ("nowhere", "ftp://x/y"):
        with pytest.raises(ConfigError, match="is no queue: give fq://FOLDER or sqs://NAME"):
            open_queue(url)


def test_messages_that_are_no_tasks_are_passed_over_and_stay(stage, tmp_path, caplog) -> None:
    config, ledger, with_act = stage
    with_act(lambda index, call: None)
    queue = open_queue(f"fq://{tmp_path}/q")
    ours = [run_task.__module__, run_task.__name__]
    for payload in (
        [["os", "system"], ["true"], {}, -1],
        "garbage",
        {"class": "Nothing"},
        [ours, [config.output, "label"], {}, -1],
        [ours, [config.output, "label", "17", KEY], {}, -1],
        17,
    ):
        queue.api.insert({"payload": payload, "queueName": "q"})
    queue.insert([functools.partial(run_task, config.output, "label", 0, KEY)])
    report = work(f"fq://{tmp_path}/q", idle_seconds=0.5)
    assert report.executed == 1
    assert ledger.done() == {0}
    assert queue.enqueued == queue.leased == 6
    assert caplog.text.count("a message that is no task of cnapse's") == 6


def test_a_torn_message_keeps_nobody(stage, tmp_path) -> None:
    config, ledger, with_act = stage
    with_act(lambda index, call: None)
    queue = open_queue(f"fq://{tmp_path}/q")
    (tmp_path / "q/queue/0--torn.json").write_text('{"payload": [')
    queue.insert([functools.partial(run_task, config.output, "label", 0, KEY)])
    work(f"fq://{tmp_path}/q", idle_seconds=3)
    assert ledger.done() == {0}


def test_keys_and_changes() -> None:
    a = {"threshold": 0.5, "block": [1, 2], "image": {"path": "x", "version": ""}}
    b = {"block": [1, 2], "image": {"path": "x", "version": "2"}, "threshold": 0.6}
    assert stage_key(a) == stage_key(dict(reversed(a.items())))
    assert stage_key(a) != stage_key(b)
    assert describe_changes(a, b, "label.") == [
        "label.image.version:  -> 2",
        "label.threshold: 0.5 -> 0.6",
    ]
