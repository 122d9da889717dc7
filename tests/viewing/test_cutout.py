"""`cnapse.cutout` and `cnapse.open_run`: the voxels of the layers, around a synapse or a point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnapse
from cnapse.errors import BoundsError, ConfigError, FormatError, RunStateError, TableError
from cnapse.viewing.palette import SYNAPSE, rgb
from cnapse_cli.picture import picture


def _same_as_layers(config: Path, view) -> None:
    for name in ("image", "cells", "synapses", "probability"):
        folder = config.parent / ("out/synapses" if name == "synapses" else name)
        layer = cnapse.open_layer(folder, resolution=view.box.resolution)
        np.testing.assert_array_equal(getattr(view, name), layer.read(view.box))


def test_a_synapse(finished_run: Path, tmp_path: Path) -> None:
    config = finished_run / "cnapse.toml"
    view = cnapse.cutout(config, synapse=7, width_nm=400, sections=5)
    assert view.box.shape == (100, 100, 5)
    assert (view.synapses == 7).sum() == 400
    assert view.pre is not None
    assert (view.pre.name, [p.name for p in view.partners]) == ("AVAL", ["$100 神経", "RIML"])
    _same_as_layers(config, view)
    view.draw(tmp_path / "seven.png")
    with Image.open(tmp_path / "seven.png") as picture:
        assert picture.width > 5 * 480


def test_a_point(finished_run: Path, tmp_path: Path) -> None:
    """Whether a synapse is near or not; at the rim the box is moved into the volume."""
    run = cnapse.open_run(finished_run / "cnapse.toml")
    for place, start in (
        ((1720.0, 1200.0, 1710.0), (368, 238, 33)),
        ((401, 801, 1501), (100, 200, 30)),
    ):
        view = cnapse.cutout(run, position_nm=place, width_nm=500, sections=3)
        assert view.box == cnapse.Box.from_shape((125, 125, 3), (4, 4, 50), start)
        _same_as_layers(finished_run / "cnapse.toml", view)
        assert view.pre is None
        view.draw(tmp_path / f"{start[0]}.png")
    assert (view.synapses != 0).any()
    assert _outline(tmp_path / "100.png") > _outline(tmp_path / "368.png") + 100


def _outline(path: Path) -> int:
    """Pixels in the colour of synapses; the legend has some."""
    with Image.open(path) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    return int((pixels == rgb(SYNAPSE)).all(axis=-1).sum())


def test_the_tables_and_layers_of_a_run(finished_run: Path) -> None:
    run = cnapse.open_run(str(finished_run / "cnapse.toml"))
    assert cnapse.open_run(run) is run
    assert run.synapses["syn_id"].tolist() == [7, 2**63 + 5, 9]
    assert set(run.partners["post"]) == {"RIML", "$100 神経", "14"}
    assert run.layer("cells").kind == "segmentation"
    config = cnapse.load_config(finished_run / "cnapse.toml")
    assert cnapse.open_run(config).layer("synapses").bounds == run.frame


def test_cells_are_grown_as_in_the_run(finished_run: Path) -> None:
    config = cnapse.load_config(finished_run / "cnapse.toml")
    cells = config.layers.cells.model_copy(update={"grow_nm": 20.0})
    grown = config.model_copy(update={"layers": config.layers.model_copy(update={"cells": cells})})
    plain, wide = (cnapse.cutout(c, synapse=7).cells for c in (config, grown))
    assert (plain == 0).any()
    assert (wide != 0).all()
    np.testing.assert_array_equal(wide[plain != 0], plain[plain != 0])
    data = cnapse.open_run(grown)
    view = cnapse.cutout(data, synapse=7)
    np.testing.assert_array_equal(wide, data.read_cells(view.box))
    point = cnapse.cutout(data, position_nm=view.position_nm)
    np.testing.assert_array_equal(point.cells, data.read_cells(point.box))


def test_a_picture_shows_the_cells_of_a_cutout(finished_run: Path, tmp_path: Path) -> None:
    """`cnapse picture`, with cells grown: just what `cutout(...).draw` draws."""
    text = (finished_run / "cnapse.toml").read_text()
    wide = 'cells = { path = "cells", grow_nm = 20 }'
    (finished_run / "grown.toml").write_text(text.replace('cells = "cells"', wide))
    for name in ("cnapse", "grown"):
        picture(finished_run / f"{name}.toml", tmp_path / f"{name}.png", synapse=7)
    view = cnapse.cutout(finished_run / "grown.toml", synapse=7)
    view.draw(tmp_path / "same.png")
    drawn = (tmp_path / "grown.png").read_bytes()
    assert drawn == (tmp_path / "same.png").read_bytes()
    assert drawn != (tmp_path / "cnapse.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "give one of synapse and position_nm"),
        ({"synapse": 7, "position_nm": (1, 1, 1)}, ConfigError, "give one of"),
        ({"synapse": 8}, TableError, "synapse 8 is not in the table"),
        ({"synapse": 7, "sections": 0}, FormatError, "is empty"),
        (
            {"position_nm": (300, 310, 33)},
            BoundsError,
            r"position 300, 310, 33 nm is outside of .*/out/synapses, which covers 400, 800, 1500 ",
        ),
    ],
)
def test_mistakes(finished_run: Path, options, error, message) -> None:
    with pytest.raises(error, match=message):
        cnapse.cutout(finished_run / "cnapse.toml", **options)


def test_a_run_without_image_or_tables(finished_run: Path) -> None:
    config = cnapse.load_config(finished_run / "cnapse.toml")
    layers = config.layers.model_copy(update={"image": None})
    with pytest.raises(ConfigError, match=r"layers\.image is missing: a picture needs it"):
        cnapse.cutout(config.model_copy(update={"layers": layers}), synapse=7)
    with pytest.raises(RunStateError, match="has no tables yet"):
        _ = cnapse.open_run(config.model_copy(update={"output": f"{finished_run}/no"})).partners
