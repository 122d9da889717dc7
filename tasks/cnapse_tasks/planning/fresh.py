"""A process that has loaded nothing yet runs stages once: ``python -m`` this, a configuration in.

What a worker's first tasks take beside their work is imports and compiled kernels; a process that
has calibrated anything else cannot see it any more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from cnapse.config import Config
from cnapse.errors import RunStateError

__all__ = ["first_seconds"]


def first_seconds(config: Config, stages: Sequence[str]) -> dict[str, float]:
    """Seconds of all tasks of some stages in a new process of one thread, and of its ``start``.

    Raises
    ------
    RunStateError
        If it fails: it says why.
    """
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
        [sys.executable, "-m", "cnapse_tasks.planning.fresh", *stages],
        input=config.model_dump_json().encode(),
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
    )
    took = time.perf_counter() - began
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode or not lines:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RunStateError(f"a process that was to be measured failed: {words[-1]}")
    found: dict[str, float] = json.loads(lines[-1])
    return {**found, "start": max(0.0, took - sum(found.values()))}


def _main() -> None:
    from cnapse_tasks.run import Run
    from cnapse_tasks.stages import STAGES

    run = Run(Config.from_dict(json.loads(sys.stdin.read())))
    found = {}
    for name in sys.argv[1:]:
        began = time.perf_counter()
        stage = STAGES[name]
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)
        found[name] = time.perf_counter() - began
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
