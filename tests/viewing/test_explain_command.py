"""The command `cnapse explain` on finished runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cnapse.config import load_config
from cnapse.errors import CnapseError, ConfigError, RunStateError, TableError
from cnapse.viewing.page import Page
from cnapse_cli.main import app
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

CONFIG = """
output = "out"
resolution = [4, 4, 50]
seed = 3
[layers]
probability = "{folder}/probability"
cells = "{folder}/cells"
[label]
min_voxels = 5
[assign]
method = "{method}"
particles = 300
"""


@pytest.fixture(scope="module")
def config(tissue, tmp_path_factory) -> Path:
    """The configuration of a finished run of walks."""
    path = tmp_path_factory.mktemp("explained") / "cnapse.toml"
    path.write_text(CONFIG.format(folder=tissue.folder, method="montecarlo"))
    run = Run(load_config(path))
    for stage in stages_of(run):
        if stage.name != "pyramid":
            stage.module.prepare(run)
            for index in stage.module.indices(run):
                stage.module.execute(run, index)
    return path


def call(*arguments: object) -> str:
    """Output of a command; its error is raised."""
    result = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_it_prints_the_shares_of_the_table(config: Path, tmp_path: Path, undrawn: None) -> None:
    run = Run(load_config(config))
    syn_id = int(run.partners["syn_id"].value_counts().index[0])
    said = call(config, syn_id, "-o", tmp_path / "a.png", "--sections", 1)
    assert "note:" not in said
    lines = said.splitlines()
    assert lines[0].startswith(f"synapse {syn_id}, presynaptic cell ")
    assert len({len(line) for line in lines[1:-1]}) == 1  # aligned
    table = run.connections.partners_of(syn_id)
    assert len(table) > 1
    for post, share, error in zip(table["post"], table["share"], table["share_error"], strict=True):
        wanted = rf"^{post} .* {100 * share:.2f} ± {100 * error:4.2f} %   "
        assert re.search(wanted, said, re.MULTILINE), (wanted, said)
    assert lines[-1] == f"picture: {tmp_path / 'a.png'}"
    both = (tmp_path / "a.png").read_bytes()
    exact = call(config, syn_id, "-o", tmp_path / "a.png", "--sections", 1, "--method", "harmonic")
    assert "±" not in exact
    assert re.fullmatch(rb"page of \d+ px", both)
    assert len((tmp_path / "a.png").read_bytes()) <= len(both)
    assert (tmp_path / "a.png").read_bytes() != both


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Pages are laid out, but not made a file: what takes longest."""
    monkeypatch.setattr(Page, "png", lambda page: b"page of %d px" % page.width)


def test_a_run_whose_configuration_was_changed(
    finished_run: Path, tmp_path: Path, undrawn: None
) -> None:
    said = call(finished_run / "cnapse.toml", 7, "-o", tmp_path / "a.png", "--sections", 1)
    assert "note: These are not the shares in the run's table" in said
    assert said.startswith("synapse 7, presynaptic cell AVAL\n")


def test_a_synapse_that_is_too_large(config: Path, tmp_path: Path) -> None:
    small = config.with_name("small.toml")
    small.write_text(config.read_text() + "max_box_voxels = 10\n")
    syn_id = Run(load_config(small)).synapses["syn_id"][0]
    said = call(small, syn_id, "-o", tmp_path / "a.png")
    assert "Too large to be one synapse" in said
    assert "share" not in said
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 200


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((2, "-o", "a.png"), TableError, r"synapse 2 is not in the table: there are \d+, such as"),
        ((7, "-o", "a.pdf"), ConfigError, r"--output a.pdf: a picture is written as \.png"),
        (("-o", "a.png", "--", -7), ConfigError, "synapse -7: ids are whole numbers from 1 to"),
        ((2**64, "-o", "a.png"), ConfigError, "synapse 18446744073709551616: ids are whole"),
    ],
)
def test_errors(config: Path, arguments: tuple, error: type[CnapseError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(config, *arguments)


def test_a_run_that_is_not_finished(config: Path, tmp_path: Path) -> None:
    early = tmp_path / "cnapse.toml"
    early.write_text(config.read_text())
    with pytest.raises(RunStateError, match="has no tables yet: finish the run first"):
        call(early, 1, "-o", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
