"""`cnapse plan --calibrate` against the runs that it foretells: seconds of cores, wall time, files.

    python benchmarks/planning.py --folder DIR [--workers 2] [--repeats 4 4 2]

Two runs of a phantom that is repeated: one from the image, of one unit of it (512 x 512 x 32), one
from the true probability, of all of it. `ours` is what was planned, `theirs` what the run took by
the records of its tasks. Each is calibrated anew, before it runs.

`--reference FILE` writes the rates of the long run as those that come with cnapse
(tasks/cnapse_tasks/planning/reference.json): do this on a calm machine.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from _rows import Row, parser, report

from cnapse.config import Config
from cnapse.geometry import Box, Grid
from cnapse.phantom import Phantom, PhantomSpec
from cnapse.store import Store
from cnapse.volumes.writer import create_layer
from cnapse_tasks.driver import Options, run_stages
from cnapse_tasks.planning.calibration import calibrate
from cnapse_tasks.planning.estimate import Machines, Plan, plan_of
from cnapse_tasks.planning.loads import load_of
from cnapse_tasks.planning.prices import prices
from cnapse_tasks.planning.rates import Rate, Rates, reference
from cnapse_tasks.planning.tissue import USUAL
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

_UNIT = (512, 512, 32)
_RESOLUTION = (4.0, 4.0, 50.0)
_CHUNK = (128, 128, 16)


def make(folder: Path, repeats: tuple[int, int, int]) -> None:
    """Write the layers of both runs."""
    spec = PhantomSpec(_UNIT, _RESOLUTION, seed=31)
    unit = Phantom(spec).render(Box.from_shape(_UNIT, _RESOLUTION))
    unit["probability"] = np.where(unit["densities"] > 0, np.uint8(255), np.uint8(0))
    for name, shape, layers in (
        ("short", _UNIT, ("image", "cells")),
        (
            "long",
            tuple(n * r for n, r in zip(_UNIT, repeats, strict=True)),
            ("probability", "cells"),
        ),
    ):
        bounds = Box.from_shape(shape, _RESOLUTION)
        for layer in layers:
            if (folder / name / layer / "info").exists():
                continue
            writer = create_layer(
                folder / name / layer,
                kind="segmentation" if layer == "cells" else "image",
                dtype=unit[layer].dtype,
                bounds=bounds,
                chunk_size=_CHUNK,
            )
            for block in Grid(bounds, _UNIT):
                writer.write(unit[layer], block.write)


def config_of(folder: Path, first: str, model: str) -> Config:
    """A run of layers that `make` wrote."""
    values: dict[str, object] = {
        "output": f"file://{folder}/run",
        "resolution": _RESOLUTION,
        "layers": {name: f"file://{folder}/{name}" for name in (first, "cells")},
        "detect": {"model": model},
        "storage": {"sharded": True},
    }
    if first == "image":
        # Every stage is in one of the runs, and so has a rate of its own.
        values["meshes"] = {"skeletons": True}
    return Config.from_dict(values)


class _Watch:
    """How long each stage took by the clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._began = "", 0.0

    def begin(self, stage: str, total: int, done: int) -> None:  # noqa: ARG002 - a Progress
        self._stage, self._began = stage, time.monotonic()

    def update(self, done: int) -> None: ...

    def end(self) -> None:
        self.seconds[self._stage] = time.monotonic() - self._began


def planned(config: Config, workers: int) -> tuple[Plan, Rates]:
    """What `cnapse plan --calibrate` says."""
    measured = calibrate(config)
    run = Run(config)
    rates = measured.over(reference())
    tissue = rates.tissue or USUAL
    table = prices(None)
    return plan_of(run, stages_of(run), tissue, rates, Machines(workers), table), rates


def taken(config: Config) -> dict[str, float]:
    """Seconds of cores of each stage, by the records of its tasks."""
    run = Run(config)
    found = {}
    for stage in stages_of(run):
        ledger = stage.ledger(run)
        records = (ledger.record_of(index) or {} for index in ledger.done())
        found[stage.name] = sum(float(str(record["seconds"])) for record in records)
    return found


def rows_of(name: str, config: Config, workers: int) -> tuple[list[Row], Rates]:
    """Plan a run, do it, compare."""
    plan, rates = planned(config, workers)
    watch = _Watch()
    began = time.monotonic()
    run_stages(config, Options(workers=workers), watch)
    wall = time.monotonic() - began
    found = taken(config)
    rows = [
        Row(
            f"{name}: {stage.load.stage}",
            stage.core_hours.middle * 3600,
            "core-s",
            "the run",
            found[stage.load.stage],
            f"{stage.core_hours.low * 3600:.3g} to {stage.core_hours.high * 3600:.3g}",
        )
        for stage in plan.stages
    ]
    files = len(Store(config.output).names())
    return [
        *rows,
        Row(
            f"{name}: together",
            plan.core_hours.middle * 3600,
            "core-s",
            "the run",
            sum(found.values()),
        ),
        Row(f"{name}: wall time", plan.wall_seconds.middle, "s", "the run", wall),
        Row(
            f"{name}: files",
            sum(stage.load.files for stage in plan.stages),
            "files",
            "the run",
            files,
        ),
        Row(f"{name}: synapses", plan.synapses.middle, "", "the run", len(Run(config).synapses)),
    ], rates


def rates_of_run(config: Config, rates: Rates) -> Rates:
    """Rates as a long run shows them: many synapses in a part of a table, real blocks."""
    run, found = Run(config), taken(config)
    n = len(run.synapses)
    more: dict[str, Rate] = {}
    for stage in stages_of(run):
        load = load_of(stage, run, rates.tissue or USUAL)
        if "synapse" not in load.work:
            continue
        unit = "part" if "part" in load.work else "voxel"
        fixed = rates.rates[f"{stage.name}.{unit}"].seconds * load.work[unit]
        left = max(found[stage.name] - fixed, 0.2 * found[stage.name]) / n
        more[f"{stage.name}.synapse"] = Rate(left, left / 1.5, left * 1.5)
    return replace(rates, rates={**rates.rates, **more})


def _merged(short: Rates, long: Rates) -> Rates:
    both: Mapping[str, Rate] = {**short.rates, **long.rates}
    return replace(
        long,
        rates=both,
        tissue=None,
        host="developers",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        sample="phantoms, and the shipped model",
    )


def main() -> None:
    options = parser(__doc__ or "", {})
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--repeats", type=int, nargs=3, default=(4, 4, 2))
    options.add_argument("--model", default="phantom")
    options.add_argument("--reference", type=Path)
    given = options.parse_args()
    x, y, z = (1, 1, 2) if given.quick else given.repeats
    make(given.folder, (x, y, z))
    rows, found = [], []
    for name, first in (("short", "image"), ("long", "probability")):
        config = config_of(given.folder / name, first, given.model)
        shutil.rmtree(given.folder / name / "run", ignore_errors=True)
        some, rates = rows_of(name, config, given.workers)
        rows += some
        found.append(rates if name == "short" else rates_of_run(config, rates))
    report(rows, given.json)
    if given.reference is not None:
        given.reference.write_bytes(_merged(*found).to_json())


if __name__ == "__main__":
    main()
