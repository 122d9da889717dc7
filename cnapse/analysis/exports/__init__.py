"""A connectome in every form that others read; `write_connectome` writes a folder of them."""

from __future__ import annotations

from cnapse.analysis.exports.export import Export
from cnapse.analysis.exports.graphml import graph_of
from cnapse.analysis.exports.write import EXPORTS, write_connectome

__all__ = ["EXPORTS", "Export", "graph_of", "write_connectome"]
