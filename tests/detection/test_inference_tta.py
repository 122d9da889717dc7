"""Test-time augmentation: views and their inverses, and what they promise together with tiles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.backends import engine_of
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import detect_block, detect_whole
from cnapse.detection.network import FrozenUNet
from cnapse.detection.tta import views_of
from cnapse.errors import ConfigError
from cnapse.geometry import Box

NM = (4.0, 4.0, 50.0)


def model_of(tile):
    network = FrozenUNet((8, 8, 8))
    network.initialize(torch.Generator().manual_seed(5))
    return ModelBundle.of(network, resolution=NM, tile=tile, halo=48)


MODEL = model_of((64, 48))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)),
    name=st.sampled_from(["none", "flips", "all"]),
    seed=st.integers(0, 99),
)
def test_undo_is_the_inverse_of_apply(shape, name, seed):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    for view in views_of(name):
        assert torch.equal(view.undo(view.apply(image)), image)
        assert torch.equal(view.apply(view.undo(image)), image)


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flips", 4), ("all", 8)])
def test_views_differ_and_the_first_leaves_the_image(name, count):
    image = torch.arange(9).reshape(3, 3)
    seen = [tuple(view.apply(image).flatten().tolist()) for view in views_of(name)]
    assert len(set(seen)) == len(seen) == count
    assert seen[0] == tuple(range(9))


@settings(max_examples=8, deadline=None)
@given(
    name=st.sampled_from(["flips", "all"]),
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    tile=st.tuples(st.sampled_from([32, 64, 128]), st.sampled_from([32, 64, 128])),
)
def test_it_is_the_mean_over_numpys_flips_for_any_tile(name, shape, tile):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 1), dtype=np.uint8)
    found = detect_whole(image, replace(MODEL, tile=tile), augment=name)
    plain = detect_whole(image, replace(MODEL, tile=tile))

    # The section, mirrored and out to multiples of the stride on all sides, as one image.
    x, y = (n + 96 + -n % 4 for n in shape)
    padding = [(48, x - 48 - shape[0]), (48, y - 48 - shape[1])]
    section = np.pad(image[..., 0], padding, mode="reflect").T
    turns = (0, 1, 2, 3) if name == "all" else (0, 2)
    total = 0
    for mirrored in (False, True):
        for k in turns:
            seen = np.rot90(section[:, ::-1] if mirrored else section, k)
            stack = np.ascontiguousarray(seen)[None, None]
            logits = engine_of(MODEL, "float32", "cpu").whole_logits(stack)[0, 0]
            p = np.rot90(torch.sigmoid(logits).double().numpy(), -k)
            total = total + (p[:, ::-1] if mirrored else p)
    expected = (255 * total / (2 * len(turns)))[48 : 48 + shape[1], 48 : 48 + shape[0]].T
    assert np.abs(found[..., 0] - expected).max() < 0.5001
    assert found.shape == plain.shape


def test_a_flipped_image_gives_the_flipped_result():
    image = np.random.default_rng(2).integers(0, 256, (64, 96, 1), dtype=np.uint8)
    found = detect_whole(image, MODEL, augment="flips")
    flipped = detect_whole(image[::-1, ::-1], MODEL, augment="flips")
    np.testing.assert_allclose(flipped[::-1, ::-1].astype(int), found, atol=1)
    plain = detect_whole(image, MODEL)
    assert np.abs(detect_whole(image[::-1], MODEL)[::-1].astype(int) - plain).max() > 1


def test_quarter_turns_take_square_voxels():
    bounds = Box((0, 0, 0), (64, 48, 1), (4.0, 5.0, 50.0))
    image = np.zeros((160, 144, 1), np.uint8)
    with pytest.raises(ConfigError, match=r'voxels of 4 x 5 nm are not square: take "flips"'):
        detect_block(image, bounds, bounds, MODEL, augment="all")
    detect_block(image, bounds, bounds, MODEL, augment="flips")
    with pytest.raises(ConfigError, match=r'augment must be "none", "flips" or "all", not "?\'so'):
        detect_whole(image, MODEL, augment="so")
