"""Runs of all stages while everything fails that can: outputs must be those of a quiet run.

    python benchmarks/chaos.py --seeds 20 [--first-seed N] [--json FILE] [--folder PATH]

Four workers and a driver (`cnapse worker`, `cnapse run --queue`) reach S3 and SQS (moto, on
loopback) through a proxy that refuses, resets, cuts short, and carries out what it says it did not
(see `_faults`); workers and the driver are killed with SIGKILL as work goes on. One seed in four
has two drivers at once. Every object that a run leaves is compared, byte by byte as stored, with
that of an undisturbed run; records and provenance (which hold times) are not. The last line is
``N seeds, M faults, K mismatches``; with mismatches the exit is 1, and logs and objects are kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from _chaos import Lab, Outcome, Plan
from _rows import Row, report

_TWO_DRIVERS_EVERY = 4


def main() -> int:
    """Run the seeds, print what was survived; the exit code."""
    options = _options()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="cnapse-chaos-"))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    outcomes = []
    with Lab(folder) as lab:
        tasks = lab.make_reference()
        print(f"undisturbed: {tasks} tasks, {len(lab.reference)} objects", flush=True)
        for seed in seeds:
            drivers = 2 if seed % _TWO_DRIVERS_EVERY == 1 else 1
            outcome = lab.disturb(Plan(seed, workers=options.workers, drivers=drivers))
            outcomes.append(outcome)
            _tell(outcome)
    faults: Counter[str] = sum((o.faults for o in outcomes), Counter())
    print()
    report(_rows(outcomes, faults), options.json)
    mismatches = sum(len(outcome.problems) for outcome in outcomes)
    if mismatches:
        print(f"\nlogs and objects: {folder}")
    print(f"\n{len(outcomes)} seeds, {faults.total()} faults, {mismatches} mismatches")
    return 1 if mismatches else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="where logs go")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(outcome.faults.items()))
    print(
        f"seed {outcome.seed}: {outcome.tasks} tasks, {outcome.objects} objects, "
        f"{outcome.faults.total()} faults ({kinds}), {len(outcome.problems)} mismatches, "
        f"{outcome.seconds:.0f} s",
        flush=True,
    )
    for line in outcome.problems + outcome.notes:
        print(f"  {line}", flush=True)


def _rows(outcomes: list[Outcome], faults: Counter[str]) -> list[Row]:
    work = f"chaos, {len(outcomes)} seeds"
    rows = [Row(f"{work}: {kind}", n, "faults") for kind, n in sorted(faults.items())]
    objects = sum(outcome.objects for outcome in outcomes)
    unlike = sum(len(outcome.problems) for outcome in outcomes)
    rows.append(Row(work, faults.total(), "faults", note=f"{objects} objects compared"))
    rows.append(Row(work, unlike, "mismatches"))
    rows.append(Row(f"{work}: time a seed", sum(o.seconds for o in outcomes) / len(outcomes), "s"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
