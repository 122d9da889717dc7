"""Written in parts: the same bytes whatever the parts, their order, and how often they are made."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnapse.errors import ConfigError, DamagedFileError, RunStateError, TableError
from cnapse.store import Store, canonical_json
from cnapse.viewing.annotations import (
    AnnotationSchema,
    AnnotationTable,
    Plan,
    Survey,
    WriteOptions,
    layer_info,
    map_part,
    merge_surveys,
    plan_layer,
    reduce_shard,
    survey_part,
    write_annotations,
)


def in_parts(schema, parts, options, bundle) -> dict[str, bytes]:
    """The files of a layer that was written in parts, as tasks would, by what they pass on."""
    surveys = [Survey.from_arrays(survey_part(schema, part).to_arrays()) for part in parts]
    plan = Plan.from_json(plan_layer(schema, merge_surveys(surveys), options).to_json())
    contents: dict[tuple[int, int], list[bytes]] = {}
    for part in parts:
        made = list(map_part(plan, part))
        assert made == list(map_part(plan, part))
        for fragment in made:
            contents.setdefault((fragment.index, fragment.shard), []).append(fragment.content)
    files, largest = {}, {}
    for number, index in enumerate(plan.indexes):
        for shard in range(index.shards):
            found = contents.get((number, shard), [])
            output = reduce_shard(plan, number, shard, [b"".join(found)] if bundle else found)
            files.update(output.files)
            largest[number] = max(largest.get(number, 0), output.largest)
    files["info"] = canonical_json(layer_info(plan, largest))
    return files


@given(
    st.integers(0, 10**6),
    st.integers(0, 40),
    st.lists(st.floats(0, 1), max_size=4),
    st.randoms(use_true_random=False),
    st.booleans(),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_parts_change_nothing(make_table, full_schema, seed, n, cuts, random, bundle):
    schema = full_schema()
    table = make_table(seed, n, schema)
    options = WriteOptions(shard_bytes=2000, cell_limit=5)
    ends = [0, *sorted(int(cut * n) for cut in cuts), n]
    parts = [table.rows(a, b) for a, b in pairwise(ends)]
    random.shuffle(parts)
    whole = in_parts(schema, [table], options, False)
    assert in_parts(schema, parts, options, bundle) == whole


def test_one_process_writes_the_same(tmp_path, make_table, full_schema):
    schema = full_schema("POINT")
    table = make_table(2, 300, schema)
    options = WriteOptions(shard_bytes=4000, cell_limit=30, compression="gzip")
    written = write_annotations(tmp_path, schema, table, options)
    files = in_parts(schema, [table.rows(0, 100), table.rows(100, 300)], options, True)
    assert files.pop("info") == canonical_json(Store(tmp_path).get_json("info"))
    assert written.files == len(files) > 20
    assert {name: Store(tmp_path).read(name) for name in files} == files


def test_merged_surveys(make_table, full_schema):
    """In any order and grouping, and as if it were one."""
    schema = full_schema()
    table = make_table(4, 90, schema)
    a, b, c = (survey_part(schema, table.rows(i, i + 30)) for i in (0, 30, 60))
    whole = survey_part(schema, table).to_arrays()
    for merged in (merge_surveys([a, b, c]), merge_surveys([merge_surveys([c, b]), a])):
        found = merged.to_arrays()
        assert found.keys() == whole.keys()
        for name, values in whole.items():
            np.testing.assert_array_equal(found[name], values)


def test_survey_of_many_segments():
    """The estimate of how many segments there are; the smallest hashes are those of all."""
    schema = AnnotationSchema("POINT", (), ("cell",))
    n = 200_000
    cells = np.repeat(np.arange(1, n // 4 + 1, dtype=np.uint64), 4)
    table = AnnotationTable(np.arange(n, dtype=np.uint64), np.zeros((n, 3)), {}, {"cell": cells})
    survey = survey_part(schema, table)
    assert abs(survey.segments(0) / (n // 4) - 1) < 0.15
    assert len(survey.lot) == 1 << 16
    parts = merge_surveys(
        survey_part(schema, table.rows(a, a + 50_000)) for a in range(0, n, 50_000)
    )
    for name, values in survey.to_arrays().items():
        np.testing.assert_array_equal(parts.to_arrays()[name], values)


def test_damaged_or_foreign_fragments(make_table, full_schema):
    schema = full_schema()
    table = make_table(4, 20, schema)
    plan = plan_layer(schema, survey_part(schema, table))
    fragment = next(map_part(plan, table))
    whole = fragment.content
    for content in (whole[:-1], whole[:20], b"x" + whole[1:], whole[:90] + b"x" + whole[91:]):
        with pytest.raises(DamagedFileError, match="fragment of by_id, shard 0"):
            reduce_shard(plan, 0, 0, [content])
    other = plan_layer(schema, survey_part(schema, table), WriteOptions(cell_limit=3))
    for wrong, index in ((other, 0), (plan, 1)):
        with pytest.raises(RunStateError, match="made for another plan or shard: map again"):
            reduce_shard(wrong, index, 0, [whole])
    with pytest.raises(TableError, match=r"id \d+ is there 2 times"):
        reduce_shard(plan, 0, 0, [whole, whole])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "zstd"}, "compression 'zstd': there are raw and gzip"),
        ({"cell_limit": 0}, "cell_limit is 0: give a number above 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        WriteOptions(**options)
