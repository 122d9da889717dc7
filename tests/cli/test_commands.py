"""The command as a user meets it: what it prints, what it leaves, how it fails."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import typer

from cnapse.tables import read_table
from cnapse.volumes.reader import open_layer
from cnapse_cli.commands import COMMANDS, GROUPS
from cnapse_cli.main import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def finished(tissue, tmp_path_factory):
    """A finished run's configuration file."""
    folder = tmp_path_factory.mktemp("run")
    file = folder / "cnapse.toml"
    file.write_text(
        f'output = "out"\nresolution = [4, 4, 50]\n[layers]\n'
        f'probability = "{tissue.folder}/probability"\ncells = "{tissue.folder}/cells"\n'
        "[label]\nmin_voxels = 5\n"
    )
    command = [sys.executable, "-m", "cnapse_cli", "run", str(file), "--workers", "1"]
    path = ":".join(str(ROOT / name) for name in ("", "tasks", "scripts"))
    done = subprocess.run(
        command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=200
    )
    for stage in ("label", "stitch", "relabel", "measure", "tabulate", "assign", "gather"):
        assert stage in done.stderr
    return file


@pytest.fixture(scope="session")
def files(finished, tissue, tmp_path_factory):
    """The run's synapses and cells as plain TIFFs, z, y, x."""
    folder = tmp_path_factory.mktemp("files")
    synapses = open_layer(finished.parent / "out/synapses", mip=0).read(tissue.box)
    for name, array in (("syn", synapses), ("cells", tissue.cells)):
        # Ids beyond 32 bits are fine for TIFF, but not for every tool that writes them.
        tifffile.imwrite(folder / f"{name}.tif", array.T.astype(np.uint32))
    return folder


def test_the_two_steps_of_the_seed_on_plain_files(cnapse, files, finished, tissue, tmp_path):
    layers = ["--synapses", files / "syn.tif", "--cells", files / "cells.tif"]
    resolution = ["--resolution", 4, 4, 50]
    code, out, err = cnapse("measure", *layers, *resolution, "-o", tmp_path / "info.csv")
    assert code == 0, err
    info = read_table(tmp_path / "info.csv")
    assert list(info)[:6] == ["syn_id", "pre_id", "size", "x_pos", "y_pos", "z_pos"]
    run = read_table(finished.parent / "out/synapses.csv")
    assert f"{len(run)} synapses written" in out
    for name in ("pre_id", "size", "voxels", "sections", "pre_fraction"):
        np.testing.assert_array_equal(info[name], run[name])
    # Plain files begin at voxel 0.
    np.testing.assert_allclose(info["x_pos"] + 4 * tissue.box.start[0], run["x_pos"])

    code, out, err = cnapse(
        "partners", *layers, *resolution, "--info", tmp_path / "info.csv", "-o", tmp_path / "t.csv"
    )
    assert code == 0, err
    table, expected = (
        read_table(tmp_path / "t.csv"),
        read_table(finished.parent / "out/partners.csv"),
    )
    same = ["syn_id", "pre_id", "post_id", "size", "share", "raw_share", "lost", "n_partners"]
    pd.testing.assert_frame_equal(table[same], expected[same])


def test_the_table_of_the_seed_will_do(cnapse, files, tmp_path) -> None:
    """Only syn_id, pre_id and size; a presynaptic cell that somebody corrected is taken."""
    layers = ["--synapses", files / "syn.tif", "--cells", files / "cells.tif"]
    cnapse("measure", *layers, "--resolution", 4, 4, 50, "-o", tmp_path / "info.csv")
    info = read_table(tmp_path / "info.csv")[["syn_id", "pre_id", "size"]][2:5]
    info.loc[3, "pre_id"] = 0
    info["size"] = 1000.0
    info.to_csv(tmp_path / "short.csv", index=False)
    code, _, err = cnapse(
        "partners", *layers, "--resolution", 4, 4, 50, "--info", tmp_path / "short.csv",
        "-o", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0, err
    table = read_table(tmp_path / "t.csv")
    assert set(table["syn_id"]) <= set(info["syn_id"].drop(3))
    np.testing.assert_allclose(table.groupby("syn_id")["size"].sum(), 1000)


def test_a_second_run_and_the_status(cnapse, finished) -> None:
    code, _, err = cnapse("run", finished)
    assert code == 0, err
    code, out, _ = cnapse("status", finished)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows][:2] == ["label", "stitch"]
    assert all(row[1] == row[3] for row in rows)


def test_a_report_at_the_end(cnapse, finished) -> None:
    page = finished.parent / "out/report.html"
    assert not page.exists()
    code, _, err = cnapse("run", finished, "--to", "label", "--report")
    assert code == 1
    assert err == (
        "cnapse: --report is about a whole run: leave --to out, or `cnapse report` later"
    )
    code, out, err = cnapse("run", finished, "--workers", 1, "--report")
    assert code == 0, err
    assert out.splitlines()[-1] == f"report: {page}"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    page.unlink()


def test_a_dry_run_prints_and_does_nothing(cnapse, finished, tmp_path) -> None:
    file = tmp_path / "cnapse.toml"
    file.write_text(finished.read_text())
    code, out, err = cnapse("run", file, "--dry-run", "--to", "assign")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["stage", "tasks", "Mvoxels", "MB", "read", "MB", "written"]
    assert [line.split()[0] for line in lines[1:]] == [
        "label", "stitch", "relabel", "measure", "tabulate", "assign",
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_bounds_of_the_command_line(cnapse, finished, tmp_path) -> None:
    file = tmp_path / "cnapse.toml"
    file.write_text(finished.read_text())
    code, _, err = cnapse("run", file, "--bounds", 1030, -20, 9, 1111, 33, 21, "--workers", 1)
    assert code == 0, err
    found = read_table(tmp_path / "out/synapses.csv")
    assert 0 < len(found) < len(read_table(finished.parent / "out/synapses.csv"))
    assert (found["start_x"] >= 1030).all()
    assert (found["stop_z"] <= 21).all()
    code, _, err = cnapse("run", file, "--workers", 1)
    assert code == 1
    assert "label.bounds: [[1030, -20, 9], [1111, 33, 21]] -> " in err
    code, _, err = cnapse("run", file, "--bounds", 9, 9, 9, 5, 5, 5)
    assert "--bounds: start (9, 9, 9) must be below stop (5, 5, 5)" in err


def test_evaluation_against_itself_is_perfect(cnapse, finished, tmp_path) -> None:
    out = finished.parent / "out"
    report = tmp_path / "scores.json"
    code, text, err = cnapse(
        "evaluate", finished, "--objects", out / "synapses", "--synapses", out / "synapses.csv",
        "--partners", out / "partners.csv", "--json", report,
    )  # fmt: skip
    assert code == 0, err
    assert "presynaptic cell" in text
    scores = json.loads(report.read_text())
    assert scores["objects"]["f1"] == scores["partners"]["f1"] == 1
    code, text, _ = cnapse("evaluate", finished, "--synapses", out / "synapses.csv")
    assert code == 0
    code, _, err = cnapse("evaluate", finished)
    assert "nothing to compare with: give --truth, --objects or --synapses" in err


def test_a_worker_works_off_a_queue(cnapse, tissue, tmp_path) -> None:
    """A driver that only fills the queue, and a worker that only works."""
    file = tmp_path / "cnapse.toml"
    file.write_text(
        f'output = "out"\nresolution = [4, 4, 50]\n[layers]\n'
        f'probability = "{tissue.folder}/probability"\n'
    )
    queue = f"fq://{tmp_path}/queue"
    path = ":".join(str(ROOT / name) for name in ("", "tasks", "scripts"))
    driver = subprocess.Popen(
        [sys.executable, "-m", "cnapse_cli", "run", str(file), "--queue", queue],
        env={"PYTHONPATH": path}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        code, out, err = cnapse("worker", queue, "--idle", 8)
        assert code == 0, err
        assert driver.wait(30) == 0
    finally:
        driver.kill()
        driver.wait()
    assert out.startswith(f"waiting for tasks in {queue}")
    assert int(out.splitlines()[-1].split()[0]) >= 3
    assert (tmp_path / "out/synapses/info").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "none.toml: no such configuration file"),
        (["worker", "nowhere"], "'nowhere' is no queue: give fq://FOLDER or sqs://NAME"),
        (
            ["measure", "--synapses", "{syn}", "--cells", "{cells}", "-o", "t.csv"],
            "--resolution",
        ),
        (
            ["measure", "--synapses", "{syn}", "--cells", "{cells}", "--resolution", "4", "4", "50",
             "-o", "t.xlsx"],
            "a table is written as .csv or .parquet",
        ),
        (
            ["measure", "--synapses", "{syn}", "--cells", "{cells}", "--resolution", "4", "4", "50",
             "-o", "no/where/t.csv"],
            "there is no folder",
        ),
        (
            ["measure", "--synapses", "{syn}", "--cells", "none.tif", "--resolution", "4", "4",
             "50", "-o", "t.csv"],
            "none.tif",
        ),
        (
            ["partners", "--synapses", "{syn}", "--cells", "{cells}", "--resolution", "9", "9",
             "2", "--info", "{info}", "-o", "t.csv"],
            "step",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(cnapse, files, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "info.csv").write_text("syn_id,pre_id,size\n")
    known = {"syn": files / "syn.tif", "cells": files / "cells.tif", "info": "info.csv"}
    code, _, err = cnapse(*[str(a).format(**known) for a in arguments])
    assert code == 1
    assert message in err
    assert err.startswith("cnapse: ")
    assert "\n" not in err.strip()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["info.csv"]


def test_debug_shows_the_traceback(cnapse) -> None:
    with pytest.raises(FileNotFoundError):
        cnapse("--debug", "run", "none.toml")


def test_the_list_of_commands_is_whole_at_80_columns(cnapse, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = cnapse("--help")
    assert code == 0
    listed = out.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(COMMANDS) + len(GROUPS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_the_version(cnapse) -> None:
    assert cnapse("--version")[:2] == (0, f"cnapse {importlib.metadata.version('cnapse')}\n")


def test_a_command_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, cnapse_cli.main; print({'torch', 'igneous', 'matplotlib', 'neuroglancer', "
        "'cloudvolume', 'numba', 'fastapi', 'uvicorn', 'duckdb'} & set(sys.modules))"
    )
    path = os.pathsep.join(str(ROOT / name) for name in ("", "tasks", "scripts"))
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ended.stdout == "set()\n"


def test_the_help_of_every_command_is_complete(cnapse) -> None:
    code, out, _ = cnapse("--help")
    assert code == 0
    for name in ("demo", "ingest", "run", "status", "worker", "measure", "partners", "evaluate"):
        assert f"\n  {name} " in out


def commands(command, *names: str) -> Iterator[tuple[str, Any]]:
    """All commands with their names, those of groups included."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)
    if not hasattr(command, "commands"):
        yield " ".join(names), command


def test_all_commands_speak_alike() -> None:
    """One short flag means one thing; every option tells what it is, and what its values are."""
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 30
    # `cnapse init` has --output for that of the run that it writes the file for.
    short = {"-o": {"--output", "--file"}, "-e": {"--export"}}
    for name, command in found.items():
        for option in command.params:
            assert option.help, f"{name} {option.name}"
            if option.param_type_name != "option":
                continue
            assert option.metavar or option.nargs < 2 or name in TO_BE_NAMED, (name, option.name)
            long = {word for word in option.opts if word.startswith("--")}
            for flag in {*option.opts} - long:
                assert long & short[flag], f"{name} {flag}"
            if long & {"--output", "--file"} and name != "init":
                assert "-o" in option.opts, name


# Their options of several values have no name for them yet.
TO_BE_NAMED = {"decisions export", "decisions import", "repaint export"}


def test_layers_that_are_not_there_or_elsewhere(cnapse, tissue, tmp_path) -> None:
    from cnapse.volumes.writer import create_layer

    away = tissue.box.translated((5000, 0, 0))
    create_layer(
        tmp_path / "away", kind="segmentation", dtype="uint64", bounds=away, chunk_size=(32, 32, 4)
    )
    file = tmp_path / "cnapse.toml"
    text = (
        'output = "out"\nresolution = [{h}, {h}, 50]\n'
        '[layers]\nprobability = "{p}"\ncells = "{c}"\n'
    )
    cases = [
        (4, "none", "away", f"{tmp_path}/none"),
        (4, f"{tissue.folder}/probability", "away", "layers do not overlap: cells"),
        (3, f"{tissue.folder}/probability", f"{tissue.folder}/cells", "3 x 3 x 50 nm"),
        (4, f"{tissue.folder}/cells", f"{tissue.folder}/cells", "segmentation"),
    ]
    for h, probability, cells, message in cases:
        file.write_text(text.format(h=h, p=probability, c=cells))
        code, _, err = cnapse("run", file)
        assert code == 1
        assert message in err
        assert "\n" not in err.strip()
        assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_or_for_other_voxels(cnapse, tissue, tmp_path) -> None:
    file = tmp_path / "cnapse.toml"
    text = (
        'output = "out"\nresolution = [8, 8, 50]\n[layers]\nimage = "{p}"\n'
        '[detect]\nmodel = "{m}"\n'
    )
    image = f"{tissue.folder}/probability"
    file.write_text(text.format(p=image, m="none"))
    code, _, err = cnapse("run", file)
    assert code == 1
    assert "phantom" in err
    file.write_text(text.format(p=image, m="phantom"))
    code, _, err = cnapse("run", file)
    assert code == 1
    assert "was trained at 4 x 4 x 50 nm, the run works at 8 x 8 x 50 nm" in err
