"""`cnapse view`, `cnapse link` and `cnapse picture` on a finished run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from neuroglancer import parse_url
from PIL import Image
from typer.testing import CliRunner

from cnapse.errors import BoundsError, CnapseError, ConfigError, RunStateError, TableError
from cnapse.viewing import read_state
from cnapse_cli import link, picture, view

BIG = 2**63 + 5

app = typer.Typer(pretty_exceptions_enable=False)
for command in (view.view, link.link, picture.picture):
    app.command()(command)


def call(*arguments: object) -> str:
    """Output of a command; its error is raised."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_link_to_a_synapse(finished_run: Path) -> None:
    state = parse_url(call("link", finished_run / "public.toml", "--synapse", BIG))
    assert list(state.layers["cells"].layer.segments) == [11, 14]
    assert "synapses" not in [layer.name for layer in state.layers]


def test_a_link_to_the_run(finished_run: Path) -> None:
    state = parse_url(call("link", finished_run / "public.toml"))
    assert state.position[0] == pytest.approx(300.0)


def test_a_place_outside_is_refused(finished_run: Path) -> None:
    said = r"position 1e\+09, 0, 0 nm is outside of .*, which covers .* nm: give x, y, z in nm"
    for command in ("link", "view"):
        with pytest.raises(BoundsError, match=said):
            call(command, finished_run / "public.toml", "--position", 1e9, 0, 0)


def test_no_link_without_public_layers(finished_run: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is public: give addresses .*link\.image"):
        call("link", finished_run / "cnapse.toml")


def test_a_link_to_a_cell_in_another_viewer(finished_run: Path) -> None:
    made = call("link", finished_run / "public.toml", "--cell", "AVAL", "--viewer", "spelunker")
    assert made.startswith("https://spelunker.cave-explorer.org/#!")
    assert read_state(made).selected == {"cells": (11,)}


def test_a_short_link_is_kept_in_the_output(finished_run: Path, tmp_path: Path) -> None:
    config = tmp_path / "cnapse.toml"
    text = (finished_run / "public.toml").read_text()
    for name in ("image", "cells", "probability", "out"):
        text = text.replace(f'"{name}"', f'"{finished_run}/{name}"')
    config.write_text(text)
    with pytest.raises(ConfigError, match=r"--short: no browser elsewhere can read .*link\.output"):
        call("link", config, "--short")
    config.write_text(text + 'output = "https://host.example/run/"\n')
    page, _, address = call("link", config, "--synapse", 7, "--short").strip().partition("#!")
    assert page == "https://neuroglancer-demo.appspot.com/"
    assert address.startswith("https://host.example/run/states/")
    state = read_state(finished_run / "out" / address.removeprefix("https://host.example/run/"))
    assert state.selected == {"cells": (11, 13, 12)}


def test_pictures(finished_run: Path, tmp_path: Path) -> None:
    config = finished_run / "cnapse.toml"
    call("picture", config, "-o", tmp_path / "best.png")
    call("picture", config, "--synapse", 7, "-o", tmp_path / "seven.png")
    assert (tmp_path / "best.png").read_bytes() == (tmp_path / "seven.png").read_bytes()
    call("picture", config, "--cell", "AVAL", "-o", tmp_path / "cell.png")
    call("picture", config, "--sheet", 9, "-o", tmp_path / "sheet.png")
    assert _width(tmp_path / "cell.png") < _width(tmp_path / "sheet.png")


def _width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--synapse", "7", "--cell", "AVAL"], ConfigError, "give --synapse alone"),
        (["--cell", "AVAX"], TableError, "did you mean 'AVAL'"),
        (["--synapse", "8"], TableError, "synapse 8 is not in the table"),
    ],
)
def test_wrong_options(
    finished_run: Path, tmp_path: Path, options: list[str], error: type[CnapseError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call("picture", finished_run / "cnapse.toml", "-o", tmp_path / "a.png", *options)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_tables(finished_run: Path, tmp_path: Path) -> None:
    config = tmp_path / "cnapse.toml"
    text = (finished_run / "cnapse.toml").read_text().replace('= "', f'= "{finished_run}/')
    config.write_text(text.replace(f"{finished_run}/out", "out"))
    with pytest.raises(RunStateError, match="has no tables yet: finish the run first"):
        call("picture", config, "-o", tmp_path / "a.png")
    with pytest.raises(RunStateError, match="has no tables yet"):
        call("view", config, "--synapse", 7)
    with served(config) as said, urllib.request.urlopen(f"{said[1]}state.json") as answer:
        state = json.load(answer)
    assert [layer["name"] for layer in state["layers"]] == ["image", "probability", "cells"]


@contextmanager
def served(config: Path, *options: str) -> Iterator[list[str]]:
    """`cnapse view` in a process of its own; what it says, the address in the second line."""
    code = "from cnapse_cli.view import view; import typer; typer.run(view)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(config), "--no-browser", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        yield said
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0].endswith("stopped\n")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("bind", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_who_lets_other_machines_in_is_told(finished_run: Path, bind: str, warned: bool) -> None:
    with served(finished_run / "cnapse.toml", "--bind", bind) as said:
        assert ("http://127.0.0.1:" in said[1]) is not warned
        assert "0.0.0.0" not in said[1]
        warning = "Warning: whoever has this link can read these layers, from other machines."
        assert said[2:] == [warning] * warned + ["Ctrl-C stops serving."]
        with urllib.request.urlopen(f"{said[1]}state.json") as answer:
            assert said[1] in answer.read().decode()


def environment() -> dict[str, str]:
    """Where the packages lie, for other processes; pytest tells only its own."""
    import os

    root = Path(view.__file__).resolve().parents[2]
    folders = [str(root), str(root / "tasks"), str(root / "scripts")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


def test_view_serves_until_ctrl_c(finished_run: Path) -> None:
    with served(finished_run / "cnapse.toml", "--cell", "AVAL") as said:
        with urllib.request.urlopen(f"{said[1]}state.json") as answer:
            state = json.load(answer)
        with urllib.request.urlopen(said[1]) as answer:
            assert b"neuroglancer" in answer.read()
    assert [layer["name"] for layer in state["layers"]] == [
        "image",
        "probability",
        "cells",
        "synapses",
        "partners",
    ]
    assert state["layers"][2]["segments"] == ["11"]
    assert state["layers"][3]["segments"] == [str(BIG), "7"]
