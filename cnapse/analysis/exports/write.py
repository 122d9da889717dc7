"""A folder of exports: chosen, checked, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cnapse.analysis.exports.cremi import write_cremi
from cnapse.analysis.exports.excel import write_excel
from cnapse.analysis.exports.export import Export
from cnapse.analysis.exports.folder import RECORD, check_folder, staged_folder
from cnapse.analysis.exports.foreign import write_cave, write_neuprint, write_synaptor
from cnapse.analysis.exports.graphml import write_graphml
from cnapse.analysis.exports.plain import write_csv, write_parquet
from cnapse.analysis.exports.rows import csv_of
from cnapse.analysis.exports.scipy_sparse import write_sparse
from cnapse.errors import ConfigError

__all__ = ["EXPORTS", "chosen_exports", "write_connectome"]

EXPORTS: Mapping[str, Callable[[Export, Path], None]] = {
    "csv": write_csv,
    "excel": write_excel,
    "parquet": write_parquet,
    "graphml": write_graphml,
    "sparse": write_sparse,
    "cave": write_cave,
    "neuprint": write_neuprint,
    "synaptor": write_synaptor,
    "cremi": write_cremi,
}
"""Writers by the name of the form."""

_ALL = "all"


def chosen_exports(names: Sequence[str], export: Export | None = None) -> list[str]:
    """The forms that are asked for, each once; names may be joined by ``,``.

    ``all`` is all that the table of an `export` has what they are made of.

    Raises
    ------
    ConfigError
        For a name that is none.
    """
    wanted = [word.strip() for name in names for word in name.split(",") if word.strip()]
    for name in wanted:
        if name not in (*EXPORTS, _ALL):
            raise ConfigError(f"--export {name}: there are {', '.join(EXPORTS)}, and {_ALL}")
    if _ALL in wanted:
        return [name for name in EXPORTS if export is None or not export.lacks(name)]
    return [name for name in EXPORTS if name in wanted]


def write_connectome(
    export: Export, out: str | Path, exports: Sequence[str] = ("csv",), *, overwrite: bool = False
) -> list[Path]:
    """Write a connectome to a folder, and beside it what was left out and what was made.

    Always written are ``left_out.csv`` (every row that makes no edge, and why), ``autapses.csv``,
    ``unnamed.csv`` and ``connectome.json`` (the table, thresholds, counts and files).

    Parameters
    ----------
    export : Export
    out
        A folder on this machine, which is made.
    exports : sequence of str
        Of `EXPORTS`, or ``all`` (that the table has what they are made of).
    overwrite : bool
        Whether files of an earlier run are replaced.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ConfigError, LayerExistsError
        If the folder or an export is not one that can be written.
    TableError
        If the table lacks what an export is made of, or is too large for it.
    StorageError
    """
    wanted = chosen_exports(exports, export)
    place = check_folder(out, overwrite=overwrite)
    connectome = export.connectome
    counts = asdict(connectome.counts())
    record = {
        "table": export.path,
        "format": connectome.synapses.layout.format,
        "thresholds": asdict(connectome.thresholds),
        "counts": {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in counts.items()
        },
        "exports": wanted,
    }
    with staged_folder(place, record) as part:
        csv_of(connectome.left_out_batches(), part / "left_out.csv")
        connectome.autapses().to_csv(part / "autapses.csv", index=False, lineterminator="\n")
        connectome.unnamed().to_csv(part / "unnamed.csv", index=False, lineterminator="\n")
        for name in wanted:
            EXPORTS[name](export, part)
        names = sorted(path.name for path in part.iterdir())
    return [place / name for name in (*names, RECORD)]
