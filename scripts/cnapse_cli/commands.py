"""All commands, in the order in which the help shows them; groups come after the others."""

from __future__ import annotations

import typer

from cnapse_cli import (
    annotate,
    apply,
    connectome,
    decisions,
    demo,
    detect,
    evaluate,
    explain,
    groundtruth,
    ingest,
    init,
    link,
    merge,
    model,
    phantom,
    picture,
    plain,
    plan,
    plot,
    query,
    queue,
    repaint,
    report,
    review,
    run,
    train,
    view,
)

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Put every command on the app."""
    for command in (
        demo.demo,
        ingest.ingest,
        init.init,
        detect.detect,
        plan.plan,
        run.run,
        run.status,
        run.retry,
        run.cancel,
        queue.queue,
        queue.worker,
        plain.measure,
        plain.partners,
        merge.merge,
        apply.apply,
        connectome.connectome,
        query.query,
        report.report,
        annotate.annotate,
        view.view,
        link.link,
        picture.picture,
        explain.explain,
        review.review,
        groundtruth.groundtruth,
        train.train,
        phantom.phantom,
    ):
        app.command()(command)
    app.add_typer(evaluate.app, name="evaluate")
    app.add_typer(decisions.app, name="decisions")
    app.add_typer(repaint.app, name="repaint")
    app.add_typer(model.app, name="model")
    app.add_typer(plot.app, name="plot")
