"""Writing chosen parameters into the ``[label]`` section of a `cnapse.toml`.

Only the lines of those keys change: comments, order and spacing of the file stay. The outcome is
read back and compared before anything is written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnapse.errors import ConfigError, storage_error

__all__ = ["label_lines", "write_label_section"]

_HEADER = re.compile(r"^\s*\[\s*label\s*\]\s*(#.*)?$")
_ANY_HEADER = re.compile(r"^\s*\[")


def label_lines(values: Mapping[str, float | int]) -> list[str]:
    """The section as it is written, to paste."""
    return ["[label]", *(f"{key} = {value!r}" for key, value in values.items())]


def write_label_section(path: Path, values: Mapping[str, float | int]) -> None:
    """Set keys of the ``[label]`` section.

    Parameters
    ----------
    path
        A ``cnapse.toml``.
    values
        Numbers, by key.

    Raises
    ------
    ConfigError
        If the section is written in a way that is not understood; the file is as it was.
    StorageError
        If the file cannot be written.
    """
    # Newlines as they are.
    with path.open(encoding="utf-8", newline="") as file:
        old = file.read()
    new = _edited(old, values)
    if _parsed(new) != _wanted(old, values):
        paste = "; ".join(label_lines(values))
        raise ConfigError(
            f"{path}: its label section is not written as [label] with a line for each key, so it "
            f"was left alone: set {paste} yourself"
        )
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(new)
        beside.chmod(path.stat().st_mode)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def _wanted(text: str, values: Mapping[str, float | int]) -> dict[str, Any]:
    content = tomllib.loads(text)
    return {**content, "label": {**content.get("label", {}), **values}}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _edited(text: str, values: Mapping[str, float | int]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    start = next((i for i, line in enumerate(lines) if _HEADER.match(line)), None)
    if start is None:
        return end.join([*lines, *([""] if lines else []), *label_lines(values), ""])
    rest = range(start + 1, len(lines))
    stop = next((i for i in rest if _ANY_HEADER.match(lines[i])), len(lines))
    missing = []
    for key, value in values.items():
        line = re.compile(rf"^(\s*{key}\s*=\s*)[^#]*?(\s*#.*)?$")
        places = [i for i in range(start + 1, stop) if line.match(lines[i])]
        if places:
            lines[places[0]] = line.sub(rf"\g<1>{value!r}\g<2>", lines[places[0]])
        else:
            missing.append(f"{key} = {value!r}")
    lines[start + 1 : start + 1] = missing
    return end.join([*lines, ""])
