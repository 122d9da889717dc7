"""Cells and levels against exact fractions and against what is asked of them."""

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, plan_layer, survey_part
from cnapse.viewing.annotations.spatial import CellGrid, cell_of, cells_of, code_of

# Many multiples of cells: lines that run in faces, along edges, through corners.
SPOT = st.one_of(
    st.integers(0, 32).map(lambda v: v / 4), st.integers(0, 8 * 4096).map(lambda v: v / 4096)
)
LINE = st.tuples(*[SPOT] * 6)


@given(
    st.lists(LINE, min_size=1, max_size=8),
    st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 8.0])] * 3),
    st.sampled_from([0.0, -3.0, 1000.0]),
)
@example([(0.0, 0.0, 0.0, 8.0, 8.0, 8.0)], (1.0, 1.0, 1.0), 0.0)
@example([(8.0, 0.0, 1.0, 0.0, 8.0, 1.0)], (1.0, 1.0, 1.0), 0.0)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_cells_of_lines(oracle_cells, oracle_morton, lines, chunk, corner):
    shape = tuple(int(8 / c) for c in chunk)
    points = (np.array(lines) + corner).astype(np.float32)
    rows, codes = cells_of(CellGrid((corner,) * 3, chunk, shape), points)
    assert (np.diff(rows) >= 0).all()
    for row in range(len(points)):
        found = codes[rows == row].tolist()
        ends = points[row].reshape(2, 3)
        cells = oracle_cells((corner,) * 3, chunk, shape, ends)
        assert sorted(found) == sorted(oracle_morton(cell, shape) for cell in cells)


@given(st.tuples(*[st.integers(0, 9)] * 3), st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_morton_codes(oracle_morton, bits, data):
    shape = tuple(1 << b for b in bits)
    cell = data.draw(st.tuples(*[st.integers(0, size - 1) for size in shape]))
    code = code_of(cell, shape)
    assert code == oracle_morton(cell, shape)
    assert cell_of(code, shape) == cell


def test_cells_become_cubes():
    """Long axes are halved first, by length and not by number of voxels."""
    rng = np.random.default_rng(0)
    points = rng.random((60_000, 3)) * [4000, 8000, 1000]
    schema = AnnotationSchema("POINT", unit_nm=(4.0, 4.0, 40.0))
    table = AnnotationTable(np.arange(60_000, dtype=np.uint64), points)
    plan = plan_layer(schema, survey_part(schema, table))
    assert [level.shape for level in plan.levels[:3]] == [(1, 1, 1), (1, 2, 1), (2, 4, 1)]
    assert plan.levels[-1].until == 1 << 64
    assert plan.rounding_nm == (4 * 2.0**-15, 4 * 2.0**-14, 40 * 2.0**-20)
