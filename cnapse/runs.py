"""A run's layers and tables, as its configuration tells where they are; nothing here is written."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from cnapse.config import Config, LayerSection, load_config
from cnapse.errors import BoundsError, ConfigError, LayerNotFoundError, RunStateError
from cnapse.geometry import Box, Triple
from cnapse.volumes.grow import grown_labels, reach_of
from cnapse.volumes.reader import Layer, open_layer

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.viewing.connections import Connections
    from cnapse.viewing.cutout import SynapseView

__all__ = ["LAYER_KINDS", "LayerName", "RunData", "cutout", "open_run"]

LayerName = Literal["image", "cells", "probability", "synapses"]

LAYER_KINDS: dict[LayerName, Literal["image", "segmentation"]] = {
    "image": "image",
    "cells": "segmentation",
    "probability": "image",
    "synapses": "segmentation",
}


class RunData:
    """The layers and tables of a run, opened on demand; made by `open_run`.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._layers: dict[LayerName, Layer] = {}

    # --- layers ---------------------------------------------------------------------------------

    def given(self, name: LayerName) -> LayerSection | None:
        """The layer's section if it was made elsewhere."""
        section: LayerSection | None = getattr(self.config.layers, name)
        return section

    def layer_path(self, name: LayerName) -> str:
        """Where a layer is read from."""
        section = self.given(name)
        return section.path if section else f"{self.config.output}/{name}"

    def layer(self, name: LayerName) -> Layer:
        """A layer, opened at the working resolution.

        Raises
        ------
        ConfigError
            If the configuration has no such layer, and no run makes it.
        LayerNotFoundError
            If it is not there.
        """
        if name not in self._layers:
            section = self.given(name)
            if section is None and name in ("image", "cells"):
                raise ConfigError(f"layers.{name} is missing: give its path in cnapse.toml")
            self._layers[name] = open_layer(
                self.layer_path(name),
                resolution=self.config.resolution,
                kind=LAYER_KINDS[name],
                fill_missing=bool(section and section.fill_missing),
            )
        return self._layers[name]

    def read_cells(self, box: Box) -> npt.NDArray[np.uint64]:
        """Cells over a box at the working resolution, grown if the configuration says so."""
        layer = self.layer("cells")
        section = self.config.layers.cells
        if section is None or section.grow_nm == 0:
            return layer.read(box)
        wide = box.grown(reach_of(section.grow_nm, box.resolution))
        grown = grown_labels(layer.read(wide), section.grow_nm, box.resolution)
        return np.asfortranarray(grown[box.slices(wide)])

    def picture_layers(self) -> dict[str, Layer]:
        """What a picture shows: image, cells and synapses, and probability if there is one.

        Raises
        ------
        ConfigError
            If the configuration has no image or no cells.
        """
        from cnapse.viewing.exhibit import present_layers

        for name in ("image", "cells"):
            if getattr(self.config.layers, name) is None:
                raise ConfigError(f"layers.{name} is missing: a picture needs it")
        names: tuple[LayerName, ...] = ("image", "cells", "synapses")
        if present_layers({"probability": self.layer_path("probability")}):
            names = (*names, "probability")
        return {name: self.layer(name) for name in names}

    # --- boxes ----------------------------------------------------------------------------------

    @property
    def first_layer(self) -> LayerName:
        """The layer that the run starts from; it gives bounds and chunks to all that is made."""
        layers = self.config.layers
        if layers.synapses:
            return "synapses"
        return "probability" if layers.probability else "image"

    @functools.cached_property
    def frame(self) -> Box:
        """Full bounds, at the working resolution: ids are raster indices in it."""
        frame = self.layer(self.first_layer).bounds
        if frame.empty:
            raise BoundsError(f"layer {self.layer_path(self.first_layer)} is empty: {frame}")
        return frame

    @functools.cached_property
    def chunk(self) -> Triple:
        """Storage chunks of the layers that the run makes."""
        return self.layer(self.first_layer).chunk_size

    def check_overlap(self) -> None:
        """Check that the layers cover the same tissue.

        Raises
        ------
        BoundsError
            If cells, probability or image do not overlap with the layer the run starts from.
        """
        frame = self.frame
        for name in ("image", "cells", "probability"):
            if name == self.first_layer or self.given(name) is None:
                continue
            bounds = self.layer(name).bounds
            if bounds.intersection(frame).empty:
                raise BoundsError(
                    f"layers do not overlap: {name} ({self.layer_path(name)}) covers {bounds}, "
                    f"{self.first_layer} ({self.layer_path(self.first_layer)}) covers {frame}: "
                    "check their voxel offsets and resolutions"
                )

    # --- tables ---------------------------------------------------------------------------------

    @functools.cached_property
    def connections(self) -> Connections:
        """Both tables, to be asked about a synapse or a cell.

        Raises
        ------
        RunStateError
            If there are none yet.
        """
        from cnapse.viewing.connections import Connections

        try:
            return Connections.read(self.config.output)
        except LayerNotFoundError as error:
            raise RunStateError(
                f"{self.config.output} has no tables yet: finish the run first with `cnapse run`"
            ) from error

    @property
    def synapses(self) -> pd.DataFrame:
        """One row a synapse: :data:`cnapse.tables.SYNAPSES`."""
        return self.connections.synapses

    @property
    def partners(self) -> pd.DataFrame:
        """One row a synapse and postsynaptic cell: :data:`cnapse.tables.PARTNERS`."""
        return self.connections.partners


def open_run(run: str | Path | Config | RunData) -> RunData:
    """Open the layers and tables of a run: ``open_run("cnapse.toml").partners``.

    Parameters
    ----------
    run
        A ``cnapse.toml``, or what `load_config` made of it.

    Returns
    -------
    RunData
        ``.synapses`` and ``.partners`` are its tables, ``.layer(name)`` its layers at the working
        resolution. They are read when they are asked for.
    """
    if isinstance(run, RunData):
        return run
    return RunData(run if isinstance(run, Config) else load_config(run))


def cutout(
    run: str | Path | Config | RunData,
    *,
    synapse: int | None = None,
    position_nm: tuple[float, float, float] | None = None,
    width_nm: float = 1400.0,
    sections: int = 3,
) -> SynapseView:
    """Cut the surroundings of a synapse or of a point out of a run's layers.

    Parameters
    ----------
    run
        A ``cnapse.toml``, its configuration, or what `open_run` made of it (the fastest for many).
    synapse : int, optional
        Id of a synapse: its cells are named and coloured.
    position_nm : (x, y, z), optional
        A point, instead.
    width_nm : float
        Width and height; more if the synapse needs more, less where the volume is smaller.
    sections : int
        How many, around the position.

    Returns
    -------
    SynapseView
        ``.image``, ``.cells``, ``.synapses`` and ``.probability`` (None if there is none) are
        arrays [x, y, z] of the voxels of ``.box``; ``.draw(path)`` makes a picture of them.

    Raises
    ------
    ConfigError
        If not just one of synapse and position is given, or there is no image or no cells.
    TableError
        If the synapse is not in the table.
    BoundsError
        If the position is outside of the volume.
    """
    from cnapse.viewing.cutout import cut_out, cut_out_at

    data = open_run(run)
    if synapse is not None and position_nm is None:
        view = cut_out(
            data.picture_layers(),
            data.connections,
            synapse,
            width_nm=width_nm,
            sections=sections,
        )
    elif position_nm is not None and synapse is None:
        view = cut_out_at(data.picture_layers(), position_nm, width_nm=width_nm, sections=sections)
    else:
        raise ConfigError("a cutout needs a place: give one of synapse and position_nm")
    section = data.given("cells")
    if section is None or section.grow_nm == 0:
        return view
    return dataclasses.replace(view, cells=data.read_cells(view.box))
