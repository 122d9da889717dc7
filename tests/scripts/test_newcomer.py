"""Every mistake of a newcomer is one line: what, where, the way out; nothing half-written."""

import errno
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import cnapse
from cnapse.errors import one_line, one_line_errors, storage_error
from cnapse.geometry import Box
from cnapse.outcome import outcome
from cnapse.tables import PARTNERS, SYNAPSES, empty_table, parquet_bytes, read_table
from cnapse.volumes.writer import create_layer, open_writer
from cnapse_cli import main as cli

ROOT = Path(__file__).parents[2]
FULL = "no space left on the disk: free some, then run the same command again (a run goes on "
BOX = Box.from_shape((64, 48, 8), (4, 4, 50), (10, 20, 3))
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path) -> Command:
    """Call `cnapse` in an empty folder: exit code, output, and the one line of its error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["cnapse", *map(str, arguments)])
        monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return (1, out, code) if isinstance(code, str) else (int(code or 0), out, err)

    return call


@pytest.fixture
def fails(command, tmp_path) -> Callable[..., None]:
    """Call `cnapse`, expect just this line, and no new file."""

    def call(line: str, *arguments: object) -> None:
        before = sorted(tmp_path.rglob("*"))
        code, _, err = command(*arguments)
        assert code == 1
        assert err.replace("file://", "").replace(str(tmp_path), "HERE") == f"cnapse: {line}"
        assert sorted(tmp_path.rglob("*")) == before

    return call


def layer(path: Path, array: np.ndarray, kind: str = "image", box: Box = BOX) -> Path:
    writer = create_layer(path, kind=kind, dtype=array.dtype, bounds=box, chunk_size=(32, 32, 4))
    writer.write(np.asfortranarray(array), box)
    return path


@pytest.fixture
def layers(tmp_path) -> Path:
    """A map, cells, and a cnapse.toml, in the folder of the command."""
    layer(tmp_path / "map", np.full(BOX.shape, 80, np.uint8))
    layer(tmp_path / "cells", np.full(BOX.shape, 7, np.uint64), "segmentation")
    return configured(tmp_path, probability="map", cells="cells")


def configured(
    folder: Path, resolution: object = "[4, 4, 50]", output: str = "out", more: str = "", **layers
) -> Path:
    file = folder / "cnapse.toml"
    named = "\n".join(f'{name} = "{path}"' for name, path in layers.items())
    text = f'output = "{output}"\nresolution = {resolution}\n[layers]\n{named}\n{more}\n'
    file.write_text(text)
    return file


def fill_the_disk(monkeypatch) -> None:
    """Every file that is opened takes a few bytes, and then no more."""

    def write_bytes(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


def forbid(monkeypatch, forbidden: Path) -> None:
    """A file that only its owner may read; tests may run as root, whom nothing is forbidden."""

    def guarded(function):
        def call(file, *arguments, **options):
            if not isinstance(file, int) and Path(os.fspath(file)) == forbidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(forbidden))
            return function(file, *arguments, **options)

        return call

    monkeypatch.setattr("builtins.open", guarded(open))
    monkeypatch.setattr(io, "open", guarded(io.open))


# --- run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"probability": "nomap"}, "HERE/nomap: no such layer: there is no such folder"),
        (
            {"probability": ""},
            "HERE is a folder without a file named info, so no layer: did you mean HERE/cells?",
        ),
        (
            {"probability": "cells"},
            (
                "HERE/cells is of type segmentation, but an image is needed: check that the layers "
                'are not swapped, or set "type" in its info to "image" if it is one'
            ),
        ),
        (
            {"resolution": "[0.004, 0.004, 0.05]"},
            (
                "cnapse.toml: resolution: [0.004, 0.004, 0.05] looks like micrometres: give nm, "
                "[4, 4, 50]"
            ),
        ),
        (
            {"resolution": "[50, 4, 4]"},
            (
                "HERE/cells cannot be read at 50 x 4 x 4 nm: it has mip 0 at 4 x 4 x 50 nm; the "
                "order is x, y, z: did you mean 4 x 4 x 50 nm?"
            ),
        ),
        ({"output": "/proc/none"}, "/proc/none: there is no such place: check the path"),
        (
            {"output": "cells/info"},
            "output HERE/cells/info lies in layers.cells, HERE/cells: give a folder of its own",
        ),
    ],
)
def test_a_run_that_cannot_begin(fails, layers, tmp_path, changes, line) -> None:
    configured(tmp_path, **{"probability": "map", "cells": "cells", **changes})
    fails(line, "run", "cnapse.toml")


def test_cells_that_lie_elsewhere(fails, command, layers, tmp_path) -> None:
    far = BOX.translated((200, 0, 0))
    layer(tmp_path / "far", np.zeros(BOX.shape, np.uint64), "segmentation", far)
    configured(tmp_path, probability="map", cells="far")
    fails(
        f"layers do not overlap: cells (HERE/far) covers {far}, probability (HERE/map) covers "
        f"{BOX}: check their voxel offsets and resolutions",
        "run", "cnapse.toml",
    )  # fmt: skip


def test_cells_that_cover_a_part(command, layers, tmp_path) -> None:
    part = BOX.translated((48, 0, 0))
    layer(tmp_path / "part", np.zeros(BOX.shape, np.uint64), "segmentation", part)
    configured(tmp_path, probability="map", cells="part")
    code, out, err = command("run", "cnapse.toml", "--dry-run")
    assert code == 0, err
    assert out.splitlines()[0] == (
        f"note: cells (file://{tmp_path}/part) covers 25 % of what counts, {BOX}: if it is "
        "shifted, mend voxel_offset in its info; if not, set [bounds] start = [58, 20, 3], "
        "stop = [74, 68, 11]"
    )
    configured(
        tmp_path, probability="map", cells="part",
        more="[bounds]\nstart = [58, 20, 3]\nstop = [74, 68, 11]",
    )  # fmt: skip
    assert "note" not in command("run", "cnapse.toml", "--dry-run")[1]
    configured(
        tmp_path, probability="map", cells="part",
        more="[bounds]\nstart = [10, 20, 3]\nstop = [20, 68, 11]",
    )  # fmt: skip
    out = command("run", "cnapse.toml", "--dry-run")[1]
    assert "covers 0 % of what counts" in out
    assert "check [bounds] and the voxel offsets" in out


def test_an_empty_layer(fails, layers, tmp_path) -> None:
    info = json.loads((tmp_path / "map/info").read_text())
    info["scales"][0]["size"] = [0, 48, 8]
    (tmp_path / "map/info").write_text(json.dumps(info))
    line = (
        "HERE/map is empty: its info says a size of [0, 48, 8] voxels: make the layer again from "
        "a volume that has some"
    )
    fails(line, "run", "cnapse.toml")
    fails(line, "init", "--probability", "map", "-o", "new.toml")


def test_layers_that_must_not_be_read(fails, layers, tmp_path, monkeypatch) -> None:
    forbid(monkeypatch, tmp_path / "cells/info")
    line = "HERE/cells/info: no permission: see who may with `ls -l`, or give another path"
    fails(line, "run", "cnapse.toml")
    fails(line, "init", "--probability", "map", "--cells", "cells", "-o", "new.toml")


def test_a_disk_that_is_full(fails, layers, tmp_path, monkeypatch) -> None:
    (tmp_path / "out").mkdir()
    fill_the_disk(monkeypatch)
    fails(f"HERE/out: {FULL}where it stopped)", "run", "cnapse.toml")


SITE = """
import errno, os, pathlib

write_bytes = pathlib.Path.write_bytes
begun = pathlib.Path(os.environ["OUTPUT"]) / ".cnapse/relabel/stage.json"


def full(self, data):
    # From stage relabel on the disk takes no more: that of the layer, or that of all.
    if begun.exists() and os.environ["WHICH"] in self.parts:
        raise OSError(errno.ENOSPC, "No space left on device")
    return write_bytes(self, data)


pathlib.Path.write_bytes = full
"""


@pytest.mark.parametrize("which", ["synapses", "out"])
def test_a_disk_that_gets_full_while_workers_work(command, layers, tmp_path, which) -> None:
    """A disk on which failures can be noted still, and one that takes nothing."""
    configured(tmp_path, probability="map", more="[pyramid]\nlevels = 0")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    packages = [tmp_path / "site", ROOT, ROOT / "tasks", ROOT / "scripts"]
    done = subprocess.run(
        [sys.executable, "-m", "cnapse_cli", "run", str(layers), "--workers", "1"],
        env={
            "PYTHONPATH": os.pathsep.join(map(str, packages)),
            "OUTPUT": f"{tmp_path}/out",
            "WHICH": which,
        },
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1].replace(str(tmp_path), "HERE")
    assert not [name for name in tmp_path.rglob("*.part") if name.stat().st_size]
    if which == "out":
        assert line == f"cnapse: HERE/out: {FULL}where it stopped)"
        return
    chunk = "HERE/out/synapses/4_4_50/10-42_20-52_3-7"
    assert line == (
        "cnapse: stage relabel: 1 of 1 tasks were set aside; task 0 after 1 try: StorageError: "
        f"{chunk}: {FULL}where it stopped); all with their tracebacks: cnapse status. Run "
        "again to try them anew"
    )
    # There is room again: it goes on, and says at its end that the map is too faint.
    code, out, err = command("run", "cnapse.toml", "--workers", 1)
    assert code == 0, err
    assert out == (
        "no synapse found: the highest probability is 0.314, and label.threshold is 0.5: lower it "
        "and run again with --redo, or check layers.probability\n"
    )


# --- what a run found ---------------------------------------------------------------------------


def found(folder: Path, config: Path, pre_ids: list[int] | None = None) -> str:
    """The lines of a run whose tables were left by hand."""
    blank = {column.name: "" if column.dtype == "str" else 0 for column in SYNAPSES.columns}
    rows = empty_table(SYNAPSES)
    if pre_ids:
        rows = pd.DataFrame([{**blank, "pre_id": cell} for cell in pre_ids])
    for schema, table in ((SYNAPSES, rows), (PARTNERS, empty_table(PARTNERS))):
        file = folder / f"out/tables/{schema.name}/part-00000000.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(parquet_bytes(table, schema))
    lines = outcome(cnapse.open_run(config))
    return "\n".join(lines).replace("file://", "").replace(str(folder), "HERE")


def test_why_there_is_no_synapse(layers, tmp_path) -> None:
    given = {"probability": "map", "cells": "cells"}
    low = configured(tmp_path, **given, more="[label]\nthreshold = 0.2\nmin_voxels = 9999")
    assert found(tmp_path, low) == (
        "no synapse found: some voxels count, but no object has at least label.min_voxels = 9999 "
        "voxels: change that and run again with --redo"
    )
    drawn = configured(tmp_path, **given, more="[label]\nbinary = true\nmax_voxels = 3")
    assert found(tmp_path, drawn) == (
        "no synapse found: some voxels count, but no object has at least label.min_voxels = 1 and "
        "at most label.max_voxels = 3 voxels: change that and run again with --redo"
    )
    layer(tmp_path / "dark", np.zeros(BOX.shape, np.uint8))
    layer(tmp_path / "none", np.zeros(BOX.shape, np.uint64), "segmentation")
    nothing = "is 0 everywhere: check its path and [bounds]"
    for first, path in (("probability", "dark"), ("synapses", "none"), ("image", "dark")):
        config = configured(
            tmp_path, **{first: path}, cells="cells", more='[detect]\nmodel = "phantom"'
        )
        assert found(tmp_path, config) == f"no synapse found: layers.{first} {nothing}"


def test_a_network_that_sees_nothing(layers, tmp_path) -> None:
    layer(tmp_path / "out/probability", np.full(BOX.shape, 51, np.uint8))
    config = configured(tmp_path, image="map", cells="cells", more='[detect]\nmodel = "phantom"')
    assert found(tmp_path, config) == (
        "no synapse found: the highest probability is 0.200, and label.threshold is 0.5: lower it "
        "and run again with --redo, or train a model on data like this with `cnapse train`"
    )


def test_synapses_that_lie_on_no_cell(layers, tmp_path) -> None:
    assert found(tmp_path, layers, [7, 0, 0]) == (
        "3 synapses, 0 partners: HERE/out/synapses.csv and partners.csv\n"
        "note: 2 of 3 synapses lie on no cell: are the cells shifted (compare voxel_offset and "
        "resolution in the layers' info), or do they leave out the membranes "
        "(layers.cells.grow_nm)? `cnapse view` shows it"
    )
    assert found(tmp_path, layers, [7, 0]) == (
        "2 synapses, 0 partners: HERE/out/synapses.csv and partners.csv"
    )


def test_a_run_without_cells(layers, tmp_path) -> None:
    config = configured(tmp_path, probability="map")
    ids = np.zeros(BOX.shape, np.uint64)
    layer(tmp_path / "out/synapses", ids, "segmentation")
    assert found(tmp_path, config).startswith("no synapse found: the highest probability is 0.314")
    ids[-1, -1, -1] = 5
    open_writer(tmp_path / "out/synapses").write(ids, BOX)
    assert found(tmp_path, config) == (
        "synapses: HERE/out/synapses; no tables, since there is no layers.cells"
    )


# --- init ---------------------------------------------------------------------------------------

NEW = ["-o", "new.toml"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            NEW,
            ("there is no layer to start from: give --image (EM), --probability (a map that is "
            "there already) or --synapses (objects that are there already), and --cells for their "
            "cells and partners"),
        ),
        (
            ["--synapses", "cells", *NEW],
            ("with --synapses alone there is nothing left to do: give --cells, whose synapses they "
            "are"),
        ),
        (["--image", "nomap", *NEW], "HERE/nomap: no such layer: there is no such folder"),
        (["--image", "map", "-o", "no/x.toml"], "-o no/x.toml: there is no folder HERE/no"),
        (["--image", "map", "-o", "cnapse.toml"], ("cnapse.toml is there already: choose another "
         "name with -o")),
        (["--image", "map", "-o", "/proc/x.toml"], ("/proc/x.toml: there is no such place: check "
         "the path")),
    ],
)  # fmt: skip
def test_init(fails, layers, options, line) -> None:
    fails(line, "init", *options)


def test_init_with_a_layer_in_micrometres(fails, layers, tmp_path) -> None:
    info = json.loads((tmp_path / "map/info").read_text())
    info["scales"][0]["resolution"] = [0.004, 0.004, 0.05]
    (tmp_path / "map/info").write_text(json.dumps(info))
    fails(
        "HERE/map: the resolution [0.004, 0.004, 0.05] in its info looks like micrometres: write "
        "it there in nm, [4.0, 4.0, 50.0]",
        "init", "--image", "map", "-o", "new.toml",
    )  # fmt: skip


def test_init_on_a_full_disk(fails, layers, monkeypatch) -> None:
    fill_the_disk(monkeypatch)
    fails(f"HERE/new.toml: {FULL}where it stopped)", "init", "--image", "map", "-o", "new.toml")


# --- demo ---------------------------------------------------------------------------------------


def test_a_demo_in_the_folder_of_something_else(fails, layers, tmp_path) -> None:
    fails("cells is not empty, and no demo: choose another folder", "demo", "cells")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cnapse.toml").write_text("# Made by: cnapse demo --shape 9 9 9 --seed 1\n")
    fails("mine holds a demo of another shape or seed: choose another folder", "demo", "mine")
    fails("/proc/demo/cnapse.toml: there is no such place: check the path", "demo", "/proc/demo")


def test_a_demo_that_was_stopped_goes_on(command, tmp_path, monkeypatch) -> None:
    """On a full disk, when the tissue is begun; the second time it gets to the run."""
    small = ["demo", "new", "--shape", 64, 64, 4]
    with monkeypatch.context() as patched:
        patched.setattr("cnapse_cli.phantom.write_phantom", full_disk)
        code, _, err = command(*small)
    assert (code, err) == (1, f"cnapse: new: {FULL}where it stopped)")
    text = (tmp_path / "new/cnapse.toml").read_text()
    monkeypatch.setattr("cnapse_cli.phantom.write_phantom", lambda *a, **k: 0)
    monkeypatch.setattr("cnapse_cli.run.run", full_disk)
    code, out, err = command(*small)
    assert code == 1
    assert out.splitlines()[0] == "new/cnapse.toml is there already: going on with it"
    assert "2. Find synapses and partners: cnapse run new/cnapse.toml" in out
    assert (tmp_path / "new/cnapse.toml").read_text() == text
    assert cnapse.load_config(tmp_path / "new/cnapse.toml").label.min_voxels == 60


def full_disk(*arguments: object, **options: object) -> None:
    raise storage_error(OSError(errno.ENOSPC, "No space left on device"), "new")


# --- a finished run is looked at ----------------------------------------------------------------


@pytest.fixture
def finished(layers, tmp_path) -> Path:
    """A run with one synapse, which has no partner."""
    file = configured(tmp_path, image="map", probability="map", cells="cells")
    ids = np.zeros(BOX.shape, np.uint64)
    ids[20:30, 20:30, 3:5] = 5
    layer(tmp_path / "out/synapses", ids, "segmentation")
    found(tmp_path, file, [7])
    table = read_table(tmp_path / "out/tables/synapses").assign(
        syn_id=5, x_pos=142.0, y_pos=182.0, z_pos=375.0, pre="7", size=100.0,
        start_x=30, stop_x=40, start_y=40, stop_y=50, start_z=6, stop_z=8,
    )  # fmt: skip
    (tmp_path / "out/tables/synapses/part-00000000.parquet").write_bytes(
        parquet_bytes(table, SYNAPSES)
    )
    return file


NO_TABLES = "HERE/out has no tables yet: finish the run first with `cnapse run`"
FORBIDDEN = "no permission: see who may with `ls -l`, or give another path"


def test_a_run_that_has_not_been_done(fails, layers, tmp_path) -> None:
    configured(tmp_path, image="map", probability="map", cells="cells",
               more='[link]\nimage = "gs://b/i"')  # fmt: skip
    fails(NO_TABLES, "picture", "cnapse.toml", "-o", "a.png")
    fails(NO_TABLES, "link", "cnapse.toml", "--synapse", 5)


def test_pictures(fails, command, finished, tmp_path, monkeypatch) -> None:
    picture = ["picture", "cnapse.toml", "-o"]
    fails("no.toml: no such configuration file", "picture", "no.toml", "-o", "a.png")
    fails("--output a.jpg: a picture is written as .png", *picture, "a.jpg")
    fails("synapse 6 is not in the table: there are 1, such as 5",
          *picture, "a.png", "--synapse", 6)  # fmt: skip
    fails("/proc/a.png: there is no such place: check the path", *picture, "/proc/a.png")
    (tmp_path / "there.png").mkdir()
    fails("HERE/there.png: there is a folder, and a file is needed: give another name",
          *picture, "there.png")  # fmt: skip
    with monkeypatch.context() as patched:
        forbid(patched, tmp_path / "map/4_4_50/10-42_20-52_3-7")
        line = f"HERE/map/4_4_50/10-42_20-52_3-7: {FORBIDDEN}"
        fails(line, *picture, "a.png")
    with monkeypatch.context() as patched:
        fill_the_disk(patched)
        fails(f"HERE/a.png: {FULL}where it stopped)", *picture, "a.png")
    code, _, err = command(*picture, "a.png")
    assert code == 0, err
    assert (tmp_path / "a.png").stat().st_size > 1000
    configured(tmp_path, probability="map", cells="cells")
    fails("layers.image is missing: a picture needs it", *picture, "b.png")


def test_links(fails, finished) -> None:
    fails("cnapse.toml: nothing is public: give addresses of layers as link.image, link.cells and "
          "link.synapses (gs://, s3:// or https://), or use `cnapse view`",
          "link", "cnapse.toml")  # fmt: skip


# --- plain files, phantoms, workers -------------------------------------------------------------


def test_plain_files(fails, command, tmp_path, monkeypatch) -> None:
    objects = np.zeros((4, 20, 30), np.uint8)
    objects[1:3, 5:9, 5:9] = 1
    cells = np.ones((4, 20, 30), np.uint8)
    for name, array in (("syn", objects), ("cells", cells), ("turned", cells.T)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    size = ["--resolution", 4, 4, 50]
    layers = ["--synapses", "syn.tif", "--cells", "cells.tif", *size]
    to = ["-o", "info.csv"]
    code, _, err = command("measure", *layers, "-o", "given.csv")
    assert code == 0, err
    turned = ["--synapses", "syn.tif", "--cells", "turned.tif", *size]
    line = ("turned.tif has (4, 20, 30) voxels (x, y, z), syn.tif has (30, 20, 4): give two "
            "volumes of the same voxels")  # fmt: skip
    fails(line, "measure", *turned, *to)
    fails(line, "partners", *turned, "--info", "given.csv", *to)
    for way, more in (("measure", []), ("partners", ["--info", "given.csv"])):
        fails("/proc/t.csv: there is no such place: check the path",
              way, *layers, *more, "-o", "/proc/t.csv")  # fmt: skip
        with monkeypatch.context() as patched:
            fill_the_disk(patched)
            fails(f"HERE/info.csv: {FULL}where it stopped)", way, *layers, *more, *to)
        with monkeypatch.context() as patched:
            patched.setattr(cnapse.volumes.files, "open_source", out_of_memory)
            fails("not enough memory (2 TB): take fewer --workers or smaller blocks",
                  way, *layers, *more, *to)  # fmt: skip


def out_of_memory(*arguments: object, **options: object) -> None:
    raise MemoryError("2 TB")


def test_phantoms(fails, layers, tmp_path, monkeypatch) -> None:
    (tmp_path / "full/image").mkdir(parents=True)
    small = ["--shape", 64, 64, 4]
    fails("/proc/p/image/provenance: there is no such place: check the path",
          "phantom", "/proc/p", *small)  # fmt: skip
    layer(tmp_path / "old/image", np.zeros(BOX.shape, np.uint8))
    fails("old has a layer `image` already: delete it, or choose another folder",
          "phantom", "old", *small)  # fmt: skip
    fails("HERE/cells/info/p/image/provenance: a part of this path is a file, not a folder: give "
          "another path", "phantom", "cells/info/p", *small)  # fmt: skip
    fill_the_disk(monkeypatch)
    fails(f"HERE/full/image/provenance: {FULL}where it stopped)", "phantom", "full", *small)


def test_workers(fails, layers) -> None:
    fails("'here' is no queue: give fq://FOLDER or sqs://NAME", "worker", "here")
    fails(
        "queue fq:///proc/queue: there is no folder /proc: check the path, or make it",
        "worker",
        "fq:///proc/queue",
    )


# --- scripts of one's own -----------------------------------------------------------------------


EXAMPLES = sorted((ROOT / "scripts/examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=[script.stem for script in EXAMPLES])
def test_examples(script, layers, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    configured(tmp_path, image="map", probability="map", cells="cells")
    monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
    for config, line in (
        ("none.toml", "none.toml: no such configuration file"),
        ("cnapse.toml", NO_TABLES.replace("HERE", f"file://{tmp_path}")),
    ):
        monkeypatch.setattr(sys, "argv", [str(script), config])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code == f"{script.stem}: {line}"


def test_a_cutout_in_a_script(finished, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mine.py"])
    monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
    line = r"^mine: position 0, 0, 0 nm is outside of .* give x, y, z in nm$"
    with pytest.raises(SystemExit, match=line), cnapse.one_line_errors():
        cnapse.cutout(finished, position_nm=(0, 0, 0))


def test_faults_of_a_program_stay_faults(monkeypatch) -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
    monkeypatch.setenv("CNAPSE_DEBUG", "1")
    with pytest.raises(cnapse.CnapseError), one_line_errors():
        raise cnapse.errors.ConfigError("as it is")
    assert one_line(KeyError("a")) is None


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.ENOSPC, f"/a: {FULL}where it stopped)"),
        (errno.EROFS, "/a: the disk is read-only: give another path"),
        (errno.EACCES, f"/a: {FORBIDDEN}"),
        (errno.EMFILE, "/a: too many files are open: allow more with `ulimit -n 4096`"),
        (errno.EIO, "/a: Input/output error: check the path and the disk"),
    ],
)
def test_what_the_system_says(code, line) -> None:
    error = OSError(code, os.strerror(code), "/a")
    assert one_line(error) == line
    assert str(storage_error(OSError(code, os.strerror(code)), "/a")) == line
    assert one_line(OSError(code, os.strerror(code))).startswith("disk or network: ")


def test_ctrl_c_says_how_to_go_on(command, layers, monkeypatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnapse_tasks.driver.run_stages", stop)
    code, _, err = command("run", "cnapse.toml")
    assert (code, err) == (130, "\ncnapse: stopped; run the same command again to go on\n")
