"""The pages that are made from the code, and the quotations from it."""

import ast
import re
import sys
from pathlib import Path

import pytest

import cnapse.errors
from cnapse.config import Config
from cnapse_cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "generate"))
import commands  # noqa: E402 - made importable above
import options  # noqa: E402


@pytest.fixture(scope="module")
def sections() -> dict[str, options.Section]:
    return {section.name: section for section in options.sections()}


def test_every_option_is_described(sections) -> None:
    missing = [
        f"{section.name}.{option.name}"
        for section in sections.values()
        for option in section.options
        if len(option.meaning) < 10
    ]
    assert missing == [], "give each a docstring below its field in cnapse/config.py"


def test_no_option_is_left_out(sections) -> None:
    parts = {name: part for name, part in sections.items() if name}
    tops = {option.name for option in sections[""].options}
    for name, field in Config.model_fields.items():
        if name in tops:
            continue
        model = next(
            (a for a in [field.annotation, *getattr(field.annotation, "__args__", ())]
             if hasattr(a, "model_fields")), None,
        )  # fmt: skip
        assert model is not None, name
        assert [o.name for o in parts[name].options] == list(model.model_fields), name


def test_units_and_defaults(sections) -> None:
    found = {(s.name, o.name): o for s in sections.values() for o in s.options}
    assert found["", "resolution"].unit == "nm"
    assert found["", "resolution"].default == "**required**"
    assert found["label", "threshold"].type == "number above 0 and at most 1"
    assert found["label", "threshold"].default == "default `0.5`"
    assert found["label", "channel"].type == "whole number at least 0 or text"
    assert found["assign", "padding_nm"].unit == "nm"
    assert "`100.0` with preset `cnapse`" in found["assign", "padding_nm"].default
    assert found["assign", "min_share"].default.count("preset") == 2
    assert found["detect", "precision"].type == '`"float32"` or `"bfloat16"`'
    assert found["detect", "tile"].type == "two whole numbers, each at least 1"
    assert found["pyramid", "levels"].type == "whole number from 0 to 12"
    assert found["layers", "cells"].type == "path or table"


def test_every_option_of_assignment_has_the_presets_default(sections) -> None:
    """None in the file means: as the preset has it."""
    for option in sections["assign"].options:
        assert option.default, option.name
        assert "null" not in option.default


def test_every_command_is_there() -> None:
    page = commands.page()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"## `cnapse {name}` " in page
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            name = command.name or command.callback.__name__
            assert f"## `cnapse {group.name} {name}` " in page


def test_every_option_of_every_command_is_there() -> None:
    for command in commands.commands():
        records = dict(command.records())
        assert records or command.words.endswith("evaluate run"), command.words
        for written in records:
            assert "<" not in written, (command.words, written)
        assert command.help, command.words
    worker = dict(next(c for c in commands.commands() if c.words == "cnapse worker").records())
    assert worker["--lease INT"].endswith("[default: 60; at least 10]")
    assert "--memory-limit NUMBER" in worker


def test_the_map_of_the_code_is_whole() -> None:
    """Every module and package of the library stands in the table of CONTRIBUTING."""
    page = (ROOT / "CONTRIBUTING.md").read_text().split("### `cnapse_tasks`")[0]
    here = {path.stem for path in (ROOT / "cnapse").glob("*.py")}
    here |= {path.parent.name for path in (ROOT / "cnapse").glob("*/__init__.py")}
    for name in here - {"__init__"}:
        assert re.search(rf"^\|[^|]*`{name}`", page, re.MULTILINE), name


# --- messages -------------------------------------------------------------------------------------

PAGE = (DOCS / "troubleshooting.md").read_text()
ANY = "\0"


def said(node: ast.expr) -> str | None:
    """A text as it stands in the code; what is put in is `ANY`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part) or ANY for part in node.values)
    return None


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """All texts in the code, but for docstrings."""
    found = {f"{ANY} = {ANY}: input should be {ANY}"}  # pydantic's, as cnapse.toml writes them
    for folder in ("cnapse", "tasks", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant | ast.JoinedStr) and (text := said(node)):
                    found.add(" ".join(text.split()) if ANY not in text else text)
    return sorted(found)


def quoted() -> list[str]:
    """The messages of the page: terms of its definition lists."""
    terms = re.findall(r"^(`{1,2}) ?(.+?) ?\1\n:   ", PAGE, re.MULTILINE)
    assert len(terms) > 120
    return [term for _, term in terms]


def is_said(term: str, messages: list[str]) -> bool:
    """Whether the code has a message of which this is an example.

    What the code puts in may be anything.
    """
    for told in (term, re.sub(r"^[A-Z.]+: ", "", term)):
        for message in messages:
            words = message.split(ANY)
            if 4 * len(message) < len(told) or not all(word in told for word in words):
                continue
            if re.fullmatch(".*?".join(map(re.escape, words)), told):
                return True
    # A message that is put together of several, or that the page cuts short.
    parts = re.split(r"…|\b[A-Z][A-Z_.]{3,}\b|, then run the same|\(a run goes", term)
    parts = [part.strip(" :.,;()'") for part in parts]
    return all(any(part in m for m in messages) for part in parts if len(part) > 7)


def test_quoted_messages_are_in_the_code(messages) -> None:
    assert not is_said("FILE: there is no such thing as this message: give another", messages)
    assert [term for term in quoted() if not is_said(term, messages)] == []


def test_every_kind_of_error_is_there() -> None:
    for name in cnapse.errors.__all__:
        if name.endswith("Error") and name != "CnapseError":
            assert re.search(rf"^###? {name}$", PAGE, re.MULTILINE), name
            doc = (getattr(cnapse.errors, name).__doc__ or "").split("\n")[0].split(":")[0]
            section = re.split(r"^###? ", PAGE.split(f"# {name}\n")[1], flags=re.MULTILINE)[0]
            assert doc.replace("``", "`").rstrip(".")[:40] in section, (name, doc)
