"""cnapse: chemical synapses in volume electron microscopy, and who talks to whom.

The names here are what scripts need; everything else is in the subpackages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cnapse.errors import CnapseError, one_line_errors
from cnapse.geometry import Box, Grid
from cnapse.tables import SynapseFlag, read_metadata, read_table

if TYPE_CHECKING:
    from cnapse.config import Config, load_config
    from cnapse.runs import cutout, open_run
    from cnapse.volumes.reader import Layer, open_layer, read_cutouts

__all__ = [
    "Box",
    "CnapseError",
    "Config",
    "Grid",
    "Layer",
    "SynapseFlag",
    "cutout",
    "load_config",
    "one_line_errors",
    "open_layer",
    "open_run",
    "read_cutouts",
    "read_metadata",
    "read_table",
]

__version__ = "0.1.0"

# CloudVolume and pydantic take most of a second to import: only when they are asked for.
_LAZY = {
    "Config": "cnapse.config",
    "Layer": "cnapse.volumes.reader",
    "cutout": "cnapse.runs",
    "load_config": "cnapse.config",
    "open_layer": "cnapse.volumes.reader",
    "open_run": "cnapse.runs",
    "read_cutouts": "cnapse.volumes.reader",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cnapse' has no attribute {name!r}")
