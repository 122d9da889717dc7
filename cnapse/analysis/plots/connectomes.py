"""Published connectomes of *C. elegans*, through the package ``cect`` (ConnectomeToolbox).

``cect`` brings the data with it: nothing is fetched. It is the extra ``cnapse[connectomes]``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnapse.errors import ConfigError, FormatError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PREFIX", "published_edges", "published_names"]

PREFIX = "cect:"
"""What the name of a published connectome begins with, where a table is asked for."""


def published_names() -> list[str]:
    """Names of the connectomes that the installed ``cect`` knows.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    return sorted(_readers(), key=str.lower)


def published_edges(name: str) -> pd.DataFrame:
    """The chemical connections of a published connectome.

    Parameters
    ----------
    name : str
        As `published_names` gives them (``Witvliet8`` for cect's ``WitvlietDataReader8``), with or
        without the prefix ``cect:``.

    Returns
    -------
    DataFrame
        pre, post, weight: as published, thus synapses, sections or summed sizes; all kinds of
        chemical synapses added up.

    Raises
    ------
    ConfigError
        If ``cect`` is not installed, or knows no such connectome.
    FormatError
        If it cannot be read.
    """
    import pandas as pd

    short = name.removeprefix(PREFIX)
    readers = _readers()
    reader = {known.lower(): file for known, file in readers.items()}.get(short.lower())
    if reader is None:
        raise ConfigError(f"cect has no connectome {short!r}: it has {', '.join(sorted(readers))}")
    dataset = _load(reader)
    chemical = [c for c in dataset.connections if _is_chemical(c)]
    weights = np.zeros((len(dataset.nodes),) * 2)
    for one in chemical:
        weights += np.asarray(dataset.connections[one], dtype=np.float64)
    if not chemical:
        raise FormatError(f"cect's {short} has no chemical synapses: take another connectome")
    pre, post = np.nonzero(weights > 0)
    cells = np.asarray([str(node) for node in dataset.nodes], dtype=object)
    return pd.DataFrame({"pre": cells[pre], "post": cells[post], "weight": weights[pre, post]})


def _readers() -> dict[str, str]:
    """Files of the data sets that come with cect, by short name."""
    if importlib.util.find_spec("cect") is None:
        raise ConfigError(
            "published connectomes need the package cect: pip install 'cnapse[connectomes]'"
        )
    files = Path(_library().get_cache_filename("any")).parent.glob("*.json")
    found = {}
    for file in files:
        # Beside what readers have read, other things are stored there.
        if importlib.util.find_spec(f"cect.readers.{file.stem}") is not None:
            found[file.stem.replace("DataReader", "").replace("Reader", "")] = file.stem
    return found


def _library() -> Any:
    return importlib.import_module("cect.ConnectomeDataset")


def _load(reader: str) -> Any:
    """A data set as cect has stored it: nothing is read or fetched again."""
    library = _library()
    file = library.get_cache_filename(reader)
    # cect prints what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return library.load_connectome_dataset_file(file)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{file} cannot be read: {error}; install cect again") from error


def _is_chemical(kind: str) -> bool:
    """Whether a class of synapses of cect is chemical: by its own list."""
    types = importlib.import_module("cect.Neurotransmitters")
    with contextlib.redirect_stdout(io.StringIO()):
        return bool(types.get_syn_type_from_synclass(kind) == types.CHEMICAL_SYN_TYPE)
