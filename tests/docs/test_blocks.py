"""Every code block of every page runs, or says why it does not."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pandas as pd
import pytest

import cnapse
from cnapse.analysis.connectome import connectome_of
from cnapse.analysis.exports import Export
from cnapse.analysis.queries import Synapses
from cnapse.config import Config, load_config
from cnapse.detection import outputs
from cnapse.detection.settings import TrainConfig
from cnapse.geometry import Box
from cnapse_tasks.planning.prices import prices
from cnapse_tasks.run import Run
from docs.blocks import Block, Shell, blocks_of, command_lines, parse_options

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
KNOWN = {"sh", "bash", "python", "toml", "json", "csv", "text", ""}

# The page whose blocks the fixture `followed` runs.
FOLLOWED = "tutorial.md"
# Pages that make a run of their own: in an empty folder, or in one with the tissue as files.
ALONE = {"docs/evaluation.md"}
FRESH = {"docs/own-data.md"}

# Less work where it does not matter how much: a run from a map that is there, of less tissue; and
# of the same tissue as the tutorial's no second one.
SMALLER = {
    "cnapse phantom p --shape 320 288 14 --seed 13\n": "",
    "-o own.toml": "--probability tissue/truth/probability -o own.toml",
    "--bounds 0 0 0 1024 1024 40": "--bounds 0 0 0 128 128 14",
}


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
    if page.name != FOLLOWED
    and any((b.is_shell or b.language == "python") and not b.reason for b in blocks_of(page))
]


@pytest.mark.parametrize("page", RUN)
def test_pages(page, followed, files, here, tmp_path) -> None:
    """In a folder with the tutorial's run, and its tissue as files."""
    folder, instead, _ = followed
    if page in ALONE:
        (tmp_path / "p").symlink_to(folder / "tissue")
    else:
        (tmp_path / "tissue").symlink_to(folder / "tissue")
        if page not in FRESH:
            shutil.copytree(folder / "run", tmp_path / "run")
            shutil.copy(folder / "cnapse.toml", tmp_path)
        for name, path in files.items():
            shutil.copy(path, tmp_path / name)
    shell = Shell(tmp_path, {**instead, **SMALLER, "SYN_ID": instead["1078998"]})
    patched = here()
    try:
        for block in blocks_of(ROOT / page):
            if block.reason:
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


# --- recipes of CONTRIBUTING --------------------------------------------------------------------


def recipe(test: str) -> str:
    """The code of the block that names a test."""
    (block,) = [b for b in blocks_of(ROOT / "CONTRIBUTING.md") if f" {test}" in b.reason]
    return block.text


def test_recipe_of_a_stage(followed, tmp_path) -> None:
    shutil.copytree(followed[0] / "run", tmp_path / "run")
    shutil.copy(followed[0] / "cnapse.toml", tmp_path)
    (tmp_path / "tissue").symlink_to(followed[0] / "tissue")
    made: dict[str, Any] = {"__name__": "recipe"}
    exec(recipe("test_recipe_of_a_stage"), made)
    run = Run(load_config(tmp_path / "cnapse.toml"))
    partners = cnapse.read_table(tmp_path / "run/partners.csv")
    assert list(made["indices"](run)) == [0]
    assert made["components"](run) == {}
    assert made["cost"](run).tasks == 1
    assert made["execute"](run, 0) == {"cells": partners["post_id"].nunique()}
    table = pd.read_csv(tmp_path / "run/inputs.csv")
    assert table["synapses"].sum() == len(partners) > 3
    made["forget"](run)
    assert not (tmp_path / "run/inputs.csv").exists()


def test_recipe_of_an_export(followed, tmp_path) -> None:
    made: dict[str, Any] = {"__name__": "recipe"}
    exec(recipe("test_recipe_of_an_export"), made)
    with Synapses.open(followed[0] / "cnapse.toml") as synapses:
        connectome = connectome_of(synapses)
        made["write_pajek"](Export(connectome), tmp_path)
        cells = len(connectome.labels())
    graph = networkx.read_pajek(tmp_path / "connectome.net")
    partners = cnapse.read_table(followed[0] / "run/partners.csv")
    assert graph.number_of_nodes() == cells
    assert sum(n["weight"] for *_, n in graph.edges(data=True)) == len(partners)


def test_recipe_of_an_output(tmp_path) -> None:
    made = dict(vars(outputs))
    exec(recipe("test_recipe_of_an_output"), made)
    box = Box((5, 6, 7), (9, 12, 10), (4.0, 4.0, 50.0))
    levels = np.random.default_rng(1).integers(0, 256, (*box.shape, 1), np.uint8)
    with made["_numpy"](tmp_path / "p.npy", box, ["synapse"]) as output:
        for z in range(7, 10):
            output.write(
                levels[:, :, z - 7 : z - 6], Box((5, 6, z), (9, 12, z + 1), box.resolution)
            )
    assert np.array_equal(np.load(tmp_path / "p.npy"), levels[..., 0].T)


# --- messages -------------------------------------------------------------------------------------

# What people get wrong, in a folder with the tutorial's run.
MISTAKES = [
    "run nope.toml",
    "run cnapse.toml --bounds 900 900 90 990 990 99",
    "run cnapse.toml --bounds 9 9 9 5 5 5",
    "run cnapse.toml --from guess",
    "run misspelt.toml",
    "run micrometres.toml",
    "run too_high.toml",
    "run swapped.toml",
    "run moved.toml",
    "run no_model.toml",
    "run changed.toml",
    "ingest em.tif L",
    "ingest nope.tif L --resolution 4 4 50",
    "ingest x.h5:/data L --resolution 4 4 50",
    "ingest em.tif tissue/image --resolution 4 4 50",
    "ingest em.tif L --resolution 4 4 50 --auto-range",
    "init --cells tissue/cells",
    "detect --model phantom --image em16.tif --resolution 4 4 50 -o p.tif",
    "detect --model phantom --image em.tif --resolution 8 8 50 -o p.tif",
    "model info tissue",
    "model info mine",
    "measure --synapses syn.tif --cells x.h5 --resolution 4 4 50 -o i.csv",
    "partners --synapses syn.tif --cells cells.tif --info names.csv --resolution 4 4 50 -o t.csv",
    "picture cnapse.toml --synapse 5 -o p.png",
    "picture cnapse.toml --cell AVAL -o p.png",
    "connectome nope -o c",
    "connectome names.csv -o c",
    "annotate names.csv L",
    "link cnapse.toml",
    "worker nope",
    "cancel elsewhere.toml",
    "decisions export cnapse.toml d.json",
    "evaluate cnapse.toml",
]


def pattern(term: str) -> str:
    """A quoted message as a regular expression: what stands for names and numbers is anything."""
    anything = re.compile(r"…|'[^']*'|\b[A-Z][A-Z_.]{2,}\b|[0-9]+( x [0-9]+)*|micrometres|must be")
    return ".*?".join(map(re.escape, anything.sub("\0", term).split("\0")))


@pytest.fixture
def mistaken(followed, files, tmp_path) -> Path:
    folder = followed[0]
    for name in ("tissue", "run"):
        (tmp_path / name).symlink_to(folder / name)
    for name, path in files.items():
        (tmp_path / name).symlink_to(path)
    text = (folder / "cnapse.toml").read_text()
    changes = {
        "cnapse": ("", ""),
        "misspelt": ("min_voxels", "min_voxel"),
        "micrometres": ("[4, 4, 50]", "[0.004, 0.004, 0.05]"),
        "too_high": ("min_voxels = 60", "threshold = 2"),
        "swapped": ('"tissue/image"', '"tissue/cells"'),
        "moved": ('"tissue/image"\n', '"tissue/imgae"\n'),
        "no_model": ('"phantom"', '"mine"'),
        "elsewhere": ('"run"', '"nowhere"'),
        "changed": ("min_voxels = 60", "min_voxels = 70"),
    }
    for name, (old, new) in changes.items():
        assert old in text
        (tmp_path / f"{name}.toml").write_text(text.replace(old, new))
    (tmp_path / "names.csv").write_text("id,name\n7,AVAL\n")
    return tmp_path


def test_likely_mistakes_are_found_by_their_message(mistaken, here) -> None:
    """What is printed stands on the page of messages."""
    page = (DOCS / "troubleshooting.md").read_text()
    terms = re.findall(r"^(?:`{1,2}) ?(.+?) ?`{1,2}\n:   ", page, re.MULTILINE)
    patterns = [pattern(term) for term in terms]
    unknown, patched = [], here()
    try:
        for words in MISTAKES:
            block = Block("mistakes", 1, "sh", "", f"cnapse {words}\n", "")
            try:
                said = Shell(mistaken).run(block)
            except RuntimeError as error:
                said = str(error).partition("ended with cnapse: ")[2].strip()
            if not any(re.search(regex, said) for regex in patterns):
                unknown.append(f"{words}: {said}")
    finally:
        patched.undo()
    assert unknown == [], "\n".join(unknown)
