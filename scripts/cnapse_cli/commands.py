"""All commands, in the order in which the help shows them; groups come after the others."""

from __future__ import annotations

import typer

from cnapse_cli import (
    demo,
    evaluate,
    ingest,
    init,
    merge,
    phantom,
    picture,
    plain,
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
        run.run,
        run.status,
        run.worker,
        plain.measure,
        plain.partners,
        merge.merge,
        view.view,
        view.link,
        picture.picture,
        train.train,
        phantom.phantom,
    ):
        app.command()(command)
    app.add_typer(evaluate.app, name="evaluate")
