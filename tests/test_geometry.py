"""Boxes and grids against plain sets of voxels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import BoundsError, ConfigError, ResolutionError
from cnapse.geometry import Box, Grid, format_resolution, same_resolution

EM = (4.0, 4.0, 50.0)

triples = st.tuples(*[st.integers(-7, 7)] * 3)
shapes = st.tuples(*[st.integers(0, 6)] * 3)
boxes = st.builds(lambda start, shape: Box.from_shape(shape, EM, start), triples, shapes)


def voxels(box: Box) -> set[tuple[int, ...]]:
    ranges = (range(a, b) for a, b in zip(box.start, box.stop, strict=True))
    return set(itertools.product(*ranges))


@given(boxes, boxes)
@settings(deadline=None)
def test_boxes_are_sets_of_voxels(a: Box, b: Box) -> None:
    assert voxels(a.intersection(b)) == voxels(a) & voxels(b)
    assert a.voxels == len(voxels(a))
    assert a.contains(b) == (voxels(b) <= voxels(a))
    assert voxels(a) | voxels(b) <= voxels(a.hull(b))


@given(boxes, triples)
@settings(deadline=None)
def test_translation_and_growth(box: Box, by: tuple[int, int, int]) -> None:
    moved = box.translated(by)
    assert moved.shape == box.shape
    assert moved.translated([-v for v in by]) == box
    grown = box.grown((1, 2, 3), (4, 5, 6))
    assert grown.start == tuple(a - n for a, n in zip(box.start, (1, 2, 3), strict=True))
    assert grown.stop == tuple(a + n for a, n in zip(box.stop, (4, 5, 6), strict=True))


@given(boxes.filter(lambda b: not b.empty), st.data())
@settings(deadline=None)
def test_raster_index_is_fortran_order(box: Box, data: st.DataObject) -> None:
    array = np.arange(box.voxels).reshape(box.shape, order="F")
    place = data.draw(st.tuples(*[st.integers(0, n - 1) for n in box.shape]))
    voxel = np.add(place, box.start)
    assert box.raster_index(voxel) == array[place]
    np.testing.assert_array_equal(box.from_raster_index(array[place]), voxel)


@given(
    st.tuples(*[st.integers(1, 11)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    triples,
    st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_write_boxes_cover_the_bounds_once(shape, block, start, halo) -> None:
    bounds = Box.from_shape(shape, EM, start)
    grid = Grid(bounds, block, (halo,) * 3, (halo,) * 3)
    seen = np.zeros(shape, int)
    for index, item in enumerate(grid):
        assert item.index == index
        seen[item.write.slices(bounds)] += 1
        assert bounds.contains(item.read)
        assert item.read.contains(item.write)
        grown = voxels(item.write.grown(halo)) & voxels(bounds)
        assert voxels(item.read) == grown
        inside = np.array(sorted(voxels(item.write)))
        assert set(grid.index_of(inside)) == {index}
    assert (seen == 1).all()
    assert len(list(grid)) == len(grid)
    assert grid[-1] == list(grid)[-1]


def test_other_resolution_floors_the_start_and_ceils_the_stop() -> None:
    box = Box((3, 4, 5), (9, 10, 6), EM)
    assert box.at((8, 8, 50)) == Box((1, 2, 5), (5, 5, 6), (8, 8, 50))
    assert box.at(EM) is box


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.sampled_from([4.6, 0.1, 3.3, 12.5]))
@settings(deadline=None)
def test_float_resolutions_do_not_leak_voxels(start: int, size: int, h: float) -> None:
    box = Box.from_shape((size, size, 1), (h, h, 50), (start, start, 0))
    assert box.at((2 * h, 2 * h, 50)).at((h, h, 50)).contains(box)
    again = Box.from_nm(box.start_nm, box.stop_nm, box.resolution)
    assert again == box


def test_resolutions_do_not_mix() -> None:
    a, b = Box((0, 0, 0), (4, 4, 4), EM), Box((0, 0, 0), (4, 4, 4), (8, 8, 50))
    with pytest.raises(ResolutionError, match=r"4 x 4 x 50 nm.*8 x 8 x 50 nm.*box\.at"):
        a.intersection(b)
    assert not same_resolution(a.resolution, b.resolution)
    assert same_resolution((4.6, 4.6, 50), (4.6000001, 4.6, 50))
    assert format_resolution((4.6, 4.6, 50.0)) == "4.6 x 4.6 x 50 nm"


def test_mistakes_are_named() -> None:
    for axis, wrong in itertools.product(range(3), (0, -4, np.inf, np.nan)):
        resolution = [4.0, 4.0, 50.0]
        resolution[axis] = wrong
        with pytest.raises(ResolutionError, match="three positive numbers"):
            Box((0, 0, 0), (1, 1, 1), tuple(resolution))
    with pytest.raises(BoundsError, match="is not inside"):
        Box((0, 0, 0), (5, 1, 1), EM).slices(Box((0, 0, 0), (4, 4, 4), EM))
    with pytest.raises(ConfigError, match="at least 1 voxel"):
        Grid(Box((0, 0, 0), (4, 4, 4), EM), (2, 0, 2))
    with pytest.raises(IndexError, match="block 8 of a grid of 8"):
        Grid(Box((0, 0, 0), (4, 4, 4), EM), (2, 2, 2))[8]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_blocks_that_touch_a_box_are_those_that_share_voxels(data):
    corner = st.tuples(*[st.integers(-12, 12)] * 3)
    sizes = st.tuples(*[st.integers(0, 9)] * 3)
    bounds = Box.from_shape((10, 7, 5), (4, 4, 50), data.draw(corner))
    grid = Grid(bounds, data.draw(st.tuples(*[st.integers(1, 6)] * 3)))
    box = Box.from_shape(data.draw(sizes), (4, 4, 50), data.draw(corner))
    expected = [block for block in grid if not block.write.intersection(box).empty]
    assert grid.touching(box) == expected
