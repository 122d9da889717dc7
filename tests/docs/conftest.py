"""A folder in which the tutorial was followed, and the site as it is built."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import h5py
import pytest
import tifffile

import cnapse
from cnapse_tasks import driver
from docs.blocks import Shell, blocks_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Less tissue than in the pages, with three synapses.
SMALLER = {
    "--shape 512 512 40 --seed 13": "--shape 320 288 14 --seed 13",
    "--shape 512 512 40 --seed 3": "--shape 320 288 14 --seed 13",
}


@pytest.fixture(scope="session")
def here(run_here) -> Callable[[], pytest.MonkeyPatch]:
    """Let `cnapse run` have its worker in this process; to be undone."""
    real = driver.run_stages

    def work_here(config, options, progress=None) -> None:
        given = {field.name: getattr(options, field.name) for field in fields(options)}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(driver, "run_stages", real)
            run_here(config, progress, **given)

    def patch() -> pytest.MonkeyPatch:
        patched = pytest.MonkeyPatch()
        patched.setattr(driver, "run_stages", work_here)
        patched.delenv("CNAPSE_DEBUG", raising=False)
        return patched

    return patch


@pytest.fixture(scope="session")
def followed(tmp_path_factory, here) -> tuple[Path, dict[str, str], list[str]]:
    """The tutorial, followed: the folder, what stands in place of its ids, and what was said."""
    shell = Shell(tmp_path_factory.mktemp("tutorial"), dict(SMALLER))
    patched, said = here(), []
    try:
        for block in blocks_of(DOCS / "tutorial.md"):
            if block.reason:
                continue
            if block.title:
                shell.write(block)
            elif block.is_shell or block.language == "python":
                said.append(shell.run(block))
            if (shell.folder / "run/synapses.csv").exists():
                synapses = cnapse.read_table(shell.folder / "run/synapses.csv")
                first, last = (synapses.iloc[i] for i in (0, -1))
                shell.instead |= {"1884264": str(last["syn_id"]), "1078998": str(first["syn_id"])}
                shell.instead |= {
                    "1664926": str(first["syn_id"]),
                    "--cell AVAL": f"--cell {first['pre']}",
                }
    finally:
        patched.undo()
    return shell.folder, shell.instead, said


@pytest.fixture(scope="session")
def files(followed) -> dict[str, Path]:
    """The tutorial's tissue as files of other formats, z, y, x."""
    folder = followed[0]
    made = {}
    for name, path, dtype in (
        ("em", "tissue/image", "uint8"),
        ("cells", "tissue/cells", "uint32"),
        ("syn", "tissue/truth/objects", "uint32"),
    ):
        layer = cnapse.open_layer(folder / path, mip=0)
        array = layer.read(layer.bounds).T.astype(dtype)
        made[f"{name}.tif"] = folder / f"{name}.tif"
        tifffile.imwrite(made[f"{name}.tif"], array, photometric="minisblack")
        if name == "em":
            made["em16.tif"] = folder / "em16.tif"
            grey = array[:4].astype("uint16") * 100
            tifffile.imwrite(made["em16.tif"], grey, photometric="minisblack")
        if name != "cells":  # as detectEM has them: patches x, y, number
            patches = "x.h5" if name == "em" else "y.h5"
            made[patches] = folder / patches
            with h5py.File(made[patches], "w") as file:
                file["main"] = array[:1, :64, :64].T
        if name == "syn":
            for who, shift in (("anna", 0), ("ben", 3)):
                made[f"{who}.tif"] = folder / f"{who}.tif"
                drawn = array.astype("uint16")
                drawn[:, shift:] = array[:, : array.shape[1] - shift]
                tifffile.imwrite(made[f"{who}.tif"], drawn, photometric="minisblack")
    return made


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it: any warning is an error (but not with --quiet)."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder
