"""How fast this machine is: every stage run on a small piece of the run's own inputs.

1. A box is copied out of the input layers into a temporary folder.
2. Without a map, `detect` is run on as many of its sections as the time allows, on one core.
3. The other stages are run on the box as tasks are, one after the other, in several rounds. A
   rate is the middle of the rounds, its range their ends; the first one, which loads and compiles,
   is left out, and taken in a new process, as a worker's first tasks are.

What this cannot see: how fast the input layers are read over a network by many workers at once, how
cores slow each other down, and GPUs.
"""

from __future__ import annotations

import datetime
import functools
import gzip
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnapse.config import Config
from cnapse.geometry import Box, Triple, triple
from cnapse.runs import LayerName
from cnapse.store import Store
from cnapse_tasks import queues
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.planning.fresh import first_seconds
from cnapse_tasks.planning.loads import load_of
from cnapse_tasks.planning.rates import Rate, Rates
from cnapse_tasks.planning.sample import choose_box, copied, halved
from cnapse_tasks.planning.tissue import USUAL, Tissue
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, Stage, stages_of
from cnapse_tasks.task import run_task

__all__ = ["calibrate"]

Report = Callable[[str], object]

_ROUNDS = 3
# Without a network all stages together do some million voxels a second.
_LARGEST = 1 << 25
_MOST_SECTIONS = 64
_TASKS = 30
_SIGMAS = 2.0
# Of a stage's time, what is at least put down to its synapses: differences are noisy.
_LEAST_SHARE = 0.3


@dataclass
class _Found:
    """What was measured so far."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def add_first(self, stage: str, first: float, later: float) -> None:
        """What the first execution took beside its work."""
        self.add(f"{stage}.first", max(0.0, first - later))

    def rates(self) -> dict[str, Rate]:
        return {
            name: Rate(statistics.median(found), min(found), max(found))
            for name, found in self.seconds.items()
        }


def calibrate(config: Config, seconds: float = 30.0, report: Report = lambda _: None) -> Rates:
    """Measure the stages of a run on this machine.

    Parameters
    ----------
    config : Config
    seconds : float
        About how long it may take; most of it goes to `detect`, where there is one.
    report : callable, optional
        Called with a word on what is being measured.

    Returns
    -------
    Rates

    Raises
    ------
    RunStateError
        If the places that were tried have only zeros.
    """
    run = Run(config)
    run.check_overlap()
    found = _Found()
    with tempfile.TemporaryDirectory(prefix="cnapse-calibrate-") as name:
        folder = Path(name)
        report("engine")
        _measure_engine(found, folder)
        if any(stage.name == "detect" for stage in stages_of(run)):
            report("detect")
            sample = _detected(run, folder, found, seconds / 2)
        else:
            box = choose_box(run, _whole_shape(run))
            sample, _ = copied(run, _layers_of(run), box, folder / "sample")
        box = Run(sample).frame
        tissue = _measure_stages(sample, found, seconds / 2, report)
    return Rates(
        host=socket.gethostname(),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        rates=found.rates(),
        stored=found.stored,
        tissue=tissue,
        sample=str(box),
    )


def _layers_of(run: Run) -> list[LayerName]:
    """The layers that a sample has beside the image; directions are left out, being vectors."""
    names: tuple[LayerName, ...] = ("probability", "synapses", "cells", "vesicles")
    return [name for name in names if run.given(name) is not None]


def _whole_shape(run: Run) -> Triple:
    """Some blocks of the usual size."""
    z = min(_MOST_SECTIONS, run.frame.shape[2])
    side = int((_LARGEST / z) ** 0.5)
    return triple([*(max(c, side // c * c) for c in run.chunk[:2]), z])


# --- detect -------------------------------------------------------------------------------------


def _detected(run: Run, folder: Path, found: _Found, seconds: float) -> Config:
    """Run `detect` on as many sections as there is time for; a sample with the map that it made."""
    x, y, _ = run.grid("detect").block_shape
    box = choose_box(run, (x, y, min(_MOST_SECTIONS, run.frame.shape[2])))
    # The first one loads here as well.
    _, one = (_timed_detect(run, _sections(box, 1), folder / name, None) for name in ("a", "b"))
    config, _ = copied(run, ["image"], _sections(box, 1), folder / "fresh")
    found.add_first("detect", first_seconds(config, ["detect"])["detect"], one)
    deep = _sections(box, int(np.clip(seconds / max(one, 1e-3), 1, box.shape[2])))
    _timed_detect(run, deep, folder / "deep", found)
    config = Config.from_dict(_with_map(run.config, f"file://{folder / 'deep/run/probability'}"))
    names: list[LayerName] = ["probability", *_layers_of(run)]
    sample, _ = copied(Run(config), names, deep, folder / "sample", run.chunk)
    return sample


def _sections(box: Box, depth: int) -> Box:
    return Box(box.start, (*box.stop[:2], box.start[2] + depth), box.resolution)


def _with_map(config: Config, path: str) -> dict[str, object]:
    """The configuration that goes on from a map."""
    values = config.model_dump(mode="json")
    layers = {**values["layers"], "probability": {"path": path}, "mask": None}
    return {**values, "layers": layers}


def _timed_detect(run: Run, box: Box, folder: Path, found: _Found | None) -> float:
    """Seconds of one core for a box; its rates by pixel, one for each of some tasks."""
    import torch

    depth = -(-box.shape[2] // _ROUNDS)
    config, _ = copied(run, ["image"], box, folder, (*run.chunk[:2], depth))
    block = (*run.grid("detect").block_shape[:2], depth)
    config = config.model_copy(update={"detect": config.detect.model_copy(update={"block": block})})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sampled = Run(config)
        stage = STAGES["detect"]
        stage.module.prepare(sampled)
        work = load_of(stage, sampled, USUAL).work["pixel"]
        tasks = stage.module.indices(sampled)
        total = 0.0
        for index in tasks:
            began = time.perf_counter()
            stage.module.execute(sampled, index)
            took = time.perf_counter() - began
            total += took
            if found is not None:
                found.add("detect.pixel", took / (work / len(tasks)))
        return total
    finally:
        torch.set_num_threads(threads)


# --- the other stages ---------------------------------------------------------------------------


def _measure_stages(sample: Config, found: _Found, seconds: float, report: Report) -> Tissue | None:
    """Run all stages after `detect` in rounds; what synapses the sample holds."""
    run = Run(_in_blocks(sample))
    times: dict[str, list[float]] = {}
    ends = time.perf_counter() + seconds
    names = [stage.name for stage in stages_of(run)]
    report("start")
    fresh = first_seconds(run.config, names)
    found.add("start", fresh["start"])
    for number in range(_ROUNDS + 1):
        # The first round loads and compiles here as well.
        for stage in stages_of(run):
            report(stage.name)
            times.setdefault(stage.name, []).append(_executed(run, stage))
        if number and time.perf_counter() > ends:
            break
    tissue = _tissue_of(run) if run.has_cells else None
    for stage in stages_of(run):
        others = times[stage.name][1:]
        found.add_first(stage.name, fresh[stage.name], statistics.median(others))
        _add_rates(run, stage, others, found, tissue or USUAL)
    _measure_stored(run, found, tissue or USUAL)
    return tissue


def _in_blocks(config: Config) -> Config:
    """Four blocks, so that some objects are cut; one where only synapses count."""
    run = Run(config)
    block = halved(run.frame, run.chunk)
    values = config.model_dump(mode="json")
    sections = {name: {**values[name], "block": None} for name in ("label", "measure")}
    sections["assign"] = {**values["assign"], "block": run.frame.shape}
    return Config.from_dict({**values, **sections, "block": block})


def _executed(run: Run, stage: Stage) -> float:
    """Seconds of all tasks of a stage."""
    stage.module.prepare(run)
    began = time.perf_counter()
    for index in stage.module.indices(run):
        stage.module.execute(run, index)
    return time.perf_counter() - began


def _add_rates(
    run: Run,
    stage: Stage,
    times: list[float],
    found: _Found,
    tissue: Tissue,
) -> None:
    """Seconds by unit of work, from those of a round."""
    work = {unit: max(n, 1.0) for unit, n in load_of(stage, run, tissue).work.items()}
    if stage.name == "pyramid":
        _add_pyramid(run, stage, len(times), found)
        return
    if stage.name == "assign":
        per_voxel = _reading_rate(run)
        for took in times:
            found.add("assign.voxel", per_voxel)
            left = max(took - per_voxel * work["voxel"], _LEAST_SHARE * took)
            found.add("assign.synapse", left / work["synapse"])
        return
    # Of tables a sample has so few rows that their time is that of any part.
    unit = "part" if "part" in work else next(unit for unit in work if unit != "task")
    for took in times:
        found.add(f"{stage.name}.{unit}", took / work[unit])
        if stage.name == "stitch":
            # Runs of many blocks have it too, and do the same there.
            found.add("join.block", took / work[unit])


def _add_pyramid(run: Run, stage: Stage, rounds: int, found: _Found) -> None:
    """Each layer by itself: averages of bytes and modes of ids are different work."""
    from cnapse_tasks import pyramid

    indices = list(stage.module.indices(run))
    names = pyramid.made_layers(run)
    blocks = len(indices) // max(1, len(names))
    for number, name in enumerate(names if indices else []):
        own = indices[number * blocks : (number + 1) * blocks]
        for _ in range(rounds):
            began = time.perf_counter()
            for index in own:
                stage.module.execute(run, index)
            found.add(f"pyramid.{name}", (time.perf_counter() - began) / run.frame.voxels)
    if indices and "probability" not in names:
        found.add("pyramid.probability", min(found.seconds["pyramid.synapses"]))


def _reading_rate(run: Run) -> float:
    """Seconds for a voxel of synapses and cells, read and decoded."""
    box = run.grid("assign")[0].write
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run.layer("synapses").read(box)
        run.read_cells(box)
        times.append(time.perf_counter() - began)
    return min(times) / box.voxels


def _tissue_of(run: Run) -> Tissue | None:
    """Density, size and partners of the synapses that the sample holds; None if it has none."""
    table, partners = run.synapses, run.partners
    if table.empty:
        return None
    um3 = run.region.voxels * run.region.voxel_volume_nm3 / 1e9
    n = len(table)
    # A count of few is known to twice its root.
    error = _SIGMAS * n**0.5
    starts = table[["start_x", "start_y", "start_z"]].to_numpy(np.float64)
    stops = table[["stop_x", "stop_y", "stop_z"]].to_numpy(np.float64)
    x, y, z = ((stops - starts).mean(axis=0) * np.asarray(run.config.resolution)).tolist()
    return Tissue(
        density_um3=n / um3,
        low=max(n - error, 0.5) / um3,
        high=(n + error) / um3,
        extent_nm=(x, y, z),
        partners=len(partners) / n,
        source=f"{n} synapses in the {um3:.3g} um3 that were calibrated",
    )


def _measure_stored(run: Run, found: _Found, tissue: Tissue) -> None:
    """Bytes on disk by byte of voxels, and by synapse."""
    layers: Mapping[LayerName, int] = {"probability": 1, "synapses": 8}
    for name, itemsize in layers.items():
        path = Path(run.layer_path(name).removeprefix("file://"))
        if not (path / "info").is_file():
            continue
        key = run.layer(name).info["scales"][0]["key"]
        contents = [file.read_bytes() for file in (path / key).iterdir()]
        raw = itemsize * run.frame.voxels
        found.stored[name] = sum(map(len, contents)) / raw
        found.stored[f"{name}.gz"] = sum(len(gzip.compress(c, 6)) for c in contents) / raw
    folder = Path(run.output.path.removeprefix("file://"))
    rows = sum(_size(folder / name) for name in (".cnapse", "tables", "measures"))
    rows += sum(file.stat().st_size for file in folder.glob("*.csv"))
    um3 = run.region.voxels * run.region.voxel_volume_nm3 / 1e9
    if run.has_cells:
        found.stored["synapse"] = rows / max(1.0, tissue.density_um3 * um3)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# --- the engine ---------------------------------------------------------------------------------


def _measure_engine(found: _Found, folder: Path) -> None:
    """What a task costs beside its work, through a queue of files."""
    queue = queues.open_queue(f"fq://{folder / 'queue'}")
    records = Store(folder / "records")
    ledger = Ledger(records, "label")
    tasks = [functools.partial(run_task, records.path, "label", n, "") for n in range(_TASKS)]
    queues.insert(queue, tasks)
    for index in range(_TASKS):
        began = time.perf_counter()
        message = queues.lease(queue, 60)
        ledger.is_done(index)
        ledger.note(index)
        ledger.begin(index, 60)
        ledger.record(index, "", {})
        if message is not None:
            queues.delete(queue, message)
        found.add("task", time.perf_counter() - began)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
