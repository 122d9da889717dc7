import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from cnapse.detection.augment import (
    AUGMENTATIONS,
    Patch,
    _interpolated,
    _pixels,
    augmented,
    blackpad,
    blur,
    contrast,
    darkline,
    elastic,
    misalignment,
    missing_section,
    noise,
)
from cnapse.errors import ConfigError

MOVES = ("flip", "rotate90", "elastic")
MOVES_SOME = (*MOVES, "misalignment")
IN_ONE_SECTION = ("darkline", "block", "blur")
seeds = st.integers(0, 2**32)
sections = st.sampled_from([1, 3, 5])
shapes = st.sampled_from([(48, 64), (48, 48), (80, 33)])
names = st.sampled_from(sorted(AUGMENTATIONS))


def made(shape=(48, 64), count=3, seed=0):
    """Sections with grey values of their own; what is drawn shows in each of them."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1)) < 0.3, np.ones((8, 8)))
    label = label[: shape[0], : shape[1]] > 0
    grey = np.array([100 + 5 * i for i in range(count)])[:, None, None]
    image = np.where(label, 200, grey).astype(np.uint8)
    return Patch(image, label, counts=~np.roll(label, 3, 0), auxiliary=np.roll(label, 5, 1))


def drawn(patch):
    return [patch.label, patch.counts, patch.auxiliary]


def arrays(patch):
    return [patch.image, *drawn(patch)]


@settings(max_examples=30, deadline=None)
@given(name=names, shape=shapes, count=sections, seed=seeds)
def test_an_augmentation_is_pure_seeded_and_keeps_shape_and_dtype(name, shape, count, seed):
    patch = made(shape, count)
    kept = [array.copy() for array in arrays(patch)]
    first = AUGMENTATIONS[name](patch, np.random.default_rng(seed))
    again = AUGMENTATIONS[name](patch, np.random.default_rng(seed))
    for a, b, before, old in zip(arrays(first), arrays(again), arrays(patch), kept, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(before, old)
        assert a.dtype == before.dtype
        assert a.shape == before.shape


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_each_changes_something_and_differs_by_seed(name, count):
    patch = made((48, 48), count)
    images = [
        AUGMENTATIONS[name](patch, np.random.default_rng(seed)).image.tobytes() for seed in range(8)
    ]
    if name == "missing_section" and count == 1:
        assert set(images) == {patch.image.tobytes()}
    else:
        assert len({*images, patch.image.tobytes()}) > 2


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(MOVES), shape=shapes, seed=seeds)
def test_moves_keep_image_and_drawing_together(name, shape, seed):
    # The drawing follows from the grey values, but for those near the limit.
    rows = np.broadcast_to(np.linspace(0, 255, shape[1]), shape)
    patch = Patch(rows.astype(np.uint8)[None], rows > 127, np.ones(shape, bool))
    moved = AUGMENTATIONS[name](patch, np.random.default_rng(seed))
    sure = np.abs(moved.image[0].astype(int) - 127) > (
        1 + 255 // shape[1] if name == "elastic" else 0
    )
    np.testing.assert_array_equal((moved.image[0] > 127)[sure], moved.label[sure])
    assert moved.counts.all()


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_flips_and_turns_are_permutations_of_all_sections_alike(seed):
    patch = made((48, 48), 3)
    for name in ("flip", "rotate90"):
        moved = AUGMENTATIONS[name](patch, np.random.default_rng(seed))
        for section in moved.image:
            np.testing.assert_array_equal(section == 200, moved.label)
        np.testing.assert_array_equal(np.sort(moved.counts, None), np.sort(patch.counts, None))


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_elastic_bends_by_a_few_pixels_and_never_folds(seed):
    shape = (96, 80)
    steps = np.stack(
        [np.broadcast_to(np.arange(n).reshape(s), shape) for n, s in [(96, (-1, 1)), (80, (1, -1))]]
    )
    bent = elastic(
        Patch(steps.astype(np.uint8), steps[0] > 40, np.ones(shape, bool)),
        np.random.default_rng(seed),
    ).image.astype(int)
    inner = (slice(None), slice(9, -9), slice(9, -9))
    assert np.abs(bent - steps)[inner].max() <= 9
    # Where a pixel comes from grows along its axis, four pixels on for sure.
    assert (bent[0, 13:-9] - bent[0, 9:-13]).min() > 0
    assert (bent[1][:, 13:-9] - bent[1][:, 9:-13]).min() > 0


@settings(max_examples=30, deadline=None)
@given(count=sections, seed=seeds)
def test_a_section_that_lies_askew_takes_its_drawing_along(count, seed):
    patch = made((48, 64), count)
    moved = misalignment(patch, np.random.default_rng(seed))
    np.testing.assert_array_equal(moved.image[patch.middle] == 200, moved.label)
    is_moved = [not np.array_equal(a, b) for a, b in zip(moved.image, patch.image, strict=True)]
    places = np.flatnonzero(is_moved)
    # One section, or one and all after it.
    assert len(places) <= 1 or list(places) == list(range(places[0], count))
    shifted = {(section == 200).tobytes() for section in moved.image[places]}
    assert len(shifted) <= 1


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(set(AUGMENTATIONS) - {*MOVES_SOME, "blackpad"})), seed=seeds)
def test_changes_of_grey_values_leave_the_drawing(name, seed):
    patch = made()
    changed = AUGMENTATIONS[name](patch, np.random.default_rng(seed))
    for a, b in zip(drawn(changed), drawn(patch), strict=True):
        np.testing.assert_array_equal(a, b)
    if name in IN_ONE_SECTION:
        sections = [(a != b).any() for a, b in zip(changed.image, patch.image, strict=True)]
        assert sum(sections) <= 1


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_nothing_is_drawn_where_a_section_ends(seed):
    patch = made()
    ended = blackpad(patch, np.random.default_rng(seed))
    black = (ended.image == 0).all(axis=0)
    assert 0 < black.mean() <= 0.25
    np.testing.assert_array_equal(ended.label, patch.label & ~black)
    np.testing.assert_array_equal(ended.auxiliary, patch.auxiliary & ~black)
    np.testing.assert_array_equal(ended.image[:, ~black], patch.image[:, ~black])


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_a_missing_section_is_a_neighbour(seed):
    patch = made(count=5)
    lacking = missing_section(patch, np.random.default_rng(seed))
    np.testing.assert_array_equal(lacking.image[2], patch.image[2])
    [index] = [i for i in range(5) if not np.array_equal(lacking.image[i], patch.image[i])]
    copied = np.array_equal(lacking.image[index], patch.image[2])
    assert copied or not lacking.image[index].any()


def test_grey_values_change_as_said():
    flat = Patch(
        np.full((3, 64, 64), 120, np.uint8), np.zeros((64, 64), bool), np.ones((64, 64), bool)
    )
    deviations, shifts, mean_of_noise = [], [], []
    for seed in range(40):
        noisy = noise(flat, np.random.default_rng(seed)).image.astype(float)
        deviations.append(noisy.std())
        mean_of_noise.append(noisy.mean())
        shifts.append(contrast(flat, np.random.default_rng(seed)).image.astype(int)[:, 0, 0] - 120)
        assert (darkline(flat, np.random.default_rng(seed)).image <= flat.image).all()
        assert (blur(flat, np.random.default_rng(seed)).image == 120).all()
    assert 1.9 < min(deviations) < 6 < 15 < max(deviations) < 20.5
    assert np.abs(np.array(mean_of_noise) - 120).max() < 1.5
    assert np.abs(shifts).max() <= 25
    together = [len(set(shift)) == 1 for shift in shifts]
    assert 0.25 < np.mean(together) < 0.75


def test_each_is_switched_off_by_its_chance():
    patch = made()
    rng = np.random.default_rng(0)
    for chances in ({}, dict.fromkeys(AUGMENTATIONS, 0.0)):
        for a, b in zip(arrays(augmented(patch, rng, chances)), arrays(patch), strict=True):
            np.testing.assert_array_equal(a, b)
    for name in AUGMENTATIONS:
        seen = {augmented(patch, rng, {name: 1.0}).image.tobytes() for _ in range(8)}
        assert seen - {patch.image.tobytes()}, name
        others = dict.fromkeys(set(AUGMENTATIONS) - {name}, 1.0)
        assert augmented(patch, rng, others).image.flags.c_contiguous
    rare = [augmented(patch, rng, {"noise": 0.25}).image.tobytes() for _ in range(200)]
    assert 0.1 < np.mean([image != patch.image.tobytes() for image in rare]) < 0.4
    with pytest.raises(ConfigError, match="'blurr' is not known; there are: flip"):
        augmented(patch, rng, {"blurr": 1.0})


@settings(max_examples=20, deadline=None)
@given(seed=seeds, shape=shapes)
def test_interpolation_is_scipys(seed, shape):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    places = np.indices(shape) + rng.uniform(-8, 8, (2, *shape))
    expected = [map_coordinates(one.astype(float), places, order=1, mode="mirror") for one in image]
    assert np.abs(_interpolated(image, *places) - np.array(expected)).max() <= 0.501
    whole = np.rint(places)
    mirrored = map_coordinates(image[0], whole, order=0, mode="mirror")
    np.testing.assert_array_equal(image[0].ravel()[_pixels(*whole, shape)], mirrored)
