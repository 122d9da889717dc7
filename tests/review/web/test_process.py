"""`cnapse review` as a process: killed, stopped, and refusing to start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from cnapse.review.log import DecisionLog

FIRST = 2**63
WAIT = 60


@pytest.fixture
def config(reviewed, tmp_path):
    shutil.copytree(reviewed.config.parent, tmp_path / "copy")
    return tmp_path / "copy/cnapse.toml"


def command(config, *more: str) -> list[str]:
    return [sys.executable, "-m", "cnapse_cli", "review", str(config), "--no-browser", *more]


@contextmanager
def serving(config, *more: str) -> Iterator[tuple[subprocess.Popen, httpx2.Client]]:
    process = subprocess.Popen(
        command(config, *more), stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        link = next(line.strip() for line in process.stdout if line.startswith("http"))
        page, _, token = link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}", "X-Cnapse-Review": "1"}
        with httpx2.Client(base_url=page, headers=headers, timeout=WAIT) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


def verdict(i: int) -> dict:
    return {
        "uuid": str(uuid.uuid4()), "action": "verdict", "syn_id": str(FIRST + i % 6),
        "new": {"verdict": "true"},
    }  # fmt: skip


def test_what_was_answered_survives_the_power_cut(config) -> None:
    answered: list[str] = []
    with serving(config, "--reviewer", "Ann") as (process, client):
        token = client.headers["authorization"]

        def decide() -> None:
            for i in range(10**6):
                one = verdict(i)
                try:
                    answer = client.post("/api/decisions", json=one)
                except httpx2.HTTPError:
                    return
                if answer.status_code == 201:
                    answered.append(one["uuid"])
                if len(answered) == 60:
                    process.send_signal(signal.SIGKILL)

        threads = [threading.Thread(target=decide) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert len(answered) >= 60
    with serving(config, "--reviewer", "Ann") as (process, client):
        assert client.headers["authorization"] == token, "open pages go on"
        assert client.post("/api/decisions", json=verdict(0)).status_code == 201
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
    with DecisionLog(config.parent / "run/review/log.sqlite") as log:
        kept = [one.uuid for one in log.decisions()]
    assert len(kept) == len(set(kept))
    assert set(answered) <= set(kept)


def test_ctrl_c_stops_it(config) -> None:
    with serving(config) as (process, client):
        assert client.get("/api/session").json()["reviewer"] is None
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("stopped\n")
        assert process.wait(WAIT) == 0


def refused(config, *more: str) -> str:
    done = subprocess.run(
        command(config, *more), capture_output=True, text=True, timeout=WAIT, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    return line


def test_what_it_cannot_start_with_is_one_line(config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in refused(config, "--port", str(taken.getsockname()[1]))
    shutil.rmtree(config.parent / "run/tables")
    assert "finish the run first" in refused(config)
