"""Masks: layers whose voxels say by 0, or anything else, whether a place counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnapse.geometry import Box, triple
from cnapse.volumes.reader import Layer
from cnapse.volumes.resample import downsample, take

__all__ = ["read_mask"]


def read_mask(layer: Layer, box: Box) -> npt.NDArray[np.bool_]:
    """Whether the voxels of a box count: those where the mask is not 0.

    Parameters
    ----------
    layer : Layer
        An image or a segmentation, open at the resolution of the box. A coarser one has its voxels
        repeated; of a finer one those that count must be the majority, whatever their values.
    box : Box
        May reach past the mask, or lie outside of it: nothing counts there.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
    """
    ratio = layer.ratio
    if ratio.down == (1, 1, 1):
        there: npt.NDArray[np.bool_] = layer.read(box, pad="zero") != 0
        return there
    stored = layer.at(layer.info["scales"][layer.mip]["resolution"])
    start, stop = ratio.to_source(box.start, box.stop)
    fine = stored.read(Box(start, stop, stored.resolution), pad="zero") != 0
    coarse = downsample(fine, start, ratio.down, kind="segmentation")
    first = triple([a // k for a, k in zip(start, ratio.down, strict=True)])
    axes = zip(box.start, box.stop, ratio.up, first, strict=True)
    return take(coarse, [np.arange(a, b) // m - origin for a, b, m, origin in axes])
