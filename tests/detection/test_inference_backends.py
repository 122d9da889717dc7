"""Which path is taken, and that it is said."""

import numpy as np
import pytest
import torch

from cnapse.detection import backends
from cnapse.detection.backends import Engine
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import detect_whole, fitting_tile, with_tile
from cnapse.detection.network import FrozenUNet, UNet
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box

NM = (4.0, 4.0, 50.0)


def model_of(kind=FrozenUNet, sections=1, classes=("synapse",)):
    network = kind((8, 8, 8), sections, len(classes))
    network.initialize(torch.Generator().manual_seed(7))
    return ModelBundle.of(network, resolution=NM, tile=(64, 64), halo=48, classes=classes)


MODEL = model_of()
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _no_engines(monkeypatch):
    monkeypatch.setattr(backends, "_ENGINES", {})


def tiles(count):
    found = np.random.default_rng(1).integers(0, 256, (count, 1, 160, 160), dtype=np.uint8)
    return [part[None] for part in found]


def test_compiled_runs_say_so(monkeypatch):
    compiled = []

    def compile_(network, **options):
        compiled.append(options)
        return torch._dynamo.eval_frame.OptimizedModule(network, lambda f: f)

    monkeypatch.setattr(torch, "compile", compile_)
    engine = Engine(MODEL, compiled=True)
    found = list(engine.run(tiles(2)))
    assert engine.took == "compiled float32 on cpu"
    # Parts that are run eagerly without a word are ruled out.
    assert compiled[0]["fullgraph"]
    assert not compiled[0]["dynamic"]
    for a, b in zip(found, Engine(MODEL).run(tiles(2)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("when", ["at once", "at the first tile"])
def test_a_compiler_that_fails_is_told_and_changes_nothing(monkeypatch, when):
    def broken(*_):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken if "first" in when else broken())
    engine = Engine(MODEL, compiled=True, precision="bfloat16")
    found = list(engine.run(tiles(2)))
    assert engine.took == (
        "eager bfloat16 on cpu: torch.compile failed (RuntimeError: no C++ compiler)"
    )
    for a, b in zip(found, Engine(MODEL, precision="bfloat16").run(tiles(2)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_eager_runs_say_so():
    assert Engine(MODEL, precision="bfloat16").took == "eager bfloat16 on cpu"


def test_a_batch_changes_no_byte_in_any_precision():
    for precision in ("float32", "bfloat16"):
        one = detect_whole(IMAGE, MODEL, precision=precision)
        many = detect_whole(IMAGE, MODEL, precision=precision, batch=5)
        np.testing.assert_array_equal(one, many)


def test_neighbouring_sections_and_classes():
    model = model_of(sections=3, classes=("density", "vesicles"))
    found = detect_whole(IMAGE, model)
    assert found.shape == (*IMAGE.shape, 2)
    padded = np.pad(IMAGE, [(48, 58 + 48), (48, 38 + 48), (1, 1)], mode="reflect")
    network = model.network()
    for z in range(3):
        stack = torch.from_numpy(padded[:, :, z : z + 3].transpose(2, 1, 0) / np.float32(255))
        with torch.inference_mode():
            p = 255 * torch.sigmoid(network(stack[None])[0]).numpy().transpose(2, 1, 0)
        expected = p[48 : 48 + 70, 48 : 48 + 90]
        assert np.abs(found[:, :, z] - expected).max() < 0.51


def test_where_the_mask_is_not_there_is_no_probability_and_no_work(monkeypatch):
    mask = np.zeros(IMAGE.shape, np.bool_)
    mask[3:40, 70:80, 1] = True
    plain = detect_whole(IMAGE, MODEL)
    ran = []
    run = Engine._mean
    monkeypatch.setattr(Engine, "_mean", lambda self, x: ran.append(1) or run(self, x))
    found = detect_whole(IMAGE, MODEL, mask=mask)
    np.testing.assert_array_equal(found, np.where(mask, plain, 0))
    assert found.any()
    assert len(ran) == 1
    np.testing.assert_array_equal(
        detect_whole(IMAGE, MODEL, mask=mask, zero_is_missing=True),
        np.where(mask & (IMAGE > 0), plain, 0),
    )
    with pytest.raises(FormatError, match=r"needs bool of shape \(70, 90, 3\)"):
        detect_whole(IMAGE, MODEL, mask=mask[1:])


@pytest.mark.parametrize(
    ("shape", "largest", "tile"),
    [((1, 1, 1), 64, (4, 4)), ((70, 60, 1), 64, (36, 60)), ((1000, 900, 1), 512, (500, 452))],
)
def test_the_fitting_tile_is_equal_and_small(shape, largest, tile):
    assert fitting_tile(MODEL, Box.from_shape(shape, NM), largest) == tile


def test_tiles_are_free_only_where_they_change_nothing():
    other = with_tile(MODEL, (32, 128))
    assert other.tile == (32, 128)
    assert with_tile(MODEL, None) is MODEL
    np.testing.assert_array_equal(detect_whole(IMAGE, other), detect_whole(IMAGE, MODEL))
    published = model_of(UNet)
    assert fitting_tile(published, Box.from_shape(IMAGE.shape, NM)) == (64, 64)
    with pytest.raises(ConfigError, match=r"statistics from tiles of 64 x 64 px"):
        with_tile(published, (32, 32))
    with pytest.raises(ConfigError, match=r"must be a multiple of 4 px"):
        with_tile(MODEL, (30, 32))
