"""`cnapse evaluate review`: how good a run is, from what its reviewers decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cnapse.errors import ReviewError, storage_error

__all__ = ["review"]


def review(
    config: Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)],
    log: Annotated[
        Path | None,
        typer.Option("--log", help="The log (default: review/log.sqlite in the run's output)."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="Sample to judge by (default: the one of which most is decided)."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw calibration and size cuts to this file (.png, .svg or .pdf)."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures to this file.")
    ] = None,
) -> None:
    """Precision, recall, calibration, the best size cut, and reviewers' agreement and rate."""
    from cnapse.review.evaluation import evaluate_review
    from cnapse.review.evaluation_report import draw_review, review_report
    from cnapse.review.items import Candidates
    from cnapse.review.log import DecisionLog, log_path
    from cnapse.runs import open_run

    run = open_run(config)
    with DecisionLog(log_path(run.config.output, log), create=False) as opened:
        chosen = None if sample is None else opened.sample(sample)
        if sample is not None and chosen is None:
            known = ", ".join(map(repr, opened.samples())) or "none"
            raise ReviewError(f"--sample {sample}: the log has no such sample, but {known}")
        found = evaluate_review(opened, Candidates.load(run), chosen)
    print(review_report(found))
    if as_json is not None:
        try:
            text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
            as_json.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise storage_error(error, as_json) from error
    if picture is not None:
        draw_review(found, picture)
        print(f"\npicture in {picture}")
