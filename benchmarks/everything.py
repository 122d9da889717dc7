"""All comparisons that can run on this machine: `python benchmarks/everything.py --quick`.

Each benchmark runs in a process of its own, one after the other. A table of all rows goes to the
folder, as Markdown and as JSON, with the machine and the versions that they were taken on. Peers
that are not packages are given by path; one that is absent gives no rows, and a line below the
table. A benchmark that fails is named at the end, and the exit code is 1. Without `--quick` it
takes hours, and 15 GB where temporary files go (TMPDIR).

What compares nothing is not here: `chaos`, `memory`, `planning` and `train_vnc`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _rows import ABSENT

HERE = Path(__file__).parent
# With the peers of each that are given by path, as its option and ours are called.
BENCHMARKS = {
    "detection": (),
    "labeling": ("synaptor",),
    "partners": ("seed",),
    "agreement": (),
    "semisynthetic": ("data",),
    "queueing": (),
    "ingest": (),
    "annotations": ("ngsidekick",),
    "tables": (),
    "review": (),
    "review_load": (),
}
PEERS = ("seed", "synaptor", "ngsidekick", "data")
PACKAGES = (
    "cnapse", "numpy", "torch", "numba", "cloud-volume", "connected-components-3d", "fastremap",
    "igneous-pipeline", "neuroglancer", "task-queue", "tensorstore", "duckdb", "pandas", "pyarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark."""

    name: str
    seconds: float
    rows: list[dict[str, object]]
    absent: tuple[str, ...] = ()
    failed: str = ""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--output", type=Path, default=Path("build/benchmarks"), metavar="DIR")
    options.add_argument("--quick", action="store_true", help="less than a minute each")
    options.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    options.add_argument("--seed", type=Path, metavar="PATH", help="a checkout of Cnapse")
    options.add_argument("--synaptor", type=Path, metavar="PATH", help="a checkout of Synaptor")
    options.add_argument("--ngsidekick", type=Path, metavar="PYTHON", help="one that has it")
    options.add_argument("--data", type=Path, metavar="PATH", help="real EM, if not in ../shared")
    given = options.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    peers = {name: getattr(given, name) for name in PEERS}
    load = os.getloadavg()[0]
    outcomes = [run(name, given.quick, peers, given.output) for name in given.only]
    write(given.output, outcomes, quick=given.quick, load=load)
    print(f"\n{given.output / 'benchmarks.md'}")
    failed = [outcome.name for outcome in outcomes if outcome.failed]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def run(name: str, quick: bool, peers: dict[str, Path | None], folder: Path) -> Outcome:
    """Run one benchmark; its own output goes where ours goes."""
    target = (folder / f"{name}.json").absolute()
    target.unlink(missing_ok=True)
    words = [sys.executable, str(HERE / f"{name}.py"), "--json", str(target)]
    words += ["--quick"] * quick
    for peer in BENCHMARKS[name]:
        if (path := peers[peer]) is not None:
            words += [f"--{peer}", str(path.absolute())]
    print(f"\n== {name}", flush=True)
    begun = time.perf_counter()
    code, absent = watched(words)
    seconds = time.perf_counter() - begun
    if code or not target.is_file():
        return Outcome(name, seconds, [], absent, f"exit code {code}")
    return Outcome(name, seconds, json.loads(target.read_text(encoding="utf-8")), absent)


def watched(words: list[str]) -> tuple[int, tuple[str, ...]]:
    """Run a command; its exit code, and what its standard error says of peers that are absent."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        said = []
        for line in process.stderr or ():
            sys.stderr.write(line)
            if line.startswith(ABSENT):
                said.append(line.strip())
    return process.returncode, tuple(said)


def write(folder: Path, outcomes: list[Outcome], *, quick: bool, load: float) -> None:
    """The table of all rows, and what it was taken on."""
    taken_on = {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "quick": quick,
        "machine": machine(),
        "load before": round(load, 2),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }
    rows = [{"benchmark": one.name, **row} for one in outcomes for row in one.rows]
    absent = [line for one in outcomes for line in one.absent]
    failed = [one.name for one in outcomes if one.failed]
    whole = {**taken_on, "rows": rows, "absent": absent, "failed": failed}
    (folder / "benchmarks.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Benchmarks", "",
        (f"{taken_on['when']}, {taken_on['machine']}{', --quick' if quick else ''},"
        f" load {taken_on['load before']} when it began."), "",
        ", ".join(f"{name} {value}" for name, value in taken_on["versions"].items()), "",
        "| benchmark | work | ours | unit | peer | theirs | ratio | note |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows), "",
        *(f"- {line}" for line in absent), *([""] if absent else []),
        *(f"{one.name}: {one.failed or f'{one.seconds:.0f} s'}  " for one in outcomes),
    ]  # fmt: skip
    (folder / "benchmarks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def machine() -> str:
    """The processor, how many cores of it, and the memory."""
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.is_file():
        named = [v for v in cpus.read_text().splitlines() if v.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def version(package: str) -> str:
    """Of what is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def cell(value: object) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
