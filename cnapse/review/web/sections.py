"""One section around a place as a picture, and what lies under each of its pixels.

A raster of `size` pixels shows a square of `span_nm` around a place: pixel (column, row) lies at
``x + (column + 0.5 - size / 2) * span_nm / size``, and the same for y; z chooses the section.
"""

from __future__ import annotations

import io
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from cnapse.geometry import Resolution
from cnapse.review.web.blocks import HeldBlocks, Indices
from cnapse.runs import LayerName, RunData
from cnapse.viewing.exhibit import measured_contrast
from cnapse.viewing.palette import SYNAPSE, rgb
from cnapse.volumes.reader import Layer

__all__ = ["Raster", "Sections", "encoded"]

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]

_OUTSIDE = 24
_NO_IMAGE = 96
_OWN, _OTHERS = rgb(SYNAPSE), (235, 235, 235)
_QUALITY = 88
# Voxels for a pixel along x and y, at most: so many make a smooth picture, and take 16 MB and 70.
_LABEL_FINENESS, _EM_FINENESS = 2, 4
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Raster:
    """A square of a section.

    Parameters
    ----------
    place_nm : (x, y, z)
        Its middle.
    size : int
        Pixels along each side.
    span_nm : float
        Length of each side.
    """

    place_nm: Resolution
    size: int
    span_nm: float

    @property
    def corner_nm(self) -> tuple[float, float]:
        """Where the first pixel begins."""
        x, y, _ = self.place_nm
        return x - self.span_nm / 2, y - self.span_nm / 2

    def centres_nm(self, axis: int) -> npt.NDArray[np.float64]:
        """Centres of the pixels along x (0) or y (1)."""
        pixel = self.span_nm / self.size
        found: npt.NDArray[np.float64] = (
            self.corner_nm[axis] + (np.arange(self.size, dtype=np.float64) + 0.5) * pixel
        )
        return found


class Sections:
    """Sections of a run's layers as pictures; may be asked by several threads.

    Parameters
    ----------
    run : RunData
    most_bytes : int
        Memory for the chunks of each layer.
    """

    def __init__(self, run: RunData, most_bytes: int = 1 << 28) -> None:
        self._run, self._most = run, most_bytes
        self._scales: dict[LayerName, list[HeldBlocks]] = {}
        self._lock = threading.Lock()
        self._contrast: tuple[float, float] | None = None

    def em(self, raster: Raster) -> Picture:
        """The image in grey, shape (rows, columns); even grey where there is none."""
        if not self._run.given("image"):
            return np.full((raster.size, raster.size), _NO_IMAGE, np.uint8)
        blocks = self._layer("image", raster)
        section, box = _cut(blocks, raster, _EM_FINENESS)
        black, white = self._black_and_white(raster)
        grey = np.clip((section.astype(np.float32) - black) * (255 / (white - black)), 0, 255)
        grey[~_inside(blocks, raster, _EM_FINENESS)] = _OUTSIDE
        scaled = _picture(grey.astype(np.uint8)).resize(
            (raster.size, raster.size), Image.Resampling.BICUBIC, box=box
        )
        return np.asarray(scaled)

    def outlined(self, raster: Raster, syn_id: int, *, outline: bool = True) -> Picture:
        """The image with the outlines of synapses: this one's yellow, others' white and thin."""
        picture = np.repeat(self.em(raster)[:, :, np.newaxis], 3, axis=2)
        if not outline:
            return picture
        section, box = _cut(self._layer("synapses", raster), raster, _LABEL_FINENESS)
        for mask, colour, width in (
            ((section != 0) & (section != syn_id), _OTHERS, 1),
            (section == syn_id, _OWN, max(2, round(raster.size / 110))),
        ):
            if mask.any():
                picture[_contour(_shape(mask, raster, box), width)] = colour
        return picture

    def labels(self, name: LayerName, raster: Raster) -> tuple[Array, Array]:
        """Ids under the pixels: the ids that occur, and 1 + the place in them, or 0 for none.

        Returns
        -------
        ids : ndarray of uint64, shape (n,)
        index : ndarray of int64, shape (rows, columns)
        """
        if name == "cells" and not self._run.given("cells"):
            return np.zeros(0, np.uint64), np.zeros((raster.size, raster.size), np.int64)
        blocks = self._layer(name, raster)
        h = blocks.layer.resolution
        x, y = (np.floor(raster.centres_nm(axis) / h[axis]).astype(np.int64) for axis in (0, 1))
        under = blocks.section(x, y, math.floor(raster.place_nm[2] / h[2])).T
        ids, index = np.unique(under, return_inverse=True)
        index = index.reshape(under.shape)
        return (ids[1:], index) if len(ids) and ids[0] == 0 else (ids, index + 1)

    # --- layers ---------------------------------------------------------------------------------

    def _layer(self, name: LayerName, raster: Raster) -> HeldBlocks:
        """A layer at the coarsest of its scales that has a voxel for each pixel."""
        with self._lock:
            if name not in self._scales:
                self._scales[name] = [
                    HeldBlocks(layer, self._most) for layer in _stored(self._run.layer(name))
                ]
            finest, *coarser = self._scales[name]
            pixel = raster.span_nm / raster.size
            fitting = [one for one in coarser if max(one.layer.resolution[:2]) <= pixel]
            return fitting[-1] if fitting else finest

    def _black_and_white(self, raster: Raster) -> tuple[float, float]:
        with self._lock:
            if self._contrast is None:
                image = self._run.layer("image")
                bounds = image.bounds
                inside = [
                    min(max(v, a), b)
                    for v, a, b in zip(
                        raster.place_nm, bounds.start_nm, bounds.stop_nm, strict=True
                    )
                ]
                black, white = measured_contrast(image, inside)
                self._contrast = black, max(white, black + 1e-6)
            return self._contrast


def encoded(picture: Picture) -> bytes:
    """A picture as WebP: one in colours without loss, which would wash out thin outlines."""
    stream = io.BytesIO()
    in_colour = picture.ndim == 3
    _picture(picture).save(
        stream, "WEBP", quality=0 if in_colour else _QUALITY, method=0, lossless=in_colour
    )
    return stream.getvalue()


def _picture(values: Picture) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values))


def _stored(layer: Layer) -> list[Layer]:
    """A layer as it is, then its coarser scales whose sections are no thicker than they are wide.

    Scales that would be computed of finer ones spare no reading.
    """
    own = layer.resolution
    scales = [tuple(map(float, scale["resolution"])) for scale in layer.info["scales"]]
    return [
        layer,
        *(
            layer.at(scale)
            for scale in sorted(scales)
            if all(a <= b for a, b in zip(own, scale, strict=True))
            and scale[:2] > own[:2]
            and scale[2] <= max(own[2], *scale[:2])
        ),
    ]


def _along(
    blocks: HeldBlocks, raster: Raster, axis: int, fineness: int
) -> tuple[Indices, float, float]:
    """Voxels under a raster along x (0) or y (1), and where it begins and ends among them.

    Where there are more than `fineness` for a pixel, every n-th stands for n: the others would not
    be seen.
    """
    h = blocks.layer.resolution[axis]
    step = max(1, math.floor(raster.span_nm / raster.size / h / fineness))
    low = raster.corner_nm[axis] / h
    margin = _MARGIN * step
    start, stop = math.floor(low) - margin, math.ceil(low + raster.span_nm / h) + margin
    first = (low - start) / step
    # A voxel that stands for several stands in their middle.
    middles = np.arange(start, stop, step, dtype=np.int64) + step // 2
    return middles, first, first + raster.span_nm / h / step


def _cut(
    blocks: HeldBlocks, raster: Raster, fineness: int
) -> tuple[Array, tuple[float, float, float, float]]:
    """Voxels under a raster, as rows and columns, and where its corners lie among them."""
    x, left, right = _along(blocks, raster, 0, fineness)
    y, top, bottom = _along(blocks, raster, 1, fineness)
    section = blocks.section(x, y, math.floor(raster.place_nm[2] / blocks.layer.resolution[2]))
    return section.T, (left, top, right, bottom)


def _inside(blocks: HeldBlocks, raster: Raster, fineness: int) -> npt.NDArray[np.bool_]:
    """Which of the voxels of `_cut` the layer has."""
    start, stop = blocks.layer.bounds.start, blocks.layer.bounds.stop
    spans = []
    for axis in (1, 0):
        middles, _, _ = _along(blocks, raster, axis, fineness)
        spans.append((start[axis] <= middles) & (middles < stop[axis]))
    z = math.floor(raster.place_nm[2] / blocks.layer.resolution[2])
    return np.logical_and.outer(*spans) & (start[2] <= z < stop[2])


def _shape(
    mask: npt.NDArray[np.bool_], raster: Raster, box: tuple[float, float, float, float]
) -> npt.NDArray[np.bool_]:
    """A mask on the raster, its edge half-way between voxels."""
    grey = _picture(mask.astype(np.uint8) * np.uint8(255))
    scaled = grey.resize((raster.size, raster.size), Image.Resampling.BILINEAR, box=box)
    found: npt.NDArray[np.bool_] = np.asarray(scaled) >= 128
    return found


def _contour(shape: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """The rim just outside of a shape, so that it hides nothing of it."""
    rim: npt.NDArray[np.bool_] = binary_dilation(shape, iterations=width) & ~shape
    if not rim.any():  # all of the picture
        rim = shape & ~binary_erosion(shape, iterations=width)
    return rim
