"""Hours and money of a run: its loads by the rates of a machine and a price table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cnapse_tasks.planning.loads import Load, load_of
from cnapse_tasks.planning.prices import Prices
from cnapse_tasks.planning.rates import Rate, Rates
from cnapse_tasks.planning.requests import Requests
from cnapse_tasks.planning.tissue import Tissue
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Stage

__all__ = ["Machines", "Money", "Plan", "Range", "StageEstimate", "plan_of"]

_HOUR = 3600.0
_MEGA = 1e6
_GIGA = 1e9
# What python-task-queue asks of SQS for one task: ten are sent at a time.
_MESSAGES_A_TASK = 0.1 + 1 + 1
# Of a lease, after how long it is renewed.
_RENEWED_AFTER = 1 / 3
# How often a worker asks whether the run is still wanted: two requests, round each task.
_IN_FORCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate, and the ends between which it should lie."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def times(self, n: float) -> Range:
        """So many of it."""
        return Range(n * self.low, n * self.middle, n * self.high)


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Machines:
    """What a run has to work with.

    Parameters
    ----------
    workers : int
        One core each.
    gpus : int
        For `detect`, if the run wants one.
    gpu_rate : float, optional
        Million voxels a second of `detect` on one of them.
    """

    workers: int
    gpus: int = 1
    gpu_rate: float | None = None


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """One stage.

    Parameters
    ----------
    load : Load
    core_hours : Range
    gpu_hours : Range, optional
        None for a stage that needs no GPU, and where the GPU's speed is not known.
    wall_seconds : Range, optional
        None where the GPU's speed is not known.
    """

    load: Load
    core_hours: Range
    gpu_hours: Range | None
    wall_seconds: Range | None


@dataclass(frozen=True, slots=True)
class Money:
    """One line of the bill, on demand and on interruptible instances."""

    what: str
    on_demand: Range
    spot: Range


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take.

    Parameters
    ----------
    stages : list of StageEstimate
    synapses : Range
        Expected number.
    stored_bytes : float
        Of all outputs, compressed.
    start_seconds : float
        Until the workers have begun.
    money : list of Money
    """

    stages: Sequence[StageEstimate]
    synapses: Range
    stored_bytes: float
    start_seconds: float
    money: Sequence[Money]

    @property
    def core_hours(self) -> Range:
        """Of all stages."""
        return sum((stage.core_hours for stage in self.stages), NOTHING)

    @property
    def gpu_hours(self) -> Range | None:
        """Of `detect`; None if it needs none, or its speed is not known."""
        return next((s.gpu_hours for s in self.stages if s.gpu_hours is not None), None)

    @property
    def wall_seconds(self) -> Range:
        """Of all stages whose time is known, one after the other."""
        known = (s.wall_seconds for s in self.stages if s.wall_seconds is not None)
        start = Range(self.start_seconds, self.start_seconds, self.start_seconds)
        return sum(known, start)

    @property
    def requests(self) -> Requests:
        """Of all stages."""
        return sum((stage.load.requests for stage in self.stages), Requests())


def plan_of(
    run: Run,
    stages: Sequence[Stage],
    tissue: Tissue,
    rates: Rates,
    machines: Machines,
    prices: Prices,
) -> Plan:
    """Estimate some stages of a run.

    Parameters
    ----------
    run : Run
    stages : sequence of Stage
    tissue : Tissue
    rates : Rates
        Of one core, for every unit of the stages' work.
    machines : Machines
    prices : Prices
    """
    cases = [
        [load_of(stage, run, replace(tissue, density_um3=density)) for stage in stages]
        for density in (tissue.low, tissue.density_um3, tissue.high)
    ]
    speed, lease = prices.cpu.speed, run.config.tasks.lease_seconds
    estimates = [
        _attended(_estimated(low, middle, high, rates, machines, speed), lease)
        for low, middle, high in zip(*cases, strict=True)
    ]
    um3 = run.region.voxels * run.region.voxel_volume_nm3 / _GIGA
    synapses = Range(tissue.low, tissue.density_um3, tissue.high).times(um3)
    loads = cases[1]
    kept = _stored_bytes(run, loads, synapses.middle, rates)
    plan = Plan(estimates, synapses, kept, rates.rates["start"].seconds, [])
    return replace(plan, money=_money(plan, prices, run.config.tasks.lease_seconds))


def _estimated(
    low: Load, middle: Load, high: Load, rates: Rates, machines: Machines, speed: float
) -> StageEstimate:
    seconds = Range(
        _core_seconds(low, rates, lambda rate: rate.low) / speed,
        _core_seconds(middle, rates, lambda rate: rate.seconds) / speed,
        _core_seconds(high, rates, lambda rate: rate.high) / speed,
    )
    if not middle.on_gpu:
        wall = seconds.times(_share(middle.tasks, machines.workers))
        # The first task of a stage also loads its kernels, in every worker.
        first = _alike(rates.rates, f"{middle.stage}.first").times(1 / speed)
        seconds += first.times(min(machines.workers, middle.tasks))
        wall += first.times(1 if middle.tasks else 0)
        return StageEstimate(middle, seconds.times(1 / _HOUR), None, wall)
    if machines.gpu_rate is None:
        return StageEstimate(middle, NOTHING, None, None)
    on_gpu = middle.predicted / (machines.gpu_rate * _MEGA)
    gpu = Range(on_gpu, on_gpu, on_gpu)
    wall = gpu.times(_share(middle.tasks, machines.gpus))
    return StageEstimate(middle, NOTHING, gpu.times(1 / _HOUR), wall)


def _attended(stage: StageEstimate, lease_seconds: float) -> StageEstimate:
    """With the requests that go with a task's time: is it still wanted, and it is still at hand."""
    busy = (stage.core_hours + (stage.gpu_hours or NOTHING)).middle * _HOUR
    asked = min(2.0 * stage.load.tasks, busy / _IN_FORCE_SECONDS)
    renewed = busy / (lease_seconds * _RENEWED_AFTER)
    more = Requests(get=2 * asked + renewed, put=renewed)
    return replace(stage, load=replace(stage.load, requests=stage.load.requests + more))


def _alike(rates: Mapping[str, Rate], name: str) -> Range:
    rate = rates.get(name)
    return NOTHING if rate is None else Range(rate.low, rate.seconds, rate.high)


def _core_seconds(load: Load, rates: Rates, of: Callable[[Rate], float]) -> float:
    total = 0.0
    for unit, amount in load.work.items():
        rate = rates.rates["task" if unit == "task" else f"{load.stage}.{unit}"]
        total += amount * of(rate)
    return total


def _share(tasks: int, workers: int) -> float:
    """Part of the whole work that the busiest worker does: the last tasks leave others idle."""
    return math.ceil(tasks / workers) / tasks if tasks else 0.0


def _stored_bytes(run: Run, loads: Sequence[Load], synapses: float, rates: Rates) -> float:
    local = run.output.path.startswith("file://")
    total = 0.0
    for load in loads:
        if load.stage in ("detect", "relabel"):
            total += load.bytes_written * _packed(load.stage, rates, local=local)
        if load.stage == "pyramid":
            # Both layers shrink alike: the finest scale's bytes tell the share of each.
            sizes = {"probability": 1, "synapses": 8}
            of = {"probability": "detect", "synapses": "relabel"}
            whole = sum(load.work.get(name, 0.0) * size for name, size in sizes.items())
            for name, size in sizes.items():
                share = load.work.get(name, 0.0) * size / whole if whole else 0.0
                total += load.bytes_written * share * _packed(of[name], rates, local=local)
    if any(load.stage == "shard" for load in loads):
        total *= 2
    if any(load.stage == "tabulate" for load in loads):
        total += synapses * rates.stored["synapse"]
    return total


def _packed(stage: str, rates: Rates, *, local: bool) -> float:
    name = "probability" if stage == "detect" else "synapses"
    return rates.stored[name if local else f"{name}.gz"]


def _money(plan: Plan, prices: Prices, lease_seconds: int) -> list[Money]:
    cpu, gpu = prices.cpu, prices.gpu
    by_core = NOTHING
    for stage in plan.stages:
        fitting = math.floor(cpu.memory_gb * _GIGA / stage.load.memory_bytes)
        used = max(1, min(cpu.cores, fitting))
        by_core += stage.core_hours.times(cpu.per_hour / used)
    lines = [Money("CPU instances", by_core, by_core.times(cpu.spot))]
    if plan.gpu_hours is not None:
        by_card = plan.gpu_hours.times(gpu.per_hour / gpu.gpus)
        lines.append(Money("GPU instances", by_card, by_card.times(gpu.spot)))
    asked, store = plan.requests, prices.store
    requests = (
        asked.put * store.per_1000_put
        + asked.get * store.per_1000_get
        + asked.list * store.per_1000_list
    ) / 1000
    kept = plan.stored_bytes / _GIGA * store.per_gb_month * store.months
    tasks = sum(stage.load.tasks for stage in plan.stages)
    busy = (plan.core_hours + (plan.gpu_hours or NOTHING)).middle * _HOUR
    messages = tasks * _MESSAGES_A_TASK + busy / (lease_seconds * _RENEWED_AFTER)
    queue = messages * prices.queue.per_million / _MEGA
    for what, value in (
        ("store: requests", requests),
        (f"store: outputs, {store.months:g} months", kept),
        ("queue", queue),
    ):
        lines.append(Money(what, Range(value, value, value), Range(value, value, value)))
    return lines
