"""Layers as a plan sees them: those that exist, and those that the run will make."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnapse.geometry import Box, Grid, Triple
from cnapse.volumes.reader import Layer
from cnapse.volumes.resample import padded_indices
from cnapse_tasks.planning.spans import Interval, Spans, spans_of
from cnapse_tasks.run import LayerName, Run

__all__ = ["Stored", "detect_spans", "network_pixels", "stored"]

_ID_BYTES = 8
_PUBLISHED_WIDTH = 16
_TURNS = {"none": 1, "flips": 4, "all": 8}


@dataclass(frozen=True, slots=True)
class Stored:
    """The scale of a layer that is read.

    Parameters
    ----------
    bounds : Box
        All of its voxels, as stored.
    chunk : (x, y, z)
    itemsize : int
        Bytes of a voxel, all channels together.
    down, up : (x, y, z)
        Stored voxels in one voxel of the run, or the other way round.
    """

    bounds: Box
    chunk: Triple
    itemsize: int
    down: Triple = (1, 1, 1)
    up: Triple = (1, 1, 1)

    def below(self, spans: Spans) -> Spans:
        """The stored voxels under boxes of the run's voxels, inside the layer."""

        def under(axis: int, span: Interval) -> Interval:
            down, up = self.down[axis], self.up[axis]
            return span[0] * down // up, -(-span[1] * down // up)

        return spans.mapped(under).clipped(self.bounds)

    def chunks(self, spans: Spans) -> int:
        """How many chunks boxes of the run's voxels touch, each counted once a box."""
        return self.below(spans).chunks(self.bounds.start, self.chunk)

    def bytes(self, spans: Spans) -> int:
        """Bytes of the voxels, decoded."""
        return self.itemsize * self.below(spans).voxels


def stored(run: Run, name: LayerName) -> Stored:
    """A layer of a run: as it is, or as the run will make it."""
    if run.given(name) is None and name in ("probability", "synapses"):
        size = _ID_BYTES if name == "synapses" else len(run.model.classes)
        return Stored(run.frame, run.chunk, size)
    layer: Layer = run.layer(name, channel=0 if name == "direction" else None)
    scale = layer.info["scales"][layer.mip]
    start = scale.get("voxel_offset", (0, 0, 0))
    bounds = Box.from_shape(scale["size"], scale["resolution"], start)
    itemsize = layer.dtype.itemsize * int(layer.info.get("num_channels", 1))
    return Stored(bounds, layer.chunk_size, itemsize, layer.ratio.down, layer.ratio.up)


@functools.lru_cache(maxsize=1)
def detect_spans(run: Run) -> tuple[Spans, Spans, Spans]:
    """What `detect` predicts, what it tiles, and what it reads for that.

    Returns
    -------
    inside : Spans
        Of each slab of a block, the voxels that count.
    tiled : Spans
        These, out to the grid of tiles.
    read : Spans
        With halo; mirrored at the rim of the image, so never outside of it.
    """
    from cnapse.detection.inference import read_box

    model = run.tiled_model
    x, y, _ = run.grid("detect").block_shape
    # Blocks are whole chunks deep, so their slabs are those of the frame.
    inside = spans_of(Grid(run.frame, (x, y, run.chunk[2]))).clipped(run.region)
    halo = (model.halo, model.halo, model.sections // 2)
    bounds = run.layer("image").bounds
    region = run.region

    def wide(axis: int, span: Interval) -> Interval:
        start, stop = list(region.start), list(region.stop)
        start[axis], stop[axis] = span
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), run.frame.resolution)
        found = read_box(box, run.frame, model)
        return found.start[axis], found.stop[axis]

    def mirrored(axis: int, span: Interval) -> Interval:
        return _mirrored(span, (bounds.start[axis], bounds.stop[axis]))

    read = inside.mapped(wide)
    tiled = read.mapped(lambda axis, span: (span[0] + halo[axis], span[1] - halo[axis]))
    return inside, tiled, read.mapped(mirrored)


def _mirrored(span: Interval, bounds: Interval) -> Interval:
    if bounds[0] <= span[0] and span[1] <= bounds[1]:
        return span
    mode: Literal["mirror"] = "mirror"
    indices = padded_indices(*span, bounds, mode)
    return int(np.min(indices)), int(np.max(indices)) + 1


def network_pixels(run: Run, tiled: Spans) -> float:
    """Pixels through the network: every tile with its halo, for every turned image.

    Counted in pixels of the published network, whose first layers have 16 channels: work grows
    with the square of the width.
    """
    model = run.tiled_model
    (x, y), halo = model.tile, 2 * model.halo
    tiles = tiled.voxels // (x * y)
    width = float(model.options.get("widths", (_PUBLISHED_WIDTH,))[0])
    turns = _TURNS[run.config.detect.augment]
    return tiles * (x + halo) * (y + halo) * turns * (width / _PUBLISHED_WIDTH) ** 2
