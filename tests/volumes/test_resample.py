from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.volumes.resample import Ratio, downsample, nested_ratio, padded_indices, take

small = st.integers(1, 7)
triples = st.tuples(small, small, small)
factors = st.tuples(*[st.integers(1, 4)] * 3)
offsets = st.tuples(*[st.integers(-9, 9)] * 3)


def blocks_of(array, start, factor):
    """Every wanted voxel and the source voxels in it, by brute force over the source."""
    found = {}
    for index in np.ndindex(*array.shape):
        wanted = tuple((i + a) // k for i, a, k in zip(index, start, factor, strict=True))
        found.setdefault(wanted, []).append(array[index])
    return found


def expected(array, start, factor, reduce):
    blocks = blocks_of(array, start, factor)
    low = np.min(list(blocks), axis=0)
    high = np.max(list(blocks), axis=0) + 1
    out = np.zeros(high - low, dtype=array.dtype)
    for index, values in blocks.items():
        out[tuple(np.subtract(index, low))] = reduce(values)
    return out


def mean(values):
    # Python rounds a Fraction half to even, without any float.
    return round(Fraction(sum(int(v) for v in values), len(values)))


def most_frequent(values):
    labels, counts = np.unique(values, return_counts=True)
    return labels[np.argmax(counts)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "uint64", "int64"])
@given(shape=triples, start=offsets, factor=factors, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_images_take_the_mean_rounded_half_to_even(dtype, shape, start, factor, seed):
    limits = np.iinfo(dtype)
    array = np.random.default_rng(seed).integers(
        limits.min, limits.max, shape, dtype=dtype, endpoint=True
    )
    found = downsample(array, start, factor, kind="image")
    np.testing.assert_array_equal(found, expected(array, start, factor, mean))
    assert found.dtype == array.dtype
    assert found.flags.f_contiguous


@given(shape=triples, start=offsets, factor=factors, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_halves_go_to_even(shape, start, factor, seed):
    array = np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)
    found = downsample(array, start, factor, kind="image")
    np.testing.assert_array_equal(found, expected(array, start, factor, mean))


@given(shape=triples, start=offsets, factor=factors, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_float_images_take_the_mean(shape, start, factor, seed):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    found = downsample(array, start, factor, kind="image")
    wanted = expected(array, start, factor, lambda v: np.mean(v, dtype=np.float64))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64", "bool"])
@given(
    shape=triples, start=offsets, factor=factors, seed=st.integers(0, 99), labels=st.integers(2, 30)
)
@settings(max_examples=15, deadline=None)
def test_labels_take_the_most_frequent_then_the_smaller(dtype, shape, start, factor, seed, labels):
    array = np.random.default_rng(seed).integers(0, labels, shape).astype(dtype)
    if dtype == "uint64":
        array[array > 0] += np.uint64(2**63)
    found = downsample(array, start, factor, kind="segmentation")
    np.testing.assert_array_equal(found, expected(array, start, factor, most_frequent))


def test_memory_order_does_not_matter():
    array = np.random.default_rng(1).integers(0, 9, (9, 8, 7), dtype=np.uint8)
    for kind in ("image", "segmentation"):
        a = downsample(np.ascontiguousarray(array), (1, 2, 3), (2, 3, 2), kind=kind)
        b = downsample(np.asfortranarray(array), (1, 2, 3), (2, 3, 2), kind=kind)
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("source", "wanted", "ratio"),
    [
        ((4, 4, 50), (4, 4, 50), Ratio()),
        ((4.6, 4.6, 50), (9.2, 9.2, 50), Ratio(down=(2, 2, 1))),
        ((0.1, 4.6, 50), (0.3, 13.8, 50), Ratio(down=(3, 3, 1))),
        ((8, 8, 40), (4, 16, 40), Ratio(down=(1, 2, 1), up=(2, 1, 1))),
        ((4, 4, 50), (6, 6, 50), None),
        ((4, 4, 50), (4.1, 4, 50), None),
    ],
)
def test_which_voxel_sizes_nest(source, wanted, ratio):
    assert nested_ratio(source, wanted) == ratio


@given(size=st.integers(1, 6), low=st.integers(-5, 5), start=st.integers(-30, 30), n=small)
@settings(max_examples=60, deadline=None)
def test_padding_is_that_of_numpy(size, low, start, n):
    coordinates = np.arange(low, low + size)
    reach = 45
    for mode, theirs in (("edge", "edge"), ("mirror", "reflect")):
        padded = np.pad(coordinates, reach, mode=theirs)
        wanted = padded[start - low + reach : start - low + reach + n]
        found = padded_indices(start, start + n, (low, low + size), mode)
        np.testing.assert_array_equal(found, wanted)


def test_take_is_a_view_where_nothing_moves():
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4))
    indices = [np.arange(2), np.arange(3), np.arange(4)]
    assert np.shares_memory(take(array, indices), array)
    indices[1] = np.array([2, 2, 0, 1])
    found = take(array, indices)
    np.testing.assert_array_equal(found, array[np.ix_(*indices)])
    assert found.flags.f_contiguous
