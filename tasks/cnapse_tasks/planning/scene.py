"""The run as a plan sees it: its layers and grids, and the synapses expected in them."""

from __future__ import annotations

import functools
import math

from cnapse.geometry import Grid
from cnapse.volumes.grow import reach_of
from cnapse_tasks.planning.layers import Stored, stored
from cnapse_tasks.planning.spans import Spans, spans_of
from cnapse_tasks.planning.tissue import Scatter, some
from cnapse_tasks.run import PART_BITS, Run

__all__ = ["Scene"]

_PAGE = 1000
"""Names in the answer to one LIST request of S3 and of Google's store."""


class Scene:
    """The run's layers and grids, and the synapses expected in it."""

    def __init__(self, run: Run, scatter: Scatter) -> None:
        self.run = run
        self.scatter = scatter

    @functools.cached_property
    def probability(self) -> Stored:
        """The map."""
        return stored(self.run, "probability")

    @functools.cached_property
    def synapses(self) -> Stored:
        """The ids."""
        return stored(self.run, "synapses")

    @functools.cached_property
    def cells(self) -> Stored:
        """The cells."""
        return stored(self.run, "cells")

    @functools.cached_property
    def labelled(self) -> Spans:
        """What `label` reads: one voxel more on the upper sides, of what counts."""
        grid = self.run.grid("label")
        wider = Grid(grid.bounds, grid.block_shape, halo_upper=(1, 1, 1))
        return spans_of(wider).clipped(self.run.region)

    @property
    def parts(self) -> int:
        """Into how many parts the tables are divided."""
        return self.run.part_count() or 1

    def parts_of(self, grid: Grid, objects: float) -> float:
        """Into how many parts the objects of one block go, on average."""
        frame = self.run.frame
        # Ids count z slowest: a block's lie between those of its first and its last section.
        section = frame.shape[0] * frame.shape[1]
        reach = 1 + grid.block_shape[2] * section / (1 << PART_BITS)
        most = min(float(self.parts), reach)
        return most * some(objects / most) / max(some(objects), 1e-9)

    def wide_cells(self, spans: Spans) -> Spans:
        """What is read of the cells: more if they are grown."""
        section = self.run.config.layers.cells
        if section is None or section.grow_nm == 0:
            return spans
        return spans.grown(reach_of(section.grow_nm, self.run.config.resolution))

    def pages(self, files: float) -> float:
        """LIST requests for so many files in one folder."""
        return max(1.0, math.ceil(files / _PAGE))
