"""`cnapse decisions`: reviewers' decisions out of a run's log and into it."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import LayerExistsError, storage_error

if TYPE_CHECKING:
    from cnapse.review.items import Filter
    from cnapse.runs import RunData

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Reviewers' decisions: bring them out of a run's log, or into it.",
)

ConfigPath = Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)]
LogFile = Annotated[
    Path | None,
    typer.Option("--log", help="The log (default: review/log.sqlite in the run's output)."),
]


class FormatName(StrEnum):
    """How decisions are written."""

    JSON = "json"
    CSV = "csv"
    CAVE = "cave"
    NEUROGLANCER = "neuroglancer"


FormatOption = Annotated[
    FormatName | None,
    typer.Option("--format", help="Default: by the name's ending, or by what is in the file."),
]


@app.command("export")
def export(
    config: ConfigPath,
    file: Annotated[Path, typer.Argument(help="File to write: .json or .csv.", show_default=False)],
    kind: FormatOption = None,
    log: LogFile = None,
    unit: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            "--resolution",
            help="cave, neuroglancer: nm of a unit of positions X Y Z (default: 1 1 1; for "
            "neuroglancer the run's voxels).",
        ),
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(
            help="neuroglancer: which candidates: open, decided, true, false or unsure "
            "(default: open)."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(help="neuroglancer: so many, the most doubtful first.", min=1)
    ] = 1000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Write decisions to a file; json and csv hold all of the log, and can be imported again."""
    from cnapse.review.exchange import export_bytes
    from cnapse.review.items import Candidates
    from cnapse.review.log import DecisionLog, log_path
    from cnapse.runs import open_run

    run = open_run(config)
    how = kind or (FormatName.CSV if file.suffix.lower() == ".csv" else FormatName.JSON)
    if file.exists() and not overwrite:
        raise LayerExistsError(f"{file} is there already: give another name, or --overwrite")
    candidates = Candidates.load(run)
    with DecisionLog(
        log_path(run.config.output, log), create=how is FormatName.NEUROGLANCER
    ) as opened:
        rows = None
        if how is FormatName.NEUROGLANCER:
            rows = candidates.select(
                "doubt", _filter(verdict or "open"), standing=opened.standing()
            )[:limit].tolist()
        content = export_bytes(
            opened, how.value, candidates, rows=rows, unit_nm=unit or _unit(run, how)
        )
        n = len(rows) if rows is not None else len(opened)
    try:
        file.write_bytes(content)
    except OSError as error:
        raise storage_error(error, file) from error
    what = "candidates" if rows is not None else "decisions in the log"
    print(f"{n:,} {what}; written to {file} ({how.value})")


@app.command("import")
def import_(
    config: ConfigPath,
    source: Annotated[
        str,
        typer.Argument(
            help="A file of `cnapse decisions export`; a CSV with syn_id and verdict; a table for "
            "CAVE; a state or link of Neuroglancer.",
            show_default=False,
        ),
    ],
    kind: FormatOption = None,
    reviewer: Annotated[
        str | None,
        typer.Option(help="Who decided, where the file does not tell (default: your login)."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            help="neuroglancer: the state as it was exported; points deleted since are false."
        ),
    ] = None,
    unit: Annotated[
        tuple[float, float, float],
        typer.Option("--resolution", help="cave: nm of a unit of positions, X Y Z."),
    ] = (1.0, 1.0, 1.0),
    log: LogFile = None,
) -> None:
    """Add decisions to the log: all of a file, or, if one is wrong, none. Twice adds nothing."""
    from cnapse.review.exchange import Context, import_decisions
    from cnapse.review.items import Candidates
    from cnapse.review.log import DecisionLog, log_path
    from cnapse.runs import open_run

    run = open_run(config)
    context = Context(Candidates.load(run), reviewer or getpass.getuser(), unit, before)
    with DecisionLog(log_path(run.config.output, log)) as opened:
        done = import_decisions(opened, source, context, kind.value if kind else None)
        total = len(opened)
    print(f"{done.added:,} decisions added, {done.known:,} known already; {total:,} in the log")
    if done.elsewhere:
        print(
            f"note: {done.elsewhere:,} are about synapses that this run's table does not have; "
            "`cnapse apply` looks for them by place"
        )


def _filter(verdict: str) -> Filter:
    from cnapse.errors import ConfigError
    from cnapse.review.items import VERDICT_FILTERS, Filter

    for known in VERDICT_FILTERS:
        if verdict == known:
            return Filter(verdict=known)
    raise ConfigError(f"--verdict {verdict}: it is one of {', '.join(VERDICT_FILTERS)}")


def _unit(run: RunData, kind: FormatName) -> tuple[float, float, float]:
    return run.config.resolution if kind is FormatName.NEUROGLANCER else (1.0, 1.0, 1.0)
