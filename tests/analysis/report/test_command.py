"""`cnapse report`, as somebody types it."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cnapse.errors import LayerNotFoundError
from cnapse_cli.main import app


def test_a_run_gets_its_report(reported_run: Path):
    done = CliRunner().invoke(app, ["report", str(reported_run), "--pictures", "1"])
    path = reported_run.parent / "out" / "report.html"
    assert (done.exit_code, done.output) == (0, f"report: {path}\n")
    assert path.read_text().count("image/jpeg") == 2
    elsewhere = reported_run.parent / "x.html"
    done = CliRunner().invoke(app, ["report", str(reported_run), "-o", str(elsewhere)])
    assert (done.exit_code, done.output) == (0, f"report: {elsewhere}\n")
    assert elsewhere.read_text().startswith("<!doctype html>")


def test_without_an_image_the_page_says_so(reported_run: Path, tmp_path: Path):
    shutil.copytree(reported_run.parent / "out", tmp_path / "out")
    text = reported_run.read_text().replace('image = "image"', 'synapses = "out/synapses"')
    (tmp_path / "cnapse.toml").write_text(text)
    done = CliRunner().invoke(app, ["report", str(tmp_path / "cnapse.toml"), "--pictures", "1"])
    assert done.exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no picture: layers.image is missing: a picture needs it" in page


def test_before_the_run_there_is_none(tmp_path: Path, reported_run: Path):
    shutil.copy(reported_run, tmp_path / "cnapse.toml")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "cnapse.toml")])
    assert isinstance(done.exception, LayerNotFoundError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--pictures=-1", "--seed=-3", "--pictures=1000"])
def test_options_out_of_range(reported_run: Path, option: str):
    assert CliRunner().invoke(app, ["report", str(reported_run), option]).exit_code == 2
