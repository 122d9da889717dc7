"""`cnapse init`: what it writes loads, runs dry, and says what the layers say."""

import json
import re
import sys
from pathlib import Path

import pytest

from cnapse.config import load_config
from cnapse.geometry import Box
from cnapse.setup import draft
from cnapse.volumes.writer import create_layer
from cnapse_cli import main as cli
from cnapse_tasks.driver import Options, plan_costs


def _layer(path: Path, shape, h, *, kind="image", start=(0, 0, 0), scales=(), chunk=(64, 64, 8)):
    """A layer without voxels, with coarser scales in its info."""
    box = Box.from_shape(shape, h, start)
    dtype = "uint8" if kind == "image" else "uint64"
    create_layer(path, kind=kind, dtype=dtype, bounds=box, chunk_size=chunk)
    info = json.loads((path / "info").read_text())
    for scale in scales:
        coarse = box.at(scale)
        info["scales"].append({
            **info["scales"][0], "key": "_".join(map(str, scale)), "resolution": list(scale),
            "size": list(coarse.shape), "voxel_offset": list(coarse.start),
        })  # fmt: skip
    (path / "info").write_text(json.dumps(info))
    return str(path)


@pytest.fixture
def init(monkeypatch, capsys, tmp_path):
    """Call `cnapse init` in an empty folder: its exit code, output and error line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["cnapse", "init", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return (1, out, code) if isinstance(code, str) else (int(code or 0), out, err)

    return call


def test_from_an_image(init, tmp_path) -> None:
    """The scale nearest to the model's; flat blocks for the network."""
    _layer(tmp_path / "image", (2000, 300, 20), (2, 2, 50), scales=[(4, 4, 50), (8, 8, 50)])
    _layer(tmp_path / "cells", (900, 150, 20), (4, 4, 50), kind="segmentation", start=(50, 0, 0))
    code, out, err = init("--image", "image", "--cells", tmp_path / "cells")
    assert code == 0, err
    text = (tmp_path / "cnapse.toml").read_text()
    config = load_config(tmp_path / "cnapse.toml")
    assert config.resolution == (4, 4, 50)
    assert config.output == f"file://{tmp_path}/run"
    assert (config.block, config.detect.block) == ((512, 192, 24), (1024, 192, 16))
    assert 'image = "image"\ncells = "cells"\n' in text
    assert "#   image: 2 x 2 x 50 nm, 4 x 4 x 50 nm, 8 x 8 x 50 nm\n" in text
    assert "# start = [50, 0, 0]\n# stop = [950, 150, 20]\n" in text
    assert "cover 90 % of image" in out
    for word in ("detect.model: the shipped", "min_voxels", "names", "cnapse.toml --dry-run"):
        assert word in out
    assert plan_costs(config, Options())[0][1].tasks == 1 * 1 * 2


def test_what_is_commented_out_is_valid_too(init, tmp_path) -> None:
    _layer(tmp_path / "image", (600, 700, 90), (4.6, 4.6, 50))
    _layer(tmp_path / "cells", (600, 700, 90), (4.6, 4.6, 50), kind="segmentation")
    init("--image", "image", "--cells", "cells", "--output", "gs://b/run")
    file = tmp_path / "cnapse.toml"
    text = re.sub(r"^# (?=\[|\w+ = )", "", file.read_text(), flags=re.MULTILINE)
    file.write_text(text)
    config = load_config(file)
    assert config.resolution == (4.6, 4.6, 50)
    assert config.output == "gs://b/run"
    assert config.bounds_box() == Box((0, 0, 0), (600, 700, 90), (4.6, 4.6, 50))
    assert config.label.max_voxels == 100000
    assert config.detect.zero_is_missing
    assert config.names.endswith("/names.csv")


@pytest.mark.parametrize("start", ["probability", "synapses"])
def test_from_what_others_made(init, tmp_path, start) -> None:
    """Its finest scale counts, whatever the image has; a path elsewhere stays absolute."""
    folder = tmp_path / "a folder"
    _layer(tmp_path / "image", (400, 400, 20), (4, 4, 50), scales=[(8, 8, 50)])
    _layer(tmp_path / "cells", (200, 200, 20), (8, 8, 50), kind="segmentation")
    kind = "image" if start == "probability" else "segmentation"
    _layer(tmp_path / start, (200, 200, 20), (8, 8, 50), kind=kind, chunk=(100, 30, 5))
    folder.mkdir()
    layers = ["--image", "image", "--cells", "cells", f"--{start}", start]
    code, out, err = init(*layers, "-o", folder / "x.toml")
    assert code == 0, err
    config = load_config(folder / "x.toml")
    assert config.resolution == (8, 8, 50)
    assert config.layers.cells.path == f"file://{tmp_path}/cells"
    assert config.block == (200, 210, 20)
    assert "[detect]" not in (folder / "x.toml").read_text()
    assert ("binary" in out, "model" in out) == (start == "probability", False)
    assert plan_costs(config, Options(last="measure"))[0][1].tasks == 1


def test_an_image_without_cells(init, tmp_path) -> None:
    """There is detection still: no names, no assignment, and the line for cells to fill in."""
    _layer(tmp_path / "image", (600, 700, 90), (4, 4, 50))
    code, out, err = init("--image", "image")
    assert code == 0, err
    text = (tmp_path / "cnapse.toml").read_text()
    config = load_config(tmp_path / "cnapse.toml")
    assert config.layers.cells is None
    assert 'image = "image"\n# cells = "cells"' in text
    assert "[assign]" not in text
    assert "names" not in text + out
    assert "layers.cells: without cells a run finds where synapses are, but not whose" in out
    stages = [name for name, _ in plan_costs(config, Options())]
    assert stages == ["detect", "label", "stitch", "relabel", "pyramid"]


@pytest.mark.parametrize("start", ["probability", "synapses"])
def test_a_start_without_an_image(init, tmp_path, start) -> None:
    kind = "image" if start == "probability" else "segmentation"
    _layer(tmp_path / start, (200, 200, 20), (8, 8, 50), kind=kind)
    _layer(tmp_path / "cells", (200, 200, 20), (8, 8, 50), kind="segmentation")
    code, out, err = init(f"--{start}", start, "--cells", "cells")
    assert code == 0, err
    config = load_config(tmp_path / "cnapse.toml")
    assert config.layers.image is None
    assert "layers.image: nothing but `cnapse picture` and `cnapse view` would show it" in out
    assert plan_costs(config, Options(last="measure"))[0][1].tasks == 1


def test_no_model_for_such_voxels(tmp_path) -> None:
    image = _layer(tmp_path / "image", (64, 64, 8), (16, 16, 40))
    made = draft({"image": image}, output="run", folder=tmp_path)
    assert made.unknown[0] == (
        "detect.model: there is none for voxels of 16 x 16 x 40 nm (the shipped one is for "
        "4 x 4 x 50 nm); train your own with `cnapse train`"
    )


def test_an_image_of_16_bits_is_told(tmp_path) -> None:
    box = Box.from_shape((64, 64, 8), (4, 4, 50))
    create_layer(tmp_path / "image", kind="image", dtype="uint16", bounds=box, chunk_size=64)
    made = draft({"image": str(tmp_path / "image")}, output="run", folder=tmp_path)
    assert made.unknown[0].startswith(
        "layers.image: it has pixels of uint16, detection takes uint8"
    )


def test_mistakes_are_one_line_and_leave_nothing(init, tmp_path) -> None:
    _layer(tmp_path / "image", (64, 64, 8), (4, 4, 50))
    for name, h, start in (("cells", (4, 4, 50), (0, 0, 0)), ("away", (4, 4, 50), (99, 0, 0)),
                           ("odd", (5, 5, 50), (0, 0, 0))):  # fmt: skip
        _layer(tmp_path / name, (64, 64, 8), h, kind="segmentation", start=start)
    (tmp_path / "old.toml").write_text("mine")
    cases = [
        (["image", "none"], "none"),
        (["cells", "image"], "is of type segmentation, but an image is needed"),
        (["image", "away"], "layers do not overlap: cells"),
        (["image", "odd"], "all layers: image has 4 x 4 x 50 nm; cells has 5 x 5 x 50 nm; "),
        (["image", "cells", "-o", "no/where.toml"], "-o no/where.toml: there is no folder"),
        (["image", "cells", "-o", "old.toml"], "old.toml is there already: choose another name"),
    ]  # fmt: skip
    for (image, cells, *options), message in cases:
        code, _, err = init("--image", image, "--cells", cells, *options)
        assert code == 1
        assert message in err
        assert "\n" not in err.strip()
        assert [f.name for f in tmp_path.glob("*.toml")] == ["old.toml"]
    assert (tmp_path / "old.toml").read_text() == "mine"
