"""A synapse table as a source of annotations, whatever project it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cnapse.errors import ConfigError
from cnapse.interchange.formats import FORMATS, detected
from cnapse.store import cloud_path
from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, PropertyType

__all__ = ["FORMAT_NAMES", "Source", "SourceOptions", "open_source"]

_HDF5 = (".h5", ".hdf", ".hdf5")
FORMAT_NAMES = ("cnapse", *FORMATS, "cremi")
"""What ``--format`` takes."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a table is read.

    Attributes
    ----------
    format : str or None
        One of `FORMAT_NAMES`; None to tell by the columns.
    columns : mapping of str
        Columns by role (see `cnapse.interchange.formats`), where they have other names.
    resolution : tuple of float or None
        Nanometres of a unit of the table's positions, x, y, z. Of cnapse's own tables, which are in
        nm, the unit that the layer stores.
    points : bool
        One place a row rather than a line.
    skip_missing : bool
        Leave rows without a position out, and count them, rather than stop at one.
    properties : mapping of str to str
        Further columns to keep as properties, and how each is stored; not of cnapse's own tables
        and CREMI's files.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    resolution: tuple[float, float, float] | None = None
    points: bool = False
    skip_missing: bool = False
    properties: Mapping[str, PropertyType] = field(default_factory=dict)


class Source(Protocol):
    """Annotations that can be gone through more than once.

    Attributes
    ----------
    format : str
        What it was read as.
    schema : AnnotationSchema
    """

    @property
    def format(self) -> str:
        """What it was read as."""

    @property
    def schema(self) -> AnnotationSchema:
        """What the annotations are."""

    @property
    def skipped(self) -> int:
        """Rows that the last pass left out, since they have no position."""

    @property
    def without_cell(self) -> int:
        """Rows of the last pass that name no cell at an end, though the table has a column."""

    def parts(self) -> Iterator[AnnotationTable]:
        """All annotations, some at a time: in each pass the same ones with the same ids."""


def open_source(path: str | Path, options: SourceOptions | None = None) -> Source:
    """Open a synapse table and find out what it is.

    Parameters
    ----------
    path
        A Parquet, Feather or CSV file, a folder of such parts, or an HDF5 file (CREMI).
    options

    Raises
    ------
    LayerNotFoundError
        If it is not there.
    ConfigError
        If the options do not go with it.
    TableError
        If it is of no known format, or lacks columns.
    """
    from cnapse.interchange.cremi import CremiSource
    from cnapse.interchange.files import TableFiles
    from cnapse.interchange.foreign import ForeignSource
    from cnapse.interchange.own import OwnSource, own_table

    options = options or SourceOptions()
    if options.format not in {None, *FORMAT_NAMES}:
        raise ConfigError(f"--format {options.format}: there are {', '.join(FORMAT_NAMES)}")
    if options.format == "cremi" or cloud_path(path).endswith(_HDF5):
        _check_plain(options, "CREMI's files")
        return CremiSource(path, options)
    files = TableFiles(path)
    own = None if options.columns else own_table(files.names)
    if options.format == "cnapse" or (options.format is None and own is not None):
        _check_plain(options, "cnapse's own tables")
        return OwnSource(path, files, options)
    chosen = FORMATS.get(options.format or "")
    kind = chosen or detected(files.path, files.names, options.columns)
    return ForeignSource(files, kind, options)


def _check_plain(options: SourceOptions, what: str) -> None:
    if options.properties:
        raise ConfigError(
            f"--property {next(iter(options.properties))}: {what} have the properties they have; "
            "give --format other for a table with columns of its own"
        )
