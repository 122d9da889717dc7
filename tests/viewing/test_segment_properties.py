"""Segment properties as the format asks for them, and totals that do not depend on parts."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import TableError
from cnapse.names import Names
from cnapse.viewing.segment_properties import CellTotals, Number, segment_properties

IDS = st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=20)
NOTHING = ["", " ", "#", "# #"]


@settings(deadline=None, max_examples=30)
@given(ids=IDS, data=st.data())
def test_every_segment_keeps_what_it_was_given(ids, data) -> None:
    """In the order of ids, whatever theirs; ids as strings beyond 2^53; tags by number, rising."""
    names = [data.draw(st.text(max_size=8)) for _ in ids]
    tags = [data.draw(st.lists(st.sampled_from(["a", "b c", "#d", *NOTHING]))) for _ in ids]
    sizes = [
        data.draw(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)) for _ in ids
    ]
    counts = [data.draw(st.integers(0, 2**33)) for _ in ids]
    info = segment_properties(
        ids, names, tags=tags,
        numbers=[Number("size", sizes, "nm3"), Number("inputs", counts, "", "uint32")],
    )  # fmt: skip
    inline = json.loads(json.dumps(info, allow_nan=False))["inline"]
    assert inline["ids"] == [str(i) for i in sorted(ids)]
    found = {p["id"]: p for p in inline["properties"]}
    places = {segment: inline["ids"].index(str(segment)) for segment in ids}
    for n, segment in enumerate(ids):
        place = places[segment]
        assert found["label"]["values"][place] == names[n]
        assert np.float32(found["size"]["values"][place]) == np.float32(sizes[n])
        assert found["inputs"]["values"][place] == min(counts[n], 2**32 - 1)
        words = {tag.replace("#", "").replace(" ", "_") for tag in tags[n] if tag not in NOTHING}
        if "tags" in found:
            numbers = found["tags"]["values"][place]
            assert numbers == sorted(numbers)
            assert {found["tags"]["tags"][n] for n in numbers} == words
        else:
            assert not words
    assert found["size"]["data_type"] == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([5, 5], ["a", "b"], []), "segment 5 is there twice"),
        (([5], ["a", "b"], []), "2 values of 'label' for 1 segments"),
        (([5], ["a"], [1.0, 2.0]), "2 values of 'size' for 1 segments"),
        (([5], ["a"], [np.nan]), "'size' has values that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message) -> None:
    ids, labels, sizes = arguments
    numbers = [Number("size", sizes, "")] if sizes else []
    with pytest.raises(TableError, match=message):
        segment_properties(ids, labels, numbers=numbers)


@settings(deadline=None, max_examples=20)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0, 1, 2**53 + 1, 2**64 - 1]), st.integers(1, 9)), max_size=30
    ),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
def test_totals_do_not_depend_on_parts(rows, cuts) -> None:
    """The same cells are presynaptic and postsynaptic here; sizes are whole, so sums are exact."""
    cells = np.array([cell for cell, _ in rows], np.uint64)
    sizes = np.array([size for _, size in rows], np.float64)
    synapses = pd.DataFrame({"pre_id": cells, "size": sizes})
    partners = pd.DataFrame({"post_id": cells[::-1], "size": 2 * sizes[::-1]})
    partners = partners[partners["post_id"] != 0]
    totals = CellTotals()
    edges = sorted({0, 30, *cuts})
    for start, stop in itertools.pairwise(edges):
        totals.add(synapses[start:stop], partners[start:stop])
    info, left_out = totals.properties(Names({7: "AVAL"}), {7: ["inter"]})
    found = {p["id"]: p["values"] for p in info["inline"]["properties"]}
    assert left_out == 0
    known = sorted({7, *cells.tolist()} - {0})
    assert info["inline"]["ids"] == [str(cell) for cell in known]
    assert found["outputs"] == [int((cells == np.uint64(cell)).sum()) for cell in known]
    assert found["inputs"] == found["outputs"]
    assert found["input_size"] == [2 * sizes[cells == np.uint64(cell)].sum() for cell in known]
    assert found["label"][known.index(7)] == "AVAL"
