"""`cnapse run`, `cnapse status`, `cnapse retry`, `cnapse cancel`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from cnapse.config import BoundsSection, Config, MeshesSection, load_config
from cnapse.errors import ConfigError

if TYPE_CHECKING:
    from cnapse_tasks.driver import StageStatus
    from cnapse_tasks.run import Run

__all__ = ["Bars", "cancel", "retry", "run", "status"]

ConfigPath = Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)]


_NAME_WIDTH = 17


class Bars:
    """A progress bar for each stage; in a file or a pipe, a line when it is done."""

    _bar: tqdm[Any] | None = None

    def begin(self, stage: str, total: int, done: int) -> None:
        """Show the bar of a stage."""
        is_seen = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=f"{stage:<{_NAME_WIDTH}}",
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
            metavar="X0 Y0 Z0 X1 Y1 Z1",
            help="Only these voxels count, from the first to one past the last, at the working "
            "resolution.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            help="Fill this queue (fq://, sqs://) and wait; `cnapse worker` works it off."
        ),
    ] = None,
    gpu_queue: Annotated[
        str | None,
        typer.Option(help="With --queue: one for `detect` alone, for workers with a GPU."),
    ] = None,
    meshes: Annotated[
        bool, typer.Option("--meshes", help="Also make meshes of cells and synapses.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="In the end write report.html, as `cnapse report`.")
    ] = False,
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
    from cnapse_tasks import properties
    from cnapse_tasks.driver import Options, plan_costs, run_stages
    from cnapse_tasks.missing import missing_notes
    from cnapse_tasks.run import Run

    loaded = _with_bounds(load_config(config), bounds)
    if meshes and loaded.meshes is None:
        loaded = loaded.model_copy(update={"meshes": MeshesSection()})
    if gpu_queue and not queue:
        raise ConfigError("--gpu-queue is for `detect` alone: give the others' --queue, too")
    if report and last is not None:
        raise ConfigError("--report is about a whole run: leave --to out, or `cnapse report` later")
    options = Options(
        first=first,
        last=last,
        workers=workers or os.cpu_count() or 1,
        redo=redo,
        queue=queue,
        gpu_queue=gpu_queue,
    )
    data = open_run(loaded)
    data.check_overlap()
    for note in data.overlap_notes():
        print(note)
    if dry_run:
        _print_costs(plan_costs(loaded, options))
        return
    with _terminated_as_interrupted():
        run_stages(loaded, options, Bars())
    if last is None:
        made = Run(loaded)
        for line in (*outcome(data), *missing_notes(made), *properties.notes(made)):
            print(line)
        if report:
            print(f"report: {_write_report(made)}")


def _write_report(run: Run) -> str:
    from cnapse.analysis.report.page import Options, write_report
    from cnapse_tasks.history import run_history

    return write_report(run, run_history(run), Options()).removeprefix("file://")


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
    print(f"{'stage':<{_NAME_WIDTH}} {'tasks':>10}{'Mvoxels':>12}{'MB read':>12}{'MB written':>12}")
    for name, cost in costs:
        tasks = "later" if cost.tasks is None else str(cost.tasks)
        sizes = (cost.voxels, cost.bytes_read, cost.bytes_written)
        print(
            f"{name:<{_NAME_WIDTH}} {tasks:>10}"
            + "".join(f"{size / 1e6:>12,.1f}" for size in sizes)
        )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C: workers are stopped, nothing is left behind."""

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def status(
    config: ConfigPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell how far each stage is, how long it takes on, and what failed."""
    from cnapse_tasks.driver import status as stage_status

    states = stage_status(load_config(config))
    if as_json:
        print(json.dumps([_as_json(state) for state in states], indent=1))
    else:
        _print_states(states)
    if any(state.aside for state in states):
        raise typer.Exit(1)


def _as_json(state: StageStatus) -> dict[str, object]:
    return {
        **dataclasses.asdict(state),
        "complete": state.complete,
        "seconds_left": state.seconds_left,
    }


def _print_states(states: Sequence[StageStatus]) -> None:
    for state in states:
        total = "?" if state.total is None else state.total
        aside = f"   {len(state.aside)} set aside" if state.aside else ""
        rate = ""
        if state.seconds_left is not None:
            rate = (
                f"   {60 * state.tasks_per_second:.3g} tasks a minute, "
                f"{timedelta(seconds=round(state.seconds_left))} left"
            )
        print(f"{state.stage:<{_NAME_WIDTH}} {state.done:>8} / {total}{rate}{aside}")
    for failure in [failure for state in states for failure in state.aside]:
        print(f"\n{failure.stage} task {failure.index}, {failure.tries} tries: {failure.reason}")
        print(failure.traceback.rstrip())


def retry(config: ConfigPath) -> None:
    """Make tasks that were set aside new again: a driver at work, or the next run, tries them."""
    from cnapse_tasks.driver import retry as retry_tasks

    found = retry_tasks(load_config(config))
    for stage, number in found.items():
        print(f"{stage}: {number} tasks are new again")
    if not found:
        print("no task was set aside")


def cancel(config: ConfigPath) -> None:
    """Stop a run wherever it is worked at; `cnapse run` goes on with it."""
    from cnapse_tasks.driver import cancel as cancel_run

    loaded = load_config(config)
    cancel_run(loaded)
    print(f"{loaded.output}: drivers end within seconds, workers pass over the tasks that are left")
