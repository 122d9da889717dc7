"""Synthetic serial-section tissue with known synapses and partners.

Every voxel is a function of the parameters and of its absolute place alone, so any box can be made
on its own, and a phantom of any size block by block.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import BoundsError
from cnapse.geometry import Box
from cnapse.phantom.image import MARGIN_NM, section_image
from cnapse.phantom.spec import PhantomSpec
from cnapse.phantom.synapses import Synapse, Synapses
from cnapse.phantom.tissue import plane

__all__ = ["Phantom", "PhantomSpec", "Synapse"]

_SEEN_NM = 350.0


class Phantom:
    """A phantom; rendered box by box.

    Parameters
    ----------
    spec : PhantomSpec
    """

    def __init__(self, spec: PhantomSpec) -> None:
        self.spec = spec
        self._synapses = Synapses(spec)

    @property
    def bounds(self) -> Box:
        """All of it."""
        return self.spec.bounds

    def render(self, box: Box, *, image: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Make a box.

        Parameters
        ----------
        box : Box
            Inside the bounds, at the phantom's resolution.
        image : bool
            Whether the image is wanted; without it, labels come three times as fast.

        Returns
        -------
        dict of ndarray, shape (x, y, z), Fortran order
            ``image`` uint8 (if wanted); ``cells`` uint64, 0 between cells; ``densities`` uint64,
            the true synapse objects.

        Raises
        ------
        BoundsError
            If the box reaches out of the bounds.
        """
        if not self.bounds.contains(box):
            raise BoundsError(f"{box} reaches out of the phantom's bounds {self.bounds}")
        hx, hy, _ = self.spec.resolution
        margin = (math.ceil(MARGIN_NM / hx), math.ceil(MARGIN_NM / hy), 0) if image else (0, 0, 0)
        wide = box.grown(margin)
        inner = box.slices(wide)[:2]
        synapses = self._synapses.near(box, _SEEN_NM)
        made: dict[str, npt.NDArray[Any]] = {
            "cells": np.empty(box.shape, np.uint64, order="F"),
            "densities": np.zeros(box.shape, np.uint64, order="F"),
        }
        if image:
            made["image"] = np.empty(box.shape, np.uint8, order="F")
        for index in range(box.shape[2]):
            section = box.start[2] + index
            tissue = plane(self.spec, wide, section)
            outside = tissue.distance < self.spec.gap_nm / 2
            made["cells"][:, :, index] = np.where(outside, 0, tissue.cell)[inner]
            if image:
                picture = section_image(self.spec, wide, section, tissue, synapses)
                made["image"][:, :, index] = picture[inner]
        for synapse in synapses:
            common = synapse.box.intersection(box)
            if not common.empty:
                part = synapse.mask[common.slices(synapse.box)]
                made["densities"][common.slices(box)][part] = synapse.syn_id
        return made

    def synapses(self) -> list[Synapse]:
        """Every synapse, by id."""
        return self._synapses.all()

    def truth(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What is true, as two tables.

        Returns
        -------
        synapses : DataFrame
            syn_id, pre_id, x_pos, y_pos, z_pos (nm, centre of the density's voxel nearest to its
            centroid), voxels, n_partners.
        partners : DataFrame
            syn_id, pre_id, post_id, contact_nm2 (area of the presynaptic membrane that faces the
            partner under the density), share (of all contact).
        """
        synapses = self.synapses()
        rows = [
            (s.syn_id, s.pre_id, *_place_nm(s), s.mask.sum(), len(s.contact_nm2)) for s in synapses
        ]
        names = ["syn_id", "pre_id", "x_pos", "y_pos", "z_pos", "voxels", "n_partners"]
        table = pd.DataFrame(rows, columns=names)
        pairs = [
            (s.syn_id, s.pre_id, cell, area, area / sum(s.contact_nm2.values()))
            for s in synapses
            for cell, area in s.contact_nm2.items()
        ]
        columns = ["syn_id", "pre_id", "post_id", "contact_nm2", "share"]
        ids = dict.fromkeys(("syn_id", "pre_id"), np.uint64)
        partners = pd.DataFrame(pairs, columns=columns)
        return table.astype(ids), partners.astype({**ids, "post_id": np.uint64})


def _place_nm(synapse: Synapse) -> tuple[float, float, float]:
    """Centre of the voxel nearest to the centroid."""
    voxels = np.argwhere(synapse.mask) + np.asarray(synapse.box.start)
    h = np.asarray(synapse.box.resolution)
    away = (((voxels - voxels.mean(axis=0)) * h) ** 2).sum(axis=1)
    x, y, z = ((voxels[away.argmin()] + 0.5) * h).tolist()
    return x, y, z
