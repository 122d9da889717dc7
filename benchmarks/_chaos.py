"""A run of all stages under faults and kills, and the same run undisturbed."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from _chaos_tissue import Tissue
from _faults import FaultProxy, Rates, Seen
from _moto import Server, differences, outputs

from cnapse.config import Config
from cnapse.store import Store
from cnapse_tasks.driver import Options, run_stages

__all__ = ["Lab", "Outcome", "Plan"]

_RECORD = re.compile(r"/\.cnapse/\w+/done/(\d+/)?\d+\.json$")
_HERE = Path(__file__).parent
# Processes that end by themselves are started again so often: a run should not need it.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed does to a run.

    Parameters
    ----------
    seed : int
    workers, drivers : int
        Processes. Several drivers work on the same run at once.
    kill_every : (least, most)
        Tasks that are completed between two kills of a worker.
    driver_kills : int
        Of whichever driver asks for something next.
    rates : Rates
    seconds : float
        After which the run is given up.
    """

    seed: int
    workers: int = 4
    drivers: int = 1
    kill_every: tuple[int, int] = (6, 10)
    driver_kills: int = 2
    rates: Rates = field(default_factory=Rates)
    seconds: float = 900.0


@dataclass
class Outcome:
    """How a disturbed run went."""

    seed: int
    faults: Counter[str]
    problems: list[str]
    """Objects that differ, or why the run did not come to its end; empty if all is well."""
    notes: list[str]
    """What should not have happened, but did no harm: processes that ended by themselves."""
    seconds: float
    tasks: int
    objects: int = 0


class _Killer:
    """Decides, request by request, who is killed; told by the proxy's thread.

    A kill becomes due when so many more tasks are complete; it hits the worker that makes one of
    the next requests, wherever in its task it is then. So work always goes on.
    """

    def __init__(self, plan: Plan, tasks: int) -> None:
        self._rng = random.Random(f"kills of {plan.seed}")
        self._every = plan.kill_every
        self._next = self._rng.randint(*plan.kill_every)
        self._after: int | None = None
        places = range(tasks // 8, tasks - tasks // 8)
        self._driver_at = sorted(self._rng.sample(places, plan.driver_kills), reverse=True)
        self.complete: set[str] = set()
        self.kills: Counter[str] = Counter()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.lock = threading.Lock()

    def watch(self, seen: Seen) -> None:
        """Note a request; kill the one who made it, if it is time."""
        if seen.method == "PUT" and _RECORD.search(seen.path):
            self.complete.add(seen.path)
        with self.lock:
            if _is_driver(seen.client):
                if self._driver_at and len(self.complete) >= self._driver_at[-1]:
                    self._driver_at.pop()
                    self._kill(seen.client)
                return
            if self._after is None and len(self.complete) >= self._next:
                self._after = self._rng.randint(0, 30)
            elif self._after:
                self._after -= 1
            elif self._after == 0:
                self._after = None
                self._next = len(self.complete) + self._rng.randint(*self._every)
                self._kill(seen.client)

    def _kill(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            process.kill()
            self.kills["driver killed" if _is_driver(name) else "worker killed"] += 1


class Lab:
    """The server, the input and the undisturbed run; a context manager.

    Parameters
    ----------
    folder : Path
        Where configurations and logs go.
    tissue : Tissue
    """

    def __init__(self, folder: Path, tissue: Tissue | None = None) -> None:
        self.folder = folder
        self.tissue = tissue or Tissue()
        folder.mkdir(parents=True, exist_ok=True)
        self.server = Server(folder)
        self.reference: dict[str, bytes] = {}
        self.tasks = 0
        self._decoded = False

    def __enter__(self) -> Self:
        self.tissue.write(self.folder / "inputs")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.server)
            self.server.upload(self.folder / "inputs", "inputs", "chaos")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def make_reference(self) -> int:
        """Run undisturbed in a bucket; the number of tasks."""
        config = self._config("reference")
        command = [*_cnapse("run"), str(config), "--workers", "2"]
        log = self.folder / "reference.log"
        environment = self.environment(self.server.url)
        with log.open("wb") as out:
            code = subprocess.call(command, stdout=out, stderr=out, env=environment)
        if code:
            raise RuntimeError(f"the undisturbed run failed:\n{log.read_text()}")
        found = self.server.objects("reference")
        return self._refer_to(found)

    def make_reference_on_disk(self) -> int:
        """Run undisturbed in a folder; how a bucket stores contents is then not compared."""
        folder = self.folder / "reference"
        text = self.tissue.config(f"file://{self.folder}/inputs", f"file://{folder}/out")
        run_stages(Config.from_dict(tomllib.loads(text)), Options(workers=1))
        self._decoded = True
        store = Store(folder)
        return self._refer_to({name: store.read(name) for name in store.names()})

    def _refer_to(self, found: dict[str, bytes]) -> int:
        self.reference = outputs(found)
        self.tasks = sum(_RECORD.search(f"/{name}") is not None for name in found)
        return self.tasks

    def environment(self, endpoint: str) -> dict[str, str]:
        """Of a process that reaches the server there."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-credentials"),
            "CLOUD_FILES_DIR": str(self.folder / "cloudfiles"),
            "CLOUD_VOLUME_DIR": str(self.folder / "cloudvolume"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p and Path(p) != _HERE),
            "no_proxy": "127.0.0.1",
        }

    def _config(self, name: str) -> Path:
        """The configuration of a run in a bucket of its own, which is made."""
        self.server.client("s3").create_bucket(Bucket=name)
        path = self.folder / f"{name}.toml"
        path.write_text(self.tissue.config("s3://inputs/chaos", f"s3://{name}/out"))
        return path

    def disturb(self, plan: Plan) -> Outcome:
        """Run under faults and kills, and compare with the undisturbed run."""
        name = f"seed-{plan.seed}"
        config = self._config(name)
        self.server.client("sqs").create_queue(QueueName=name)
        logs = self.folder / name
        logs.mkdir(exist_ok=True)
        killer = _Killer(plan, self.tasks)
        began = time.monotonic()
        with FaultProxy(self.server.url, plan.seed, plan.rates, killer.watch) as proxy:
            crew = _Crew(self, proxy, killer, logs)
            problems = crew.work(config, f"sqs://{name}", plan)
            faults = proxy.faults + killer.kills
        seconds = time.monotonic() - began
        found = outputs(self.server.objects(name, decoded=self._decoded))
        problems += differences(self.reference, found)
        if not problems:
            self.server.drop(name)
            if not crew.notes:
                shutil.rmtree(logs)
        else:
            _keep(found, logs / "outputs")
            _keep(self.reference, self.folder / "reference")
        return Outcome(
            plan.seed, faults, problems, crew.notes, seconds, len(killer.complete), len(found)
        )


class _Crew:
    """A driver and workers, each started again when it dies."""

    def __init__(self, lab: Lab, proxy: FaultProxy, killer: _Killer, logs: Path) -> None:
        self._lab, self._proxy, self._killer, self._logs = lab, proxy, killer, logs
        self.notes: list[str] = []

    def work(self, config: Path, queue: str, plan: Plan) -> list[str]:
        """Until every driver says that the run is complete; what went wrong."""
        driver = [*_cnapse("run"), str(config), "--queue", queue]
        worker = [*_cnapse("worker"), queue, "--lease", "10"]
        commands = {f"driver-{n}": driver for n in range(plan.drivers)}
        commands |= {f"worker-{n}": worker for n in range(plan.workers)}
        until = time.monotonic() + plan.seconds
        try:
            for name, command in commands.items():
                self._start(name, command)
            while time.monotonic() < until:
                time.sleep(0.05)
                for name, command in list(commands.items()):
                    code = self._killer.processes[name].poll()
                    if code == 0 and _is_driver(name):
                        del commands[name]
                    elif code is not None:
                        self._note(name, code)
                        self._start(name, command)
                if not any(map(_is_driver, commands)):
                    return []
                if len(self.notes) > _ATTEMPTS:
                    return ["given up: processes keep failing"]
            return [f"given up after {plan.seconds:g} s"]
        finally:
            self._end()

    def _note(self, name: str, code: int) -> None:
        if code != -signal.SIGKILL:
            self.notes.append(f"{name} ended with {code}: {self._last_line(name)}")

    def _start(self, name: str, command: Sequence[str]) -> None:
        environment = self._lab.environment(self._proxy.endpoint(name))
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        with self._killer.lock:
            self._killer.processes[name] = process

    def _end(self) -> None:
        for process in self._killer.processes.values():
            process.kill()
            process.wait(30)

    def _last_line(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no word"


def _is_driver(client: str) -> bool:
    return client.startswith("driver")


def _cnapse(command: str) -> list[str]:
    return [sys.executable, "-m", "cnapse_cli", command]


def _keep(objects: dict[str, bytes], folder: Path) -> None:
    for name, content in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
