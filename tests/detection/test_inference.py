from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.backends import engine_of
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import detect_block, detect_whole, read_box
from cnapse.detection.network import UNet
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box, Grid

# Wide enough at the bottom that torch takes the same kernels at every size.
WIDTHS = (4, 4, 4, 16, 64)
NM = (4.0, 4.0, 50.0)


def logits_of(images, model):
    """Of images (n, y, x) as they are; no halo is added or cut off."""
    return engine_of(model, "float32", "cpu").whole_logits(images[:, None])[:, 0]


def _network():
    network = UNet(WIDTHS)
    network.initialize(torch.Generator().manual_seed(0))
    return network


def _model(statistics, tile=(32, 48)):
    model = ModelBundle.of(_network(), resolution=NM, tile=tile)
    if statistics == "tile":
        return model
    sample = np.random.default_rng(1).integers(0, 256, (96, 96), dtype=np.uint8)
    return model.frozen([sample])


MODELS = {kind: _model(kind) for kind in ("frozen", "tile")}


def with_tile(model, tile, halo=160):
    return replace(model, tile=tile, halo=halo)


def mirrored(image, box, bounds):
    """The voxels of a box; outside of the bounds, mirrored by arithmetic of its own."""
    axes = []
    for a, b, low, high in zip(box.start, box.stop, bounds.start, bounds.stop, strict=True):
        n = high - low
        place = (np.arange(a, b) - low) % max(1, 2 * (n - 1))
        axes.append(np.where(place < n, place, 2 * (n - 1) - place))
    return image[np.ix_(*axes)]


def detected(image, write, bounds, model, **options):
    read = read_box(write, bounds, model)
    return detect_block(mirrored(image, read, bounds), write, bounds, model, **options)


def random_image(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_read_box_reaches_out_to_the_tile_grid_and_its_halo():
    bounds = Box((10, -5, 3), (210, 195, 9), NM)
    write = Box((50, 20, 4), (74, 43, 6), NM)
    read = read_box(write, bounds, MODELS["frozen"])
    assert read == Box((42 - 160, -5 - 160, 4), (74 + 160, 43 + 160, 6), NM)


sizes = st.integers(1, 90)


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(sizes, sizes),
    tile=st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([32, 64])),
    halo=st.sampled_from([160, 176]),
    offset=st.tuples(st.integers(-40, 40), st.integers(-40, 40), st.integers(-3, 3)),
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_whole_mirrored_section(shape, tile, halo, offset, seed):
    """Volumes smaller than a tile or the halo, at any offset: the same bytes as one run."""
    image = random_image((*shape, 1), seed)
    bounds = Box.from_shape(image.shape, NM, offset)
    model = with_tile(MODELS["frozen"], tile, halo)
    found = detected(image, bounds, bounds, model)

    to_16 = [-n % 16 for n in shape]
    grown = bounds.grown((320, 320, 0), (to_16[0] + 320, to_16[1] + 320, 0))
    section = mirrored(image, grown, bounds)[:, :, 0].T
    logits = logits_of(section[None], model)[0]
    inner = logits[320 : 320 + shape[1], 320 : 320 + shape[0]]
    expected = torch.round(255 / (1 + torch.exp(-inner.double()))).numpy().T
    # The expectation is in double, so values that lie on a half may round the other way.
    assert np.abs(found[:, :, 0].astype(int) - expected).max() <= 1
    sigmoid = torch.round(255.0 * torch.sigmoid(inner)).to(torch.uint8).numpy().T
    np.testing.assert_array_equal(found[:, :, 0], sigmoid)


def test_logits_of_a_tile_equal_the_whole_to_the_bit():
    image = random_image((1, 480, 448), 5)
    whole = logits_of(image, MODELS["frozen"])
    for y, x in [(0, 0), (16, 48), (112, 80)]:
        tile = logits_of(image[:, y : y + 352, x : x + 352], MODELS["frozen"])
        inner = tile[:, 160:192, 160:192]
        assert torch.equal(inner, whole[:, y + 160 : y + 192, x + 160 : x + 192])
        assert not torch.equal(tile, whole[:, y : y + 352, x : x + 352])


@settings(max_examples=6, deadline=None)
@given(
    statistics=st.sampled_from(["frozen", "tile"]),
    block=st.tuples(st.integers(20, 70), st.integers(20, 70), st.integers(1, 2)),
    batch=st.integers(1, 5),
    offset=st.tuples(st.integers(-40, 40), st.integers(-40, 40), st.integers(-3, 3)),
)
def test_blocks_and_batches_leave_no_trace(statistics, block, batch, offset):
    model = MODELS[statistics]
    image = random_image((70, 60, 2), 3)
    bounds = Box.from_shape(image.shape, NM, offset)
    whole = detected(image, bounds, bounds, model)
    out = np.zeros_like(whole)
    for part in Grid(bounds, block):
        out[part.write.slices(bounds)] = detected(image, part.write, bounds, model, batch=batch)
    np.testing.assert_array_equal(out, whole)


def test_statistics_of_the_tile_are_those_of_one_tile_alone():
    model = with_tile(MODELS["tile"], (32, 32), halo=16)
    image = random_image((64, 32, 1), 8)
    bounds = Box.from_shape(image.shape, NM)
    found = detected(image, bounds, bounds, model, batch=2)
    padded = mirrored(image, bounds.grown((16, 16, 0)), bounds)[:, :, 0].T
    network = _network()
    for x in (0, 32):
        tile = torch.from_numpy(padded[:, x : x + 64].astype(np.float32) / 255)[None, None]
        with torch.inference_mode():
            p = torch.sigmoid(network(tile))[0, 0, 16:-16, 16:-16]
        expected = np.rint(255 * p.double().numpy().T)
        assert np.abs(found[x : x + 32, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("statistics", ["frozen", "tile"])
def test_missing_image_is_0_and_changes_nothing_else(statistics):
    image = np.maximum(random_image((96, 96, 2), 4), 1)
    image[:40, :50] = 0
    image[70, 80] = 0
    bounds = Box.from_shape(image.shape, NM)
    plain = detected(image, bounds, bounds, MODELS[statistics])
    found = detected(image, bounds, bounds, MODELS[statistics], zero_is_missing=True)
    assert plain[image == 0].any()
    np.testing.assert_array_equal(found, np.where(image == 0, 0, plain))


def test_blank_tiles_are_not_run(monkeypatch):
    from cnapse.detection import backends

    image = np.zeros((64, 96, 2), np.uint8)
    image[5, 5, 1] = 9
    ran = []
    original = backends.Engine._mean
    monkeypatch.setattr(
        backends.Engine,
        "_mean",
        lambda self, images: ran.append(len(images)) or original(self, images),
    )
    bounds = Box.from_shape(image.shape, NM)
    detected(image, bounds, bounds, MODELS["frozen"], zero_is_missing=True)
    assert ran == [1]
    detected(image, bounds, bounds, MODELS["frozen"])
    assert sum(ran) == 1 + 2 * 2 * 2


def test_bfloat16_is_near_and_half_weights_are_run_in_float32():
    image = random_image((60, 50, 1), 2)
    exact = detect_whole(image, MODELS["frozen"]).astype(int)
    rough = detect_whole(image, MODELS["frozen"], precision="bfloat16", batch=2).astype(int)
    assert 0 < np.abs(exact - rough).mean() < 20
    half = MODELS["frozen"].half()
    rounded = replace(half, weights={k: v.float() for k, v in half.weights.items()})
    np.testing.assert_array_equal(detect_whole(image, half), detect_whole(image, rounded))


def test_detect_whole_mirrors_as_the_reader_does():
    image = random_image((50, 70, 2), 6)
    bounds = Box.from_shape(image.shape, NM)
    expected = detected(image, bounds, bounds, MODELS["frozen"])
    found = detect_whole(image, MODELS["frozen"])
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, expected)


def test_wrong_calls_are_refused():
    image = random_image((50, 70, 2), 6)
    bounds = Box.from_shape(image.shape, NM)
    with pytest.raises(FormatError, match=r"needs uint8 of shape \(384, 416, 2\)"):
        detect_block(image, bounds, bounds, MODELS["frozen"])
    for options, message in [
        ({"precision": "float16"}, '"float32" or "bfloat16", not \'float16\''),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"device": "gpu9"}, "device 'gpu9' cannot be used"),
    ]:
        with pytest.raises(ConfigError, match=message):
            detect_whole(image, MODELS["frozen"], **options)
