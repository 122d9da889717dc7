"""Thresholds, canonical labels, and the record of one block."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.errors import BoundsError, ConfigError, FormatError
from cnapse.geometry import Block, Box, Grid
from cnapse.synapses import components as module
from cnapse.synapses.components import block_components, label_box, threshold_mask

RESOLUTION = (4.6, 4.6, 50.0)
BYTES = np.arange(256, dtype=np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1000))
def test_a_threshold_is_exact_for_stored_bytes(thousandths: int) -> None:
    least = -(-255 * thousandths // 1000)  # in integers
    mask = threshold_mask(BYTES, thousandths / 1000)
    assert np.flatnonzero(mask)[0] == least
    assert mask.sum() == 256 - least


def test_a_threshold_is_the_number_as_written() -> None:
    """0.2 as a float is a little above 1/5: its exact product with 255 would ask for 52."""
    assert 255 * 0.2 == 51
    assert threshold_mask(BYTES, 0.2).sum() == 256 - 51
    assert threshold_mask(BYTES, 1.0).sum() == 1
    assert threshold_mask(BYTES, 1e-9).sum() == 255


def test_floats_are_compared_as_they_are() -> None:
    values = np.array([0.0, 0.2, 0.5, np.nextafter(np.float32(0.5), 0), math.nan], np.float32)
    assert threshold_mask(values, 0.5).tolist() == [False, False, True, False, False]
    assert threshold_mask(values, 0.2).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int16, np.float32, np.bool_])
def test_binary_counts_whatever_is_not_zero(dtype: type[np.generic]) -> None:
    assert threshold_mask(np.array([0, 1, 1]).astype(dtype), binary=True).tolist() == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("threshold", [None, 0, -0.1, 1.5, math.nan])
def test_a_threshold_outside_of_0_to_1_is_refused(threshold: float | None) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1, not"):
        threshold_mask(BYTES, threshold)


def test_other_dtypes_hold_no_probability() -> None:
    with pytest.raises(FormatError, match=r"uint8 \(255 p\) or float, not uint16: say binary"):
        threshold_mask(BYTES.astype(np.uint16), 0.5)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_are_numbered_by_first_voxel(connectivity: int, order: str) -> None:
    mask = np.random.default_rng(connectivity).random((17, 12, 9)) < 0.12
    labels, n = label_box(np.asarray(mask, order=order), connectivity)  # type: ignore[arg-type,call-overload]
    assert labels.dtype == np.uint32
    assert labels.flags.f_contiguous
    flat = labels.ravel(order="F")
    found, first = np.unique(flat[flat > 0], return_index=True)
    assert found.tolist() == list(range(1, n + 1))
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(labels > 0, mask)


def test_the_numbering_does_not_rely_on_cc3d(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.1
    expected, n = label_box(mask, 6)
    ours = module.cc3d.connected_components

    def backwards(*args: object, **kwargs: object) -> object:
        labels, n = ours(*args, **kwargs)
        return np.where(labels > 0, n + 1 - labels, 0).astype(labels.dtype), n

    monkeypatch.setattr(module.cc3d, "connected_components", backwards)
    labels, again = label_box(mask, 6)
    assert again == n
    np.testing.assert_array_equal(labels, expected)


def test_another_connectivity_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be 6, 18 or 26, not 8"):
        label_box(np.ones((2, 2, 2), bool), 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 3, 3)])
def test_nothing_gives_no_labels(shape: tuple[int, int, int]) -> None:
    labels, n = label_box(np.zeros(shape, bool), 26)
    assert n == 0
    assert labels.shape == shape
    assert not labels.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 30))
def test_the_record_of_a_block_against_plain_loops(
    seed: int, block_shape: tuple[int, int, int], index: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = Box.from_shape((6, 5, 4), RESOLUTION, (-3, 10, -100))
    mask = rng.random(frame.shape) < 0.3
    grid = Grid(frame, block_shape, halo_upper=(1, 1, 1))
    block = grid[index % len(grid)]
    labels, n = label_box(mask[block.read.slices(frame)], 6)
    record = block_components(labels, n, block, frame)

    first, count = [-1] * n, [0] * n
    faces, shell = {}, {}
    for z, y, x in np.ndindex(block.read.shape[::-1]):
        label = int(labels[x, y, z])
        voxel = tuple(a + b for a, b in zip((x, y, z), block.read.start, strict=True))
        raster = int(np.ravel_multi_index(np.subtract(voxel, frame.start), frame.shape, order="F"))
        if not label:
            continue
        if not block.write.contains(Box.from_shape((1, 1, 1), RESOLUTION, voxel)):
            shell[raster] = label
            continue
        count[label - 1] += 1
        if first[label - 1] < 0:
            first[label - 1] = raster
        if any(v == w > f for v, w, f in zip(voxel, block.write.start, frame.start, strict=True)):
            faces[raster] = label
    assert record.n == n
    assert record.first_voxel.tolist() == first
    assert record.voxels.tolist() == count
    faced = zip(record.face_voxels.tolist(), record.face_labels.tolist(), strict=True)
    shelled = zip(record.shell_voxels.tolist(), record.shell_labels.tolist(), strict=True)
    assert list(faced) == sorted(faces.items())
    assert list(shelled) == sorted(shell.items())
    assert record.touching.tolist() == sorted({*faces.values(), *shell.values()})


@pytest.mark.parametrize("shape", [(65, 1, 1), (1, 9, 1), (1, 1, 3), (33, 33, 1), (1, 8, 8)])
def test_scattered_voxels_in_a_thin_box(shape: tuple[int, int, int]) -> None:
    """cc3d 4.1.1 fails here: it reserves an eighth of the voxels for labels."""
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    labels, n = label_box(mask, 26)
    assert labels.shape == shape
    assert n == mask.sum()


def test_blobs_are_what_scipy_finds() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(1).random((40, 40, 20)), 2) > 0.51
    labels, n = label_box(mask, 26)
    theirs, m = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    assert n == m > 3
    assert len(np.unique(np.stack([labels[mask], theirs[mask]]), axis=1).T) == n


def test_a_block_without_the_upper_voxel_is_refused() -> None:
    frame = Box.from_shape((4, 4, 4), RESOLUTION)
    block = Grid(frame, (2, 2, 2))[0]
    with pytest.raises(BoundsError, match=r"to label \[0:2 0:2 0:2\].*halo_upper=\(1, 1, 1\)"):
        block_components(np.zeros((2, 2, 2), np.uint32), 0, block, frame)


def test_a_block_outside_of_the_layer_is_refused() -> None:
    frame = Box.from_shape((4, 4, 4), RESOLUTION)
    box = frame.translated((1, 0, 0))
    with pytest.raises(BoundsError, match=r"block 3 .* is not inside the layer"):
        block_components(np.zeros((4, 4, 4), np.uint32), 0, Block(3, box, box), frame)


def test_labels_of_another_shape_are_refused() -> None:
    frame = Box.from_shape((4, 4, 4), RESOLUTION)
    block = Grid(frame, (2, 2, 2), halo_upper=(1, 1, 1))[0]
    with pytest.raises(FormatError, match=r"shape \(2, 2, 2\) do not fill \[0:3 0:3 0:3\]"):
        block_components(np.zeros((2, 2, 2), np.uint32), 0, block, frame)
