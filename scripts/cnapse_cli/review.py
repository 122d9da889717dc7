"""`cnapse review`: candidates and partners corrected in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from cnapse_cli.seeing import ConfigPath

__all__ = ["review"]


def review(
    config: ConfigPath,
    reviewer: Annotated[
        str | None, typer.Option(help="Your name; asked for in the browser if not given.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Where decisions are kept (default: review/log.sqlite in the output)."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    bind: Annotated[
        str, typer.Option(help="Address to listen on; another lets other machines in.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Correct the candidates and the partners of a run in the browser; needs no internet.

    Decisions go to a log; tables and layers stay as they are until `cnapse apply`.
    """
    from cnapse.review.web.serve import ReviewServer
    from cnapse.runs import open_run

    run = open_run(config)
    title = Path(config).absolute().parent.name
    server = ReviewServer(run, title, log=log, reviewer=reviewer, port=port, bind=bind)
    typer.echo(f"{title}: decisions go to {server.log.path}\n{server.address}")
    if server.for_others:
        typer.echo("Warning: whoever has this link can decide and read, from other machines.")
    typer.echo("Ctrl-C stops serving.")
    if browser:
        webbrowser.open(server.address)
    server.serve()
    typer.echo("\nstopped")
