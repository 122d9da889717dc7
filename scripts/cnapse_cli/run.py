"""`cnapse run`, `cnapse status`, `cnapse worker`."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from cnapse.config import BoundsSection, Config, load_config
from cnapse.errors import ConfigError

__all__ = ["Bars", "run", "status", "worker"]

ConfigPath = Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)]


class Bars:
    """A progress bar for each stage; in a file or a pipe, a line when it is done."""

    _bar: tqdm[Any] | None = None

    def begin(self, stage: str, total: int, done: int) -> None:
        """Show the bar of a stage."""
        is_seen = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=f"{stage:<9}",
            unit="task",
            file=sys.stderr,
            mininterval=0.1 if is_seen else math.inf,
            bar_format="{desc} |{bar:24}| {n_fmt}/{total_fmt} {elapsed}",
        )

    def update(self, done: int) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def end(self) -> None:
        """Leave it as it is."""
        if self._bar is not None:
            self._bar.close()


def run(
    config: ConfigPath,
    first: Annotated[
        str | None, typer.Option("--from", help="Begin with this stage.", show_default=False)
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="End with this stage.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes on this machine. Default: one per core.", min=1),
    ] = None,
    bounds: Annotated[
        tuple[int, int, int, int, int, int] | None,
        typer.Option(
            help="Only these voxels count, X0 Y0 Z0 X1 Y1 Z1 at the working resolution.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            help="Fill this queue (fq://, sqs://) and wait; `cnapse worker` works it off."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages, tasks, voxels and bytes; do nothing.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Make again what other parameters have made.")
    ] = False,
) -> None:
    """Do all stages of a run, or what is missing of them; say what it found."""
    from cnapse.outcome import outcome
    from cnapse.runs import open_run
    from cnapse_tasks.driver import Options, plan_costs, run_stages

    loaded = _with_bounds(load_config(config), bounds)
    options = Options(
        first=first, last=last, workers=workers or os.cpu_count() or 1, redo=redo, queue=queue
    )
    data = open_run(loaded)
    data.check_overlap()
    for note in data.overlap_notes():
        print(note)
    if dry_run:
        _print_costs(plan_costs(loaded, options))
        return
    run_stages(loaded, options, Bars())
    if last is None:
        for line in outcome(data):
            print(line)


def _with_bounds(config: Config, bounds: tuple[int, ...] | None) -> Config:
    if bounds is None:
        return config
    start, stop = bounds[:3], bounds[3:]
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        raise ConfigError(f"--bounds: start {start} must be below stop {stop} in every axis")
    x, y, z = start
    u, v, w = stop
    return config.model_copy(update={"bounds": BoundsSection(start=(x, y, z), stop=(u, v, w))})


def _print_costs(costs: list[tuple[str, Any]]) -> None:
    print(f"{'stage':<10}{'tasks':>10}{'Mvoxels':>12}{'MB read':>12}{'MB written':>12}")
    for name, cost in costs:
        tasks = "later" if cost.tasks is None else str(cost.tasks)
        sizes = (cost.voxels, cost.bytes_read, cost.bytes_written)
        print(f"{name:<10}{tasks:>10}" + "".join(f"{size / 1e6:>12,.1f}" for size in sizes))


def status(config: ConfigPath) -> None:
    """Tell how far each stage is, and what failed."""
    from cnapse_tasks.driver import status as stage_status

    states = stage_status(load_config(config))
    for state in states:
        total = "?" if state.total is None else state.total
        aside = f"   {len(state.aside)} set aside" if state.aside else ""
        print(f"{state.stage:<10}{state.done:>8} / {total}{aside}")
    failures = [failure for state in states for failure in state.aside]
    for failure in failures:
        print(f"\n{failure.stage} task {failure.index}, {failure.tries} tries: {failure.reason}")
        print(failure.traceback.rstrip())
    if failures:
        raise typer.Exit(1)


def worker(
    queue: Annotated[str, typer.Argument(help="URL of the queue: fq://FOLDER or sqs://NAME.")],
    lease: Annotated[
        int, typer.Option(help="Seconds a task is kept from others; renewed while it runs.", min=10)
    ] = 60,
    idle: Annotated[
        float | None,
        typer.Option(help="Stop after so many seconds without a task. Default: never."),
    ] = None,
) -> None:
    """Work off a queue, until stopped."""
    from cnapse_tasks.worker import work

    print(f"waiting for tasks in {queue}; Ctrl-C ends it after the task at hand", flush=True)
    report = work(queue, lease_seconds=lease, idle_seconds=idle)
    print(f"{report.executed} tasks done, {report.failed} failed")
