"""The `cnapse` command and how it fails: one line, a non-zero exit, a traceback with --debug."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from cnapse.errors import CnapseError
from cnapse_cli import commands

__all__ = ["app", "main"]

app = typer.Typer(
    name="cnapse",
    help="Find chemical synapses in volume electron microscopy, and who talks to whom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    os.environ["CNAPSE_DEBUG"] = "1" if debug else os.environ.get("CNAPSE_DEBUG", "")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


commands.register(app)


def main() -> None:
    """Run the command; print an error as one line."""
    try:
        app()
    except CnapseError as error:
        _fail(error, str(error))
    except PermissionError as error:
        _fail(error, f"no permission: {error.filename}: {error.strerror}")
    except OSError as error:
        _fail(error, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except KeyboardInterrupt:
        sys.exit("cnapse: stopped; run the same command again to go on")


def _fail(error: BaseException, message: str) -> None:
    if os.environ.get("CNAPSE_DEBUG"):
        raise error
    sys.exit(f"cnapse: {' '.join(message.split())}")
