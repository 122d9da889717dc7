"""Tasks a second through queues, what records add, and how two workers compare with one.

    python benchmarks/queueing.py [--quick] [--json queueing.json]

1. No-op tasks through a folder (``fq://``) and SQS (moto on loopback, in a process of its own):
   python-task-queue's own `poll`, then our worker, then our worker with ledger and records.
2. `label` and `assign` of a phantom, by one and by two workers; the efficiency is half the ratio.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from _rows import Row, absent, parser, report
from taskqueue import TaskQueue, queueable

from cnapse.config import Config
from cnapse.geometry import Box, Grid
from cnapse.phantom import Phantom, PhantomSpec
from cnapse.volumes.writer import create_layer
from cnapse_tasks import queues, stages
from cnapse_tasks.driver import Options, run_stages
from cnapse_tasks.run import Run
from cnapse_tasks.task import run_task
from cnapse_tasks.worker import work

_RESOLUTION = (4.0, 4.0, 50.0)


@queueable
def nothing(number: int) -> None:
    """A task that does nothing."""


class _NoStage:
    """A stage whose tasks do nothing."""

    @staticmethod
    def execute(_run: Run, _index: int) -> Mapping[str, object]:
        return {}


@contextlib.contextmanager
def moto() -> Iterator[bool]:
    """SQS on loopback, in the environment of this process; whether it is there."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask_cors") is None:
        absent("SQS", "moto is not installed: pip install 'moto[s3,sqs]' flask flask-cors")
        yield False
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{endpoint}/moto-api/data.json", timeout=5).close()
                break
            time.sleep(0.1)
        yield True
    finally:
        server.terminate()
        server.wait(30)


def rate(count: int, do: Callable[[], object]) -> float:
    """Tasks a second."""
    began = time.perf_counter()
    do()
    return count / (time.perf_counter() - began)


def no_ops(url: str, name: str, count: int, folder: Path) -> list[Row]:
    """Insert and work off tasks that do nothing, three times."""
    queue = queues.open_queue(url)
    bare = TaskQueue(url, progress=False, n_threads=1)
    tasks = [functools.partial(nothing, n) for n in range(count)]
    bare_in = rate(count, lambda: bare.insert(tasks))
    bare_out = rate(count, functools.partial(poll, bare, count))
    ours_in = rate(count, lambda: queues.insert(queue, tasks))
    ours_out = rate(count, functools.partial(drain, url, queue))
    config = Config.from_dict(
        {
            "output": f"file://{folder}/{name}",
            "resolution": _RESOLUTION,
            "layers": {"probability": f"file://{folder}/none"},
        }
    )
    ledger = stages.STAGES["label"].ledger(Run(config))
    ledger.open("k", {}, config.model_dump(mode="json"))
    queues.insert(
        queue, (functools.partial(run_task, config.output, "label", n, "k") for n in range(count))
    )
    module = stages.Stage.module
    stages.Stage.module = _NoStage
    try:
        recorded = rate(count, functools.partial(drain, url, queue))
    finally:
        stages.Stage.module = module
    if len(ledger.done()) != count:
        raise SystemExit(f"{count - len(ledger.done())} records are missing")
    overhead = 1000 * (1 / recorded - 1 / bare_out)
    peer = "task-queue"
    return [
        Row(f"{name}: insert no-ops", ours_in, "tasks/s", peer, bare_in),
        Row(f"{name}: work off no-ops", ours_out, "tasks/s", peer, bare_out),
        Row(f"{name}: the same with records", recorded, "tasks/s", peer, bare_out),
        Row(f"{name}: lease, claim and record, per task", overhead, "ms", note="over task-queue"),
    ]


def poll(queue: TaskQueue, count: int) -> None:
    """Work off a queue as python-task-queue does."""
    queue.poll(lease_seconds=60, stop_fn=lambda executed: executed >= count)


def drain(url: str, queue: TaskQueue) -> None:
    """Work off a queue as `cnapse worker` does."""
    while queue.enqueued:
        work(url, idle_seconds=0)


def phantom(folder: Path, repeats: int) -> Config:
    """A phantom beside itself, as layers."""
    unit = (512, 512, 32)
    tissue = Phantom(PhantomSpec(unit, _RESOLUTION, seed=31)).render(
        Box.from_shape(unit, _RESOLUTION)
    )
    bounds = Box.from_shape((unit[0] * repeats, unit[1] * 2, unit[2]), _RESOLUTION)
    layers = {
        "probability": ("image", (tissue["densities"] > 0).astype("uint8") * 255),
        "cells": ("segmentation", tissue["cells"]),
    }
    for name, (kind, array) in layers.items():
        writer = create_layer(
            folder / name, kind=kind, dtype=array.dtype, bounds=bounds, chunk_size=(128, 128, 16)
        )
        for block in Grid(bounds, unit):
            writer.write(array, block.write)
    return Config.from_dict(
        {
            "output": f"file://{folder}/run",
            "resolution": _RESOLUTION,
            "layers": {n: f"file://{folder}/{n}" for n in layers},
            "block": (512, 512, 32),
        }
    )


def span(config: Config, stage: str) -> float:
    """Seconds from the first task's begin to the last one's end, by the records."""
    ledger = stages.STAGES[stage].ledger(Run(config))
    records = [ledger.record_of(index) or {} for index in sorted(ledger.done())]
    ended = [float(str(record["ended"])) for record in records]
    begun = [at - float(str(r["seconds"])) for at, r in zip(ended, records, strict=True)]
    return max(ended) - min(begun)


def scaling(folder: Path, repeats: int) -> list[Row]:
    """Efficiency of the second worker."""
    config = phantom(folder, repeats)
    seconds: dict[int, dict[str, float]] = {}
    # The first run fills numba's cache.
    for number, workers in enumerate((2, 1, 2)):
        own = config.model_copy(update={"output": f"file://{folder}/run-{number}"})
        run_stages(own, Options(workers=workers, last="assign"))
        seconds[workers] = {stage: span(own, stage) for stage in ("label", "assign")}
    return [
        Row(
            f"{stage}: efficiency of 2 workers",
            seconds[1][stage] / seconds[2][stage] / 2,
            "of 2",
            note=f"{seconds[1][stage]:.2f} s and {seconds[2][stage]:.2f} s",
            more_is_better=True,
        )
        for stage in ("label", "assign")
    ]


def main() -> None:
    options = parser(__doc__ or "", {}).parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("cnapse").setLevel(logging.ERROR)
    count, repeats = (200, 8) if options.quick else (2000, 128)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, moto() as has_sqs:
        folder = Path(name)
        rows += no_ops(f"fq://{folder}/queue", "fq", count, folder)
        if has_sqs:
            queues.create_queue("sqs://benchmark")
            rows += no_ops("sqs://benchmark", "sqs (moto)", min(count, 500), folder)
        rows += scaling(folder, repeats)
    report(rows, options.json)


if __name__ == "__main__":
    main()
