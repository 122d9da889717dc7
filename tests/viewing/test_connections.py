"""Questions to the tables."""

from __future__ import annotations

import dataclasses

import pytest

from cnapse.errors import TableError
from cnapse.viewing.connections import Connections
from cnapse.viewing.scene import Selection

BIG = 2**63 + 5


def test_ids_beyond_the_range_of_floats_are_exact(connections: Connections) -> None:
    assert int(connections.synapse(BIG)["syn_id"]) == BIG
    with pytest.raises(TableError):
        connections.synapse(BIG + 1)
    assert connections.selection(BIG) == Selection(11, [14], [BIG])


def test_a_missing_synapse_is_named(connections: Connections) -> None:
    with pytest.raises(TableError, match=f"synapse 3 is not in the table: .*such as 7, {BIG}, 9"):
        connections.synapse(3)
    empty = dataclasses.replace(connections, synapses=connections.synapses.iloc[:0])
    with pytest.raises(TableError, match="synapse 3 is not in the table: it is empty"):
        empty.synapse(3)
    with pytest.raises(TableError, match="the table has no synapse to show"):
        empty.well_partnered()


@pytest.mark.parametrize(
    ("name", "cell"), [("AVAL", 11), ("RIML", 12), ("$100 神経", 13), ("14", 14), ("77", 77)]
)
def test_cells_by_name_or_id(connections: Connections, name: str, cell: int) -> None:
    assert connections.cell_id(name) == cell


def test_a_cell_without_synapses(connections: Connections) -> None:
    with pytest.raises(TableError, match="no synapse has a cell 'RIMR': did you mean 'RIML'"):
        connections.cell_id("RIMR")
    with pytest.raises(TableError, match="no synapse has a cell 'zzz': give a name or an id"):
        connections.cell_id("zzz")
    with pytest.raises(TableError, match="cell 77 has no synapse in the tables"):
        connections.synapses_of(77)


def test_synapses_of_a_cell_both_ways(connections: Connections) -> None:
    assert connections.synapses_of(11) == [BIG, 7]
    assert connections.synapses_of(12) == [7]
    assert connections.synapses_of(14) == [BIG, 9]


def test_a_clean_synapse_with_partners_is_shown(connections: Connections) -> None:
    assert connections.well_partnered() == 7
    lonely = dataclasses.replace(connections, partners=connections.partners.iloc[:0])
    assert lonely.well_partnered() == 7


def test_partners_as_lines(connections: Connections) -> None:
    every = connections.lines(near_nm=(0, 0, 0), longest=10)
    assert len(every) == 3
    (line,) = connections.lines(near_nm=(0, 0, 0), longest=10, syn_ids=[BIG])
    assert (line.name, line.pre_id, line.post_id) == (f"{BIG}/14", 11, 14)
    assert line.text == "AVAL → 14  100 %"
    assert line.pre_nm == connections.position_nm(BIG)
    assert line.post_nm[1] == line.pre_nm[1] + 90
    (nearest,) = connections.lines(near_nm=connections.position_nm(BIG), longest=1)
    assert nearest == line
