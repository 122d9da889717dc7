"""What every writer of a connectome gets, and what it may ask of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnapse.analysis.connectome import Connectome
from cnapse.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

    from cnapse.analysis.connectome_contacts import Contacts

__all__ = ["NEEDS", "Export", "check_xml"]

NEEDS: Mapping[str, tuple[str, ...]] = {
    "cave": ("ids", "places"),
    "neuprint": ("ids",),
    "synaptor": ("ids", "places"),
    "cremi": ("places",),
}
"""What forms are made of that not every table has."""

# What XML 1.0 cannot hold, and a carriage return, which its readers turn into a line feed.
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Export:
    """A connectome to be written.

    Attributes
    ----------
    connectome : Connectome
    contacts : Contacts or None
        Areas of contact between its cells, where they are known.
    unit_nm : tuple of float or None
        Nanometres of the unit in which tables of other projects hold places; None for the one they
        are known for: 8 nm for neuPrint, else 1 nm.
    """

    connectome: Connectome
    contacts: Contacts | None = None
    unit_nm: tuple[float, float, float] | None = None

    @property
    def path(self) -> str:
        """The table, for errors."""
        return self.connectome.synapses.path

    def matrices(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """All matrices that can be made, by name."""
        yield "synapses", self.connectome.matrix("synapses")
        if self.connectome.has_sizes:
            yield "size", self.connectome.matrix("size")
        if self.contacts is not None:
            yield "contact_area", self.contacts.matrix()

    def sparse_matrices(self) -> Iterator[tuple[str, sparse.coo_array]]:
        """The same, with entries that are not 0 alone."""
        yield "synapses", self.connectome.sparse("synapses")
        if self.connectome.has_sizes:
            yield "size", self.connectome.sparse("size")
        if self.contacts is not None:
            yield "contact_area", self.contacts.sparse()

    def lacks(self, form: str) -> str:
        """What the table has not that a form is made of, in words; empty if it has all."""
        there = {*self.connectome.synapses.layout.names}
        if "ids" in NEEDS.get(form, ()) and not {"pre_id", "post_id"} <= there:
            return "ids of cells (pre_id, post_id)"
        if "places" in NEEDS.get(form, ()) and "x_pos" not in there:
            return "places in nm (x_pos, y_pos, z_pos; or in voxels, with --resolution)"
        return ""

    def need(self, form: str) -> None:
        """Check that the table has what a form is made of.

        Raises
        ------
        TableError
            If it has no ids of cells, or no places.
        """
        if lacking := self.lacks(form):
            raise TableError(
                f"{self.path} has no {lacking}, which --export {form} is made of: leave it out"
            )


def check_xml(path: str, labels: Sequence[str], what: str) -> None:
    """Check that names can stand in XML.

    Raises
    ------
    TableError
        For one with a control character.
    """
    for label in labels:
        if _NOT_XML.search(label):
            raise TableError(
                f"{path}: the cell name {label!r} holds a control character, and --export {what} "
                "cannot: mend the name, or leave that export out"
            )
