"""Blocks counted by axis are the blocks listed one by one."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.geometry import Box, Grid
from cnapse.volumes.writer import create_layer
from cnapse_tasks.planning.layers import Stored
from cnapse_tasks.planning.spans import chunks_near, spans_of

small = st.tuples(*[st.integers(1, 40)] * 3)
place = st.tuples(*[st.integers(-50, 50)] * 3)
piece = st.tuples(*[st.integers(1, 17)] * 3)
halo = st.tuples(*[st.integers(0, 5)] * 3)


def touched(box: Box, origin, chunk) -> int:
    axes = (
        {(v - o) // c for v in range(a, b)}
        for a, b, o, c in zip(box.start, box.stop, origin, chunk, strict=True)
    )
    return math.prod(len(axis) for axis in axes)


@settings(max_examples=30, deadline=None)
@given(small, place, piece, halo, halo, piece, place, small)
def test_sums_over_blocks(shape, start, block, lower, upper, chunk, corner, size) -> None:
    bounds = Box.from_shape(shape, (4, 4, 50), start)
    grid = Grid(bounds, block, lower, upper)
    spans = spans_of(grid)
    reads = [block.read for block in grid]
    assert len(spans) == len(grid)
    assert spans.voxels == sum(box.voxels for box in reads)
    assert spans.chunks(start, chunk) == sum(touched(box, start, chunk) for box in reads)
    assert spans.largest == tuple(max(box.shape[axis] for box in reads) for axis in range(3))
    region = Box.from_shape(size, (4, 4, 50), corner)
    cut = [box.intersection(region) for box in reads]
    assert spans.clipped(region).voxels == sum(box.voxels for box in cut)
    assert len(spans.clipped(region)) == sum(not box.empty for box in cut)


def test_a_petavoxel_is_counted_at_once() -> None:
    bounds = Box.from_shape((400_000, 300_000, 20_000), (4, 4, 40))
    grid = Grid(bounds, (512, 512, 64), halo_upper=(1, 1, 1))
    spans = spans_of(grid)
    assert len(spans) == len(grid) > 1e8
    assert spans.voxels > bounds.voxels


@settings(max_examples=15, deadline=None)
@given(piece, place, st.sampled_from([(1, 1, 1), (2, 2, 1), (2, 2, 2)]), st.booleans())
def test_stored_voxels_are_those_that_the_reader_reads(block, start, ratio, finer) -> None:
    stored = Box.from_shape((24, 20, 16), (4, 4, 50), start)
    one = (1, 1, 1)
    layer = Stored(stored, (8, 8, 4), 1, *((ratio, one) if finer else (one, ratio)))
    scale = ratio if finer else tuple(1 / r for r in ratio)
    wanted = stored.at([h * f for h, f in zip((4, 4, 50), scale, strict=True)])
    grid = Grid(wanted, block)
    boxes = [box.write.at((4, 4, 50)).intersection(stored) for box in grid]
    assert layer.below(spans_of(grid)).voxels == sum(box.voxels for box in boxes)


def test_a_box_anywhere_touches_what_it_does_on_average() -> None:
    bounds = Box.from_shape((64, 64, 64), (1, 1, 1))
    width, chunk = (9, 5, 1), (8, 4, 4)
    places = itertools.product(*(range(32) for _ in range(3)))
    found = [touched(Box.from_shape(width, (1, 1, 1), at), (0, 0, 0), chunk) for at in places]
    expected = sum(found) / len(found)
    assert chunks_near(width, chunk, bounds) == pytest.approx(expected)
    assert chunks_near((999, 999, 999), chunk, bounds) == 8 * 16 * 16


def test_a_layer_of_a_run_is_counted_as_it_is_stored(tmp_path) -> None:
    from cnapse.config import Config
    from cnapse_tasks.planning.layers import stored
    from cnapse_tasks.run import Run

    box = Box.from_shape((40, 24, 8), (4, 4, 50), (10, 20, 30))
    create_layer(
        tmp_path / "image", kind="image", dtype="uint8", bounds=box, chunk_size=(16, 16, 4)
    )
    run = Run(
        Config.from_dict(
            {
                "output": f"file://{tmp_path}/run",
                "resolution": (8, 8, 50),
                "layers": {"probability": f"file://{tmp_path}/image"},
            }
        )
    )
    layer = stored(run, "probability")
    assert (layer.bounds, layer.chunk, layer.itemsize, layer.down) == (
        box,
        (16, 16, 4),
        1,
        (2, 2, 1),
    )
    made = stored(run, "synapses")
    assert (made.bounds, made.itemsize) == (run.frame, 8)
