"""`cnapse plan`: what a run will take, before it is begun."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnapse.config import Config, load_config
from cnapse.errors import ConfigError

if TYPE_CHECKING:
    from cnapse_tasks.planning.estimate import Machines, Plan, Range
    from cnapse_tasks.planning.prices import Prices
    from cnapse_tasks.planning.rates import Rates
    from cnapse_tasks.planning.tissue import Tissue
    from cnapse_tasks.run import Run

__all__ = ["plan"]


def _print_prices(wanted: bool) -> None:
    if wanted:
        from cnapse_tasks.planning.prices import default_text

        print(default_text(), end="")
        raise typer.Exit


def plan(
    config: Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)],
    workers: Annotated[
        int | None,
        typer.Option(
            help="Workers of one core each. Default: this machine's cores.",
            min=1,
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        int, typer.Option(help="Graphics cards for `detect`, if detect.device is cuda.", min=1)
    ] = 1,
    gpu_rate: Annotated[
        float | None,
        typer.Option(
            help="Million voxels a second of `detect` on one card: measure it there.",
            show_default=False,
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            help="Synapses per cubic micrometre. Default: the calibrated sample's, else 1.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Measure the stages on this machine and a piece of the run's own layers; kept in "
            "the user's cache folder.",
        ),
    ] = False,
    seconds: Annotated[
        float, typer.Option(help="About how long --calibrate may take.", min=1)
    ] = 30.0,
    prices: Annotated[
        Path | None,
        typer.Option(help="Your price table (TOML); without one, examples.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    print_prices: Annotated[  # noqa: ARG001 - its callback ends the command
        bool,
        typer.Option(
            "--print-prices",
            callback=_print_prices,
            is_eager=True,
            help="Print the example price table, to be edited, and end.",
        ),
    ] = False,
) -> None:
    """Tell what a run will take: tasks, requests, memory, hours and money; nothing is run."""
    loaded = load_config(config)
    for name, value in (("--density", density), ("--gpu-rate", gpu_rate)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{name} {value:g}: must be above 0")
    from cnapse_tasks.planning import estimate
    from cnapse_tasks.planning.prices import prices as read_prices
    from cnapse_tasks.run import Run
    from cnapse_tasks.stages import stages_of

    table = read_prices(prices)
    run = Run(loaded)
    run.check_overlap()
    stages = stages_of(run)
    rates = _rates(loaded, seconds if calibrate else None)
    tissue = _tissue(rates, density)
    machines = estimate.Machines(
        workers or os.cpu_count() or 1, gpus, gpu_rate or table.gpu.mvox_per_second
    )
    found = estimate.plan_of(run, stages, tissue, rates, machines, table)
    if as_json:
        print(json.dumps(_as_json(found, rates, tissue, machines, table), indent=1))
        return
    for line in _report(run, found, rates, tissue, machines, table):
        print(line)


def _rates(config: Config, seconds: float | None) -> Rates:
    """Those measured now or kept from earlier, and what they lack from cnapse's own."""
    from cnapse_tasks.planning import cache
    from cnapse_tasks.planning.rates import reference

    if seconds is None:
        found = cache.kept(config)
        return reference() if found is None else found.over(reference())
    _prepare_process()
    from cnapse_tasks.planning.calibration import calibrate

    told: list[str] = []

    def tell(what: str) -> None:
        if what not in told:
            told.append(what)
            sys.stderr.write(f"measuring {what}\n")

    measured = calibrate(config, seconds, tell)
    cache.keep(config, measured)
    return measured.over(reference())


def _prepare_process() -> None:
    from cnapse_cli.detect import _prepare_process as prepare

    prepare()


def _tissue(rates: Rates, density: float | None) -> Tissue:
    from cnapse_tasks.planning.tissue import USUAL

    known = rates.tissue or USUAL
    if density is None:
        return known
    return replace(known, density_um3=density, low=density, high=density, source="--density")


# --- what is printed ----------------------------------------------------------------------------

_WIDTH = 100
_HEADER = (
    f"{'stage':<17}{'tasks':>7}{'voxels':>7}{'in':>8}{'out':>8}{'GET':>7}{'PUT':>7}{'LIST':>6}"
    f"{'memory':>9}{'core-h':>8}{'GPU-h':>7}{'wall':>9}"
)


def _report(
    run: Run, plan: Plan, rates: Rates, tissue: Tissue, machines: Machines, prices: Prices
) -> list[str]:
    size, synapses = _si(run.region.voxels), _si(plan.synapses.middle)
    lines = [f"{run.region}: {size} voxels, {synapses} synapses expected", "", _HEADER]
    for stage in plan.stages:
        load = stage.load
        unknown = load.on_gpu and stage.gpu_hours is None
        hours = "-" if load.on_gpu else _hours(stage.core_hours.middle)
        cards = "?" if unknown else "-" if stage.gpu_hours is None else ""
        lines.append(
            f"{load.stage:<17}{_si(load.tasks):>7}{_si(load.voxels):>7}"
            f"{_bytes(load.bytes_read):>8}{_bytes(load.bytes_written):>8}"
            f"{_si(load.requests.get):>7}{_si(load.requests.put):>7}{_si(load.requests.list):>6}"
            f"{load.memory_bytes / 1e9:>6.2f} GB{hours:>8}"
            f"{cards or _hours(stage.gpu_hours.middle if stage.gpu_hours else 0):>7}"
            f"{'?' if stage.wall_seconds is None else _clock(stage.wall_seconds.middle):>9}"
        )
    lines += [_total(plan), ""]
    lines += [*_ranges(plan, machines), ""]
    lines += [*_bill(plan, prices), ""]
    return lines + _assumptions(run, plan, rates, tissue, prices)


def _total(plan: Plan) -> str:
    loads = [stage.load for stage in plan.stages]
    asked = plan.requests
    unknown = any(s.wall_seconds is None for s in plan.stages)
    cards = _hours(plan.gpu_hours.middle) if plan.gpu_hours else "?" if unknown else "-"
    return (
        f"{'total':<17}{_si(sum(load.tasks for load in loads)):>7}"
        f"{_si(sum(load.voxels for load in loads)):>7}"
        f"{_bytes(sum(load.bytes_read for load in loads)):>8}"
        f"{_bytes(sum(load.bytes_written for load in loads)):>8}"
        f"{_si(asked.get):>7}{_si(asked.put):>7}{_si(asked.list):>6}"
        f"{max(load.memory_bytes for load in loads) / 1e9:>6.2f} GB"
        f"{_hours(plan.core_hours.middle):>8}{cards:>7}"
        f"{('> ' if unknown else '') + _clock(plan.wall_seconds.middle):>9}"
    )


def _ranges(plan: Plan, machines: Machines) -> list[str]:
    def ends(found: Range, shown: Callable[[float], str]) -> str:
        return f"{shown(found.middle)} ({shown(found.low)} to {shown(found.high)})"

    workers = f"{machines.workers} worker{'s' * (machines.workers > 1)}"
    files = sum(stage.load.files for stage in plan.stages)
    lines = [
        f"core-hours  {ends(plan.core_hours, _hours)}",
        f"wall time   {ends(plan.wall_seconds, _clock)} with {workers}",
        f"synapses    {ends(plan.synapses, _si)}",
        f"outputs     {_bytes(plan.stored_bytes)} in {_si(files)} files",
    ]
    if plan.gpu_hours is not None:
        cards = f"on {machines.gpus} cards at {machines.gpu_rate:g} Mvoxels a second"
        lines.insert(1, f"GPU-hours   {_hours(plan.gpu_hours.middle)} {cards}")
    return lines


def _bill(plan: Plan, prices: Prices) -> list[str]:
    label = "EXAMPLE prices" if prices.example else "prices"
    lines = [f"{label + ' of ' + prices.as_of + ', ' + prices.currency:<42}on demand       spot"]
    for money in plan.money:
        on_demand, spot = money.on_demand.middle, money.spot.middle
        lines.append(f"  {money.what:<38}{_cash(on_demand):>11}{_cash(spot):>11}")
    on_demand, spot = (
        sum(getattr(money, kind).middle for money in plan.money) for kind in ("on_demand", "spot")
    )
    low, high = (
        sum(getattr(money.on_demand, end) for money in plan.money) for end in ("low", "high")
    )
    together = f"  {'together':<38}{_cash(on_demand):>11}{_cash(spot):>11}"
    lines.append(f"{together}   on demand {_cash(low)} to {_cash(high)}")
    return lines


def _assumptions(run: Run, plan: Plan, rates: Rates, tissue: Tissue, prices: Prices) -> list[str]:
    from cnapse_tasks.planning.rates import reference

    theirs = rates.host == reference().host and rates.date == reference().date
    lines = ["assumed:"]
    if theirs:
        lines.append(
            f"  speed: of the machine of cnapse's developers ({rates.processor}, {rates.date}); "
            "--calibrate measures yours"
        )
    else:
        lines.append(
            f"  speed: measured on {rates.host} ({rates.processor}), {rates.date}, "
            f"over {rates.sample}"
        )
    lines.append(
        f"  density: {tissue.density_um3:.3g} synapses per um3 ({tissue.low:.3g} to "
        f"{tissue.high:.3g}), {tissue.source}; --density sets it"
    )
    if any(s.load.on_gpu for s in plan.stages) and plan.gpu_hours is None:
        lines.append(
            "  detect: how fast a GPU is only a GPU can tell, so its hours and money are left out: "
            "give --gpu-rate, or gpu.mvox_per_second in the price table"
        )
    if prices.example:
        lines.append(
            "  prices: examples from memory, not quotes; cnapse plan --print-prices > prices.toml, "
            "edit it, --prices prices.toml"
        )
    local = [p for p in {run.output.path, run.layer_path(run.first_layer)} if p.startswith("file:")]
    if local:
        lines.append(
            "  store: requests and storage are paid for as if all layers lay in a bucket; "
            f"{'some' if len(local) == 1 else 'they'} are on disk"
        )
    lines.append("  not counted: traffic between regions, the driver's polling, idle instances")
    return [part for line in lines for part in _wrapped(line)]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _si(value: float) -> str:
    """A number in at most six characters: 950, 12.3k, 1.2M."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:
            scaled = value / limit
            return f"{scaled:.0f}{unit}" if scaled >= 99.95 else f"{scaled:.3g}{unit}"
    return f"{value:.0f}" if value >= 1 or value == 0 else f"{value:.1g}"


def _bytes(value: float) -> str:
    return f"{_si(value)}B" if value else "0"


def _cash(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _hours(hours: float) -> str:
    if hours >= 1e5:
        return _si(hours)
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}" if hours >= 0.01 else f"{hours:.1g}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"
    days, rest = divmod(whole, 86400)
    hours, minutes, left = rest // 3600, rest % 3600 // 60, rest % 60
    if days >= 10:
        return f"{days} d"
    return f"{days} d {hours} h" if days else f"{hours}:{minutes:02}:{left:02}"


def _as_json(
    plan: Plan, rates: Rates, tissue: Tissue, machines: Machines, prices: Prices
) -> dict[str, Any]:
    return {
        "stages": [_without(asdict(stage)) for stage in plan.stages],
        "core_hours": asdict(plan.core_hours),
        "gpu_hours": asdict(plan.gpu_hours) if plan.gpu_hours else None,
        "wall_seconds": asdict(plan.wall_seconds),
        "requests": asdict(plan.requests),
        "synapses": asdict(plan.synapses),
        "stored_bytes": plan.stored_bytes,
        "money": [asdict(money) for money in plan.money],
        "machines": asdict(machines),
        "tissue": asdict(tissue),
        "rates": {"host": rates.host, "date": rates.date, "processor": rates.processor},
        "prices": {"as_of": prices.as_of, "example": prices.example, "currency": prices.currency},
    }


def _without(stage: dict[str, Any]) -> dict[str, Any]:
    return {**stage.pop("load"), **stage}
