import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.datasets import AnnotatedVolume, Densities, as_objects
from cnapse.detection.samples import (
    Sampling,
    check_volumes,
    draw_batch,
    draw_sections,
    is_on_density,
    neighbours,
)
from cnapse.errors import BoundsError, FormatError

MOVES = {"flip": 1.0, "rotate90": 1.0}


def spots(shape=(80, 72, 3), seed=0):
    """Three bright columns on a dark ground, each an object."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 90, shape, dtype=np.uint8)
    labels = np.zeros(shape, np.uint64)
    for z in range(shape[2]):
        for i, (x, y) in enumerate([(12, 14), (40, 50), (60, 20)]):
            shift = rng.integers(-4, 5, 2)
            part = (slice(x + shift[0], x + shift[0] + 9), slice(y + shift[1], y + shift[1] + 9), z)
            labels[part] = 1 + i
            image[part] = 200
    return image, labels


def scattered(seed, shape=(96, 80, 4)):
    """A few voxels on an empty ground, so that few patches hold one by chance."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    for number in range(1, 3):
        labels[tuple(int(rng.integers(n)) for n in shape)] = number
    return AnnotatedVolume(rng.integers(1, 255, shape, dtype=np.uint8), labels)


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), batch=st.integers(1, 7), steps=st.integers(1, 40))
def test_the_share_on_densities_is_the_one_that_is_set(share, batch, steps):
    on = [is_on_density(step * batch + i, share) for step in range(steps) for i in range(batch)]
    assert sum(on) == int(steps * batch * share)
    assert abs(np.mean(on) - share) <= 1 / len(on)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_patches_on_a_density_hold_it(seed, share):
    empty = AnnotatedVolume(np.ones((64, 64, 2), np.uint8), np.zeros((64, 64, 2), np.uint8))
    sampling = Sampling(patch=32, batch=16, density_share=share, augment=MOVES)
    batch = draw_batch([empty, scattered(seed)], sampling, np.random.default_rng(seed))
    held = [label.any() for label in batch.label]
    expected = [is_on_density(i, share) for i in range(16)]
    assert all(h for h, e in zip(held, expected, strict=True) if e)
    # By chance a patch holds one of two voxels in four sections with probability 0.1 at most.
    assert sum(h for h, e in zip(held, expected, strict=True) if not e) <= 8


def test_small_densities_are_drawn_as_often_as_large_ones():
    labels = np.zeros((40, 40, 2), np.uint16)
    labels[:20, :20] = 7
    labels[30, 30, 1] = 9
    densities = Densities.of(labels)
    assert len(densities) == 2
    rng = np.random.default_rng(0)
    found = [int(labels[densities.draw(rng)]) for _ in range(400)]
    assert set(found) == {7, 9}
    assert 0.4 < np.mean(np.array(found) == 9) < 0.6
    assert len(Densities.of(labels * 0)) == 0


def test_objects_of_one_value_are_its_components():
    labels = np.zeros((20, 20, 1), np.uint8)
    labels[2:5, 2:5] = 255
    labels[5:8, 5:8] = 255
    labels[15, 15] = 255
    objects = as_objects(labels)
    assert np.unique(objects).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(objects > 0, labels > 0)
    labels[15, 15] = 3
    assert as_objects(labels) is labels


def test_what_is_ignored_is_not_drawn_and_does_not_count():
    image, labels = spots()
    ignore = np.zeros(image.shape, bool)
    ignore[:, :36] = True
    volume = AnnotatedVolume(image, labels, ignore=ignore)
    assert np.unique(volume.objects).tolist() == [0, 2]
    sampling = Sampling(patch=32, batch=16, density_share=1.0, augment={})
    batch = draw_batch([volume], sampling, np.random.default_rng(0))
    assert not batch.counts.all()
    for label, counts in zip(batch.label, batch.counts, strict=True):
        assert (label & counts).any()
        edges = np.flatnonzero(np.diff(counts[:, 0].astype(int)))
        assert len(edges) <= 1
        assert (counts == counts[:, :1]).all()


@settings(max_examples=15, deadline=None)
@given(border=st.integers(1, 4), seed=st.integers(0, 99))
def test_pixels_beside_an_outline_do_not_count(border, seed):
    volume = AnnotatedVolume(*spots(seed=seed))
    sampling = Sampling(64, 4, 0.5, {}, border=border)
    batch = draw_batch([volume], sampling, np.random.default_rng(seed))
    for label, counts in zip(batch.label, batch.counts, strict=True):
        for y, x in np.ndindex(label.shape):
            around = label[max(y - border, 0) : y + border + 1, max(x - border, 0) : x + border + 1]
            assert counts[y, x] == (around.all() or not around.any())


def test_patches_show_what_they_mark():
    image, labels = spots()
    empty = AnnotatedVolume(np.full((64, 64, 1), 70, np.uint8), np.zeros((64, 64, 1), np.uint64))
    volumes = [AnnotatedVolume(image, labels, auxiliary=labels == 2), empty]
    sampling = Sampling(patch=48, batch=12, density_share=1.0, augment=MOVES)
    batch = draw_batch(volumes[:1], sampling, np.random.default_rng(0))
    assert batch.image.shape == (12, 1, 48, 48)
    assert batch.label.shape == batch.counts.shape == batch.auxiliary.shape == (12, 48, 48)
    np.testing.assert_array_equal(batch.image[:, 0] == 200, batch.label)
    assert batch.counts.all()
    assert 0 < batch.auxiliary.sum() < batch.label.sum()
    assert not (batch.auxiliary & ~batch.label).any()
    again = draw_batch(volumes[:1], sampling, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.image, again.image)
    plain = [AnnotatedVolume(image, labels), empty]
    assert draw_batch(plain, sampling, np.random.default_rng(0)).auxiliary is None


def test_patches_lie_y_x():
    image = np.zeros((64, 64, 1), np.uint8)
    image[:, 10] = 200
    volume = AnnotatedVolume(image, image.astype(np.uint64))
    batch = draw_batch([volume], Sampling(64, 1, 1.0, {}), np.random.default_rng(0))
    rows = (batch.image[0, 0] == 200).all(axis=1)
    assert 1 <= rows.sum() <= 2  # mirrored at the rim, it may be seen twice
    assert not (batch.image[0, 0, ~rows] == 200).any()


@settings(max_examples=20, deadline=None)
@given(size=st.integers(24, 90), seed=st.integers(0, 99))
def test_beyond_the_rim_a_patch_is_mirrored_as_inference_does(size, seed):
    column = np.arange(size, dtype=np.uint8)
    volume = AnnotatedVolume(np.tile(column[:, None, None], (1, size, 1)), np.ones((size, size, 1)))
    batch = draw_batch([volume], Sampling(48, 8, 0.0, {}), np.random.default_rng(seed))
    wide = np.pad(column, 12, mode="reflect")
    places = {wide[i : i + 48].tobytes() for i in range(len(wide) - 47)}
    seen = {image[0, 0].tobytes() for image in batch.image}
    assert seen <= places
    assert len(seen) > 1 or size < 60


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("sections", [1, 3, 7])
def test_neighbours_are_mirrored_at_the_ends(depth, sections):
    reach = sections // 2
    padded = np.pad(np.arange(depth), reach, mode="reflect") if depth > 1 else np.zeros(sections)
    for z in range(depth):
        np.testing.assert_array_equal(neighbours(z, sections, depth), padded[z : z + sections])


def test_sections_of_a_patch_are_neighbours():
    shape = (40, 40, 6)
    image = np.broadcast_to(np.arange(6, dtype=np.uint8) * 10, shape).copy()
    labels = np.zeros(shape, np.uint8)
    labels[20, 20, 3] = 1
    sampling = Sampling(32, 4, 1.0, {}, sections=5)
    batch = draw_batch([AnnotatedVolume(image, labels)], sampling, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.image[:, :, 0, 0], [[10, 20, 30, 40, 50]] * 4)
    assert batch.label.any(axis=(1, 2)).all()


def test_sections_have_a_mirrored_margin():
    image, labels = spots()
    rng = np.random.default_rng(0)
    [section] = draw_sections(
        [AnnotatedVolume(image[:64, :64, :1], labels[:64, :64, :1])], 1, 64, 160, rng
    )
    expected = np.pad(image[:64, :64, 0], 160, mode="reflect")
    np.testing.assert_array_equal(section, expected[..., None])
    volume = AnnotatedVolume(image[:64, :64], labels[:64, :64])
    for stack in draw_sections([volume], 8, 64, 0, rng, 3):
        [z] = [z for z in range(3) if np.array_equal(stack[..., 1], image[:64, :64, z])]
        np.testing.assert_array_equal(stack, image[:64, :64, neighbours(z, 3, 3)])


def test_volumes_must_fit_and_show_something():
    image, labels = spots()
    with pytest.raises(FormatError, match="give a uint8 image and drawings of the same box"):
        AnnotatedVolume(image, labels, ignore=np.zeros((2, 2, 2), bool))
    with pytest.raises(BoundsError, match="less than half a patch of 200 px; set patch"):
        check_volumes([AnnotatedVolume(image, labels)], 200)
    hidden = AnnotatedVolume(image, labels, "a", ignore=np.ones(image.shape, bool))
    with pytest.raises(FormatError, match="nothing is marked in a: there is nothing to learn"):
        check_volumes([hidden], 32)
