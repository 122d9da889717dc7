"""`cnapse apply`: a corrected layer and tables from reviewers' decisions, beside the run's own."""

from __future__ import annotations

import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from cnapse.config import load_config

if TYPE_CHECKING:
    from cnapse_tasks.correct import Done
    from cnapse_tasks.run import Run

__all__ = ["apply"]

_CONFLICTS_SHOWN = 5
_NOTE = """\
# Corrected by `cnapse apply {config}`: look at it with `cnapse view`, `cnapse picture`, ...
# Do not `cnapse run` it: that would find the partners anew, also those that reviewers chose.
# To begin again from the corrected objects, copy this file and give another output.
"""


class Unsure(StrEnum):
    """What becomes of synapses of which a reviewer was not sure."""

    KEEP = "keep"
    DROP = "drop"


def apply(
    config: Annotated[
        Path, typer.Argument(help="The cnapse.toml of a finished run.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder to write to: a new one, or one of earlier corrections of this run, "
            "which is brought up to date.",
            show_default=False,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="The log (default: review/log.sqlite in the run's output)."),
    ] = None,
    unsure: Annotated[
        Unsure, typer.Option(help="Synapses that are unsure: keep or drop them.")
    ] = Unsure.KEEP,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")
    ] = False,
) -> None:
    """Make corrected synapses and tables from reviewers' decisions; only what changed is redone.

    The run's own layers and tables stay as they are. The folder gets the layer `synapses`, the
    tables, `changes.csv` (what came of each decision), `conflicts.csv` (what to look at again),
    and a `cnapse.toml` to view it with.
    """
    from cnapse.errors import ConfigError
    from cnapse.review.log import DecisionLog, log_path
    from cnapse_tasks.correct import Request, correct
    from cnapse_tasks.run import Run

    if output is None and not dry_run:
        raise ConfigError("-o is missing: give a folder to write to, or --dry-run")
    run = Run(load_config(config))
    path = log_path(run.config.output, log)
    with DecisionLog(path, create=False) as opened:
        decisions = list(opened.decisions())
    request = Request(
        output or "",
        "" if output is None else _config(run, config, output),
        str(path.parent / "repaints"),
        "keep" if unsure is Unsure.KEEP else "drop",
        dry_run,
    )
    with tqdm(
        desc="apply    ", unit="block", file=sys.stderr, disable=not sys.stderr.isatty()
    ) as bar:

        def moved(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        done = correct(run, decisions, request, moved)
    _tell(done, len(decisions), request.output, dry_run=dry_run)


def _config(run: Run, source: Path, output: str) -> str:
    """The text of the corrected run's configuration."""
    from cnapse_cli.merge import config_from_objects

    # Paths within the folder count from it, so that it can be moved.
    is_local = "://" not in output
    text = config_from_objects(
        run,
        "synapses" if is_local else f"{output}/synapses",
        "." if is_local else output,
    )
    return f"{_NOTE.format(config=source)}{text}\n"


def _tell(done: Done, decisions: int, output: str, *, dry_run: bool) -> None:
    actions = Counter(one.decision.action for one in done.plan.outcomes)
    applied = ", ".join(f"{n:,} {action}" for action, n in sorted(actions.items()))
    print(f"{decisions:,} decisions in the log; standing and applied: {applied or 'none'}")
    if dry_run:
        for outcome in done.plan.outcomes:
            now = " ".join(str(i) for i in outcome.now)
            print(f"  {outcome.decision.action} {now}: {outcome.what}")
    _tell_conflicts(done)
    might = "at most " if dry_run else ""
    redone = "to be computed again" if dry_run else "computed again"
    print(
        f"{might}{done.blocks_again:,} of {done.blocks:,} blocks, {done.synapses_again:,} of "
        f"{done.synapses:,} synapses {redone}"
    )
    if dry_run:
        print("nothing was written")
        return
    kinds = ", ".join(
        f"{done.provenance[kind]:,} {kind}"
        for kind in ("predicted", "confirmed", "corrected", "added")
        if kind in done.provenance
    )
    print(f"{done.synapses:,} synapses: {kinds or 'none'}")
    print(f"Then: cnapse view {output.rstrip('/')}/cnapse.toml")


def _tell_conflicts(done: Done) -> None:
    if not done.conflicts:
        print("no conflicts")
        return
    count = len(done.conflicts)
    print(f"{count:,} {'conflict' if count == 1 else 'conflicts'}, listed in conflicts.csv:")
    for conflict in done.conflicts[:_CONFLICTS_SHOWN]:
        about = f" {conflict.decision.syn_id}" if conflict.decision.syn_id else ""
        print(f"  {conflict.decision.action}{about} ({conflict.kind}): {conflict.what}")
    if count > _CONFLICTS_SHOWN:
        print(f"  and {count - _CONFLICTS_SHOWN:,} more")
