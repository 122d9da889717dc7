"""Every code block of every page runs, or says why it does not."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from cnapse.config import Config
from cnapse.detection.settings import TrainConfig
from cnapse_tasks.planning.prices import prices
from docs.blocks import Block, Shell, blocks_of, command_lines, parse_options

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
KNOWN = {"sh", "bash", "python", "toml", "json", "csv", "text", ""}

# Pages whose blocks other tests run, and which. Here they are only read.
ELSEWHERE = {
    "annotations.md": "tests/cli/test_annotate.py",
    "tutorial.md": "tests/docs/conftest.py, followed",
}
# Their commands show something until they are stopped, or add to the run; what tests these.
SERVING = {
    "meshes.md": "tests/tasks/test_meshing.py",
    "viewing.md": "tests/viewing/test_commands.py",
}

# Pages that make a run of their own, in an empty folder.
ALONE = {"docs/evaluation.md"}


def named(block: Block) -> str:
    return f"{block.page}:{block.line}"


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_the_blocks_are_found() -> None:
    assert len(BLOCKS) > 80
    for block in BLOCKS:
        assert block.language in KNOWN, named(block)
    fences = sum(len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", of("sh", "bash"), ids=named)
def test_commands_are_understood(block) -> None:
    """Also those that are not run: there is such a command, with such options."""
    text = re.sub(r'"?\$\{?\w+\}?"?|\.\.\.|SYN_ID', "4", block.text)
    for words, _, _ in command_lines(text):
        if words[0] == "cnapse":
            parse_options(words[1:])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.reason], ids=named)
def test_reasons_name_what_there_is(block) -> None:
    for path in re.findall(r"tests/[\w/]+\.py", block.reason):
        assert (ROOT / path).is_file(), block.reason


@pytest.mark.parametrize("block", of("toml"), ids=named)
def test_toml(block, tmp_path) -> None:
    """A part of some file that cnapse reads, with the keys that it lacks filled in."""
    values = tomllib.loads(block.text)
    if isinstance(values.get("layers"), list) or "phantom" in values:
        least = {"output": "o", "resolution": [4, 4, 50], "phantom": [{"shape": [64, 64, 4]}]}
        TrainConfig.from_dict(least | values)
    elif "cpu" in values or "gpu" in values:
        (tmp_path / "prices.toml").write_text(block.text)
        prices(tmp_path / "prices.toml")
    else:
        least = {"output": "o", "resolution": [4, 4, 50], "layers": {"probability": "p"}}
        given = values.get("layers", {})
        if "image" in given and "detect" not in values:
            values["detect"] = {"model": "phantom"}
        if set(given) & {"image", "synapses", "probability"}:
            least["layers"] = {}
        values["layers"] = least["layers"] | given
        Config.from_dict(least | values)


@pytest.mark.parametrize("block", of("json"), ids=named)
def test_json(block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", of("csv"), ids=named)
def test_csv(block) -> None:
    assert len({line.count(",") for line in block.text.splitlines()}) == 1


@pytest.mark.parametrize("block", of("python"), ids=named)
def test_python_is_python(block) -> None:
    compile(block.text, block.page, "exec")


def test_the_tutorial(followed) -> None:
    folder, _, said = followed
    together = "\n".join(said)
    assert re.search(r"^\d+ synapses in \[0:320 0:288 0:14\] at 4 x 4 x 50 nm", together, re.M)
    assert "cnapse.toml written. Not known from the layers:" in together
    assert re.search(r"^\d+ synapses, \d+ partners: ", together, re.M)
    assert together.count("syn_id,pre,pre_id,post,post_id") == 1
    assert "presynaptic cell                  1.000" in together
    for picture in ("synapse.png", "explain.png"):
        assert (folder / picture).stat().st_size > 10_000


RUN = [
    str(page.relative_to(ROOT))
    for page in PAGES
    if page.name not in ELSEWHERE
    and any((b.is_shell or b.language == "python") and not b.reason for b in blocks_of(page))
]


@pytest.mark.parametrize("page", RUN)
def test_pages(page, followed, files, here, tmp_path) -> None:
    """In a folder with the tutorial's run, and its tissue as files."""
    folder, instead, _ = followed
    if page not in ALONE:
        (tmp_path / "tissue").symlink_to(folder / "tissue")
        shutil.copytree(folder / "run", tmp_path / "run")
        shutil.copy(folder / "cnapse.toml", tmp_path)
        for name, path in files.items():
            shutil.copy(path, tmp_path / name)
    shell = Shell(tmp_path, {**instead, "SYN_ID": instead["1078998"]})
    patched = here()
    try:
        for block in blocks_of(ROOT / page):
            if block.reason or (block.is_shell and block.page in SERVING):
                continue
            if block.title:
                shell.write(block)
            elif block.is_shell or block.language == "python":
                try:
                    shell.run(block)
                except Exception as error:
                    error.add_note(f"in {named(block)}")
                    raise
    finally:
        patched.undo()


def test_what_runs_elsewhere_is_there() -> None:
    for page, test in (ELSEWHERE | SERVING).items():
        assert (DOCS / page).is_file()
        assert (ROOT / test.split(",")[0]).is_file()
