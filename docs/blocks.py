"""The code blocks of a page, and a shell that runs those of them that are commands.

`tests/docs/test_blocks.py` runs every block of every page. What cannot run there says so in front
of it, in a comment that readers do not see::

    <!-- not run: needs docker -->
    ```sh
    docker build .
    ```

The shell knows what the pages use: ``cnapse`` and ``python``, both in this process (a process takes
longer to start than most commands to run), and a few commands on files.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cnapse_cli import main as cli

__all__ = ["Block", "Shell", "blocks_of", "command_lines", "parse_options"]

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^\n]+?) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_SHELLS = ("sh", "bash")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code.

    Parameters
    ----------
    page : str
        Name of the file.
    line : int
        Its first line there, from 1.
    language : str
        ``sh``, ``python``, ``toml``, ...; ``sh`` for one without that begins with a command.
    title : str
        Name of the file that it is, if it is one: ``title="cnapse.toml"``.
    text : str
    reason : str
        Why it is not run; empty if it is.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    reason: str

    @property
    def is_shell(self) -> bool:
        """Whether it is made of commands."""
        return self.language in _SHELLS


def blocks_of(path: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        words = shlex.split(match["info"])
        titles = [word.removeprefix("title=") for word in words if word.startswith("title=")]
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        language = words[0] if words else "sh" if body.startswith("cnapse ") else ""
        line = text.count("\n", 0, match.start("text")) + 1
        title = titles[0] if titles else ""
        found.append(Block(path.name, line, language, title, body, match["reason"] or ""))
    return found


def command_lines(text: str) -> Iterator[tuple[list[str], str, str]]:
    """The commands of a block: their words, where their output goes, and what they are given.

    Long lines that end in a backslash are put together; of ``<< END`` the lines up to it follow as
    the third.
    """
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        here = re.search(r" << (\w+)$", line)
        given = ""
        if here:
            line = line[: here.start()]  # noqa: PLW2901 - what is left of it
            given = "".join(f"{part}\n" for part in _until(lines, here[1]))
        words = shlex.split(line, comments=True)
        to = ""
        if ">" in words:
            to = words[words.index(">") + 1]
            words = words[: words.index(">")]
        if words:
            yield words, to, given


def _until(lines: Iterator[str], end: str) -> Iterator[str]:
    for line in lines:
        if line == end:
            return
        yield line


def parse_options(words: list[str]) -> None:
    """Parse the words after ``cnapse`` without doing anything.

    Raises
    ------
    Exception
        Of the parser of options, if they cannot be understood.
    """
    command = _command_line()
    try:
        context = command.make_context("cnapse", list(words))
        while hasattr(command, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
    except typer.Exit:
        return  # `--help`, and others that do their work at once: it was understood


@functools.cache
def _command_line() -> Any:
    return typer.main.get_command(cli.app)


class Shell:
    """Runs commands in a folder.

    Parameters
    ----------
    folder : Path
        Where it begins; ``cd`` moves it.
    instead : mapping of str
        What is put in place of parts of a block: smaller shapes, ids of this very run.
    """

    def __init__(self, folder: Path, instead: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.instead = instead or {}
        self.names: dict[str, object] = {"__name__": "__main__"}

    def run(self, block: Block) -> str:
        """Run a block of commands or of Python; what it printed.

        Raises
        ------
        RuntimeError
            If a command fails, or is none that this shell knows.
        """
        text = self._replaced(block.text)
        with contextlib.chdir(self.folder):
            if block.is_shell:
                said = [self._command(*line, block=block) for line in command_lines(text)]
                return "".join(said)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = compile("\n" * (block.line - 1) + text, block.page, "exec")
                exec(code, self.names)  # noqa: S102 - the pages are ours
            return out.getvalue()

    def write(self, block: Block) -> None:
        """Make the file that a block is."""
        (self.folder / block.title).write_text(self._replaced(block.text), encoding="utf-8")

    def _replaced(self, text: str) -> str:
        for old, new in self.instead.items():
            text = text.replace(old, new)
        return text

    def _command(self, words: list[str], to: str, given: str, *, block: Block) -> str:
        name, *rest = words
        if name.startswith("PYTHONPATH="):
            with _importable(Path(name.partition("=")[2])):
                return self._command(rest, to, given, block=block)
        if name == "cnapse":
            said = _called(["cnapse", *rest])
        elif name == "python" and rest and rest[0].endswith(".py"):
            said = _script(rest)
        elif name == "cat" and not rest:
            said = given
        elif name == "head":
            lines = Path(rest[1]).read_text(encoding="utf-8").splitlines(keepends=True)
            said = "".join(lines[: int(rest[0].lstrip("-n"))])
        elif name == "mkdir":
            Path(rest[-1]).mkdir(parents="-p" in rest, exist_ok="-p" in rest)
            said = ""
        elif name == "cp":
            shutil.copy(rest[0], rest[1])
            said = ""
        elif name == "cd":
            os.chdir(rest[0])
            self.folder = Path.cwd()
            said = ""
        else:
            raise RuntimeError(
                f"{block.page}, line {block.line}: `{name}` cannot be run here: teach it to "
                "docs/blocks.py, or say `<!-- not run: REASON -->` in front of the block"
            )
        if to:
            Path(to).write_text(said, encoding="utf-8")
            return ""
        return said


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported."""
    before = list(sys.path)
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path[:] = before


def _called(words: list[str]) -> str:
    """Call the command in this process; what it printed."""
    out, arguments = io.StringIO(), sys.argv
    sys.argv = words
    code: object = 0
    try:
        with contextlib.redirect_stdout(out):
            cli.main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = arguments
    if code:
        raise RuntimeError(f"{shlex.join(words)} ended with {code}\n{out.getvalue()}")
    return out.getvalue()


def _script(words: list[str]) -> str:
    """Run a script of the project in this process; what it printed."""
    out, arguments = io.StringIO(), sys.argv
    path = ROOT / words[0] if (ROOT / words[0]).is_file() else Path(words[0])
    sys.argv = [str(path), *words[1:]]
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = arguments
    return out.getvalue()
