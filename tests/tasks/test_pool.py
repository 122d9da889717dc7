"""`cnapse worker --workers N`: processes that end, die, keep dying and are told to stop."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cnapse.errors import RunStateError
from cnapse_tasks import pool
from cnapse_tasks.pool import WorkerPool, work_in_processes


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Stand-ins for worker processes: a script each, the last one again and again."""

    def are(*scripts: str) -> Path:
        left = list(scripts)

        def start(self) -> subprocess.Popen[bytes]:
            with (tmp_path / "started").open("a") as log:
                log.write("x")
            script = left.pop(0) if len(left) > 1 else left[0]
            command = [sys.executable, "-S", "-c", f"FILE = {str(tmp_path / 'said')!r}\n{script}"]
            return subprocess.Popen(command, start_new_session=self._apart)

        monkeypatch.setattr(WorkerPool, "_start", start)
        monkeypatch.setattr(pool, "_LOOK_SECONDS", 0.01)
        return tmp_path / "started"

    return are


END = "raise SystemExit(0)"
DIE = "raise SystemExit(3)"
# Tells the one that watches over it to stop, as a cluster does, and waits for its own signal.
STOP = """
import os, signal, time
def told(*_):
    open(FILE, "a").write("told ")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, told)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""


def test_processes_that_end_are_not_replaced(processes) -> None:
    started = processes(END)
    work_in_processes("fq://q", 3, {})
    assert started.read_text() == "xxx"


def test_one_that_dies_is_replaced(processes) -> None:
    started = processes(DIE, END)
    work_in_processes("fq://q", 2, {})
    assert started.read_text() == "xxx"


def test_those_that_keep_dying_end_the_worker_in_one_line(processes) -> None:
    started = processes(DIE)
    with pytest.raises(RunStateError, match=r"as soon as they start \(exit code 3\)") as caught:
        work_in_processes("fq://q", 2, {})
    assert "\n" not in str(caught.value)
    # Two at first, and five more for each.
    assert len(started.read_text()) == 2 + 5 * 2


def test_sigterm_is_passed_on_and_nobody_is_replaced(processes, tmp_path) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    started = processes(STOP, STOP.replace("os.kill", "(lambda *_: 0)"))
    work_in_processes("fq://q", 2, {})
    assert started.read_text() == "xx"
    # The other one may not have come so far as to listen; then it just ended.
    assert (tmp_path / "said").read_text().startswith("told ")
