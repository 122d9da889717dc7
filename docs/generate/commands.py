"""The page of all commands and their options, from the command line's own definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from cnapse_cli.main import app

__all__ = ["Command", "commands", "page"]

_HEAD = """\
# All commands

What `cnapse COMMAND --help` says, for every command. An error is one line and exit code 1;
`cnapse --debug COMMAND ...` shows the traceback as well. `Ctrl-C` stops any command; what it had
done stays, and the same command goes on from there. Options with `...` may be given several times.

"""


class Command:
    """One command: its name as it is typed, its help, its arguments and options.

    Parameters
    ----------
    words : str
        ``cnapse evaluate partners``
    command
        As typer makes it.
    """

    def __init__(self, words: str, command: Any) -> None:
        self.words = words
        self._command = command
        self._context = command.context_class(command, info_name=words)

    @property
    def anchor(self) -> str:
        """Where it stands in the page."""
        return self.words.replace(" ", "-")

    @property
    def usage(self) -> str:
        """How it is called."""
        pieces = self._command.collect_usage_pieces(self._context)
        return f"{self.words} {' '.join(pieces)}"

    @property
    def help(self) -> str:
        """What it does; paragraphs stand apart by an empty line."""
        return str(self._command.help or "").strip()

    def records(self) -> Iterator[tuple[str, str]]:
        """Each argument and option: how it is written, and what it means."""
        for parameter in self._command.get_params(self._context):
            record = parameter.get_help_record(self._context)
            if record is not None and "--help" not in record[0]:
                yield _types(record[0]), _ranges(record[1])


def commands() -> list[Command]:
    """All commands in the order of the help; those of a group after its own line."""
    found = []
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append(Command(f"cnapse {name}", command))
        else:
            found += [Command(f"cnapse {name} {n}", c) for n, c in inner.items()]
    return found


def page() -> str:
    """The page, as Markdown."""
    known = commands()
    rows = [f"- [`{c.words}`](#{c.anchor}): {_first(c.help)}" for c in known]
    return _HEAD + "\n".join(rows) + "\n" + "".join(_written(c) for c in known)


def _written(command: Command) -> str:
    lines = [f"\n## `{command.words}` {{ #{command.anchor} }}\n", f"{_text(command.help)}\n"]
    lines.append(f"```text\n{command.usage}\n```\n")
    for name, meaning in command.records():
        lines.append(f"`{name}`\n:   {_text(meaning) or '&nbsp;'}\n")
    return "\n".join(lines)


_KINDS = {"int": "INT", "float": "NUMBER", "str": "TEXT", "path": "PATH"}


def _types(text: str) -> str:
    """How an option is written: ``--bounds <int,int,int>...`` as ``--bounds INT INT INT``."""

    def named(found: re.Match[str]) -> str:
        kind = found[1].removesuffix(" range")
        if kind.startswith("list["):
            return f"{_KINDS[kind[5:-1]]} ..."
        return " ".join(_KINDS.get(part, part) for part in kind.split(","))

    return re.sub(r"<([^>]*)>(\.\.\.)?", named, " ".join(text.split()))


def _ranges(text: str) -> str:
    """What an option means, its range in words."""
    line = " ".join(text.split())
    line = re.sub(r"([\d.]+)<=x<=([\d.]+)", r"from \1 to \2", line)
    return re.sub(r"x>=([\d.]+)", r"at least \1", re.sub(r"x<=([\d.]+)", r"at most \1", line))


def _first(text: str) -> str:
    return _text(" ".join(text.split("\n\n", maxsplit=1)[0].split()))


def _text(text: str) -> str:
    """Help as Markdown: what would be markup is written out; the `words` in quotes stay."""
    parts = re.split(r"(`[^`\n]*`)", text.replace("``", "`"))
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_<>\[\]{}])", r"\\\1", part) for part in parts
    )
