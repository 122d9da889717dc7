"""Synapse tables from anywhere as annotations: cnapse's own, and those of other projects.

`open_source` finds out what a table is; `write_source` makes a layer of it, of any size.
"""

from __future__ import annotations

from cnapse.interchange.formats import FORMATS, Format
from cnapse.interchange.layer import write_source
from cnapse.interchange.source import Source, SourceOptions, open_source

__all__ = ["FORMATS", "Format", "Source", "SourceOptions", "open_source", "write_source"]
