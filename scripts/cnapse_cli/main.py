"""The `cnapse` command and how it fails: one line, a non-zero exit, a traceback with --debug."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from cnapse import __version__
from cnapse.errors import one_line_errors
from cnapse_cli import commands

__all__ = ["app", "main"]

# What typer makes of Ctrl-C, and what `cnapse run` makes of SIGTERM.
_INTERRUPTED = (130, 143)

app = typer.Typer(
    name="cnapse",
    help="Find chemical synapses in volume electron microscopy, and who talks to whom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"cnapse {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    os.environ["CNAPSE_DEBUG"] = "1" if debug else os.environ.get("CNAPSE_DEBUG", "")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


commands.register(app)


def main() -> None:
    """Run the command; print an error as one line."""
    try:
        with one_line_errors("cnapse"):
            app()
    except SystemExit as ended:
        if ended.code in _INTERRUPTED:
            sys.stderr.write("\ncnapse: stopped; run the same command again to go on\n")
        raise
