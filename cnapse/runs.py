"""A run's layers and tables, as its configuration tells where they are; nothing here is written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.config import Config, LayerSection, load_config
from cnapse.errors import BoundsError, ConfigError, LayerNotFoundError, RunStateError
from cnapse.geometry import Box, Triple, format_resolution
from cnapse.store import Store
from cnapse.volumes.channels import channel_names, chosen_channel
from cnapse.volumes.grow import grown_labels, reach_of
from cnapse.volumes.mask import read_mask
from cnapse.volumes.reader import Layer, open_layer
from cnapse.volumes.stored import load_info

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.viewing.connections import Connections
    from cnapse.viewing.cutout import SynapseView

__all__ = ["LAYER_KINDS", "LayerName", "RunData", "cutout", "open_run"]

LayerName = Literal["image", "cells", "probability", "synapses", "vesicles", "direction", "mask"]

LAYER_KINDS: dict[LayerName, Literal["image", "segmentation"] | None] = {
    "image": "image",
    "cells": "segmentation",
    "probability": "image",
    "synapses": "segmentation",
    "vesicles": None,
    "direction": "image",
    "mask": None,
}

_VESICLES = "vesicles"
# A layer that covers so much is as good as whole: its rim may be cut off.
_ALL = 0.99


class RunData:
    """The layers and tables of a run, opened on demand; made by `open_run`.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._layers: dict[tuple[LayerName, int | None], Layer] = {}
        self._told_missing: dict[int, int] = {}

    # --- layers ---------------------------------------------------------------------------------

    def given(self, name: LayerName) -> LayerSection | None:
        """The layer's section if it was made elsewhere."""
        section: LayerSection | None = getattr(self.config.layers, name)
        return section

    def layer_path(self, name: LayerName) -> str:
        """Where a layer is read from."""
        section = self.given(name)
        return section.path if section else f"{self.config.output}/{name}"

    def layer(self, name: LayerName, channel: int | None = None) -> Layer:
        """A layer, opened at the working resolution.

        Parameters
        ----------
        name : str
        channel : int, optional
            Which one, where there are several; of the probability the one that
            `probability_channel` tells.

        Raises
        ------
        ConfigError
            If the configuration has no such layer, and no run makes it.
        LayerNotFoundError
            If it is not there.
        """
        key = (name, channel)
        if key not in self._layers and name == "probability" and channel is None:
            self._layers[key] = self.layer(name, self.probability_channel)
        if key not in self._layers:
            section = self.given(name)
            if section is None and name not in ("probability", "synapses"):
                raise ConfigError(f"layers.{name} is missing: give its path in cnapse.toml")
            self._layers[key] = open_layer(
                self.layer_path(name),
                resolution=self.config.resolution,
                kind=LAYER_KINDS[name],
                fill_missing=bool(section and section.fill_missing),
                channel=channel,
                check=self._check_of(name),
            )
        return self._layers[key]

    def _check_of(self, name: LayerName) -> Callable[[int, Box], None] | None:  # noqa: ARG002
        """What is called before a layer's voxels are read; workers check what the run wrote."""
        return None

    @functools.cached_property
    def probability_channel(self) -> int:
        """The channel of the probability that objects are made of: ``label.channel``.

        Raises
        ------
        ConfigError
            If there is none such, or one must be chosen.
        LayerNotFoundError
            If the layer is not there.
        """
        info = self._probability_info
        return chosen_channel(
            channel_names(info),
            int(info.get("num_channels", 1)),
            self.config.label.channel,
            self.layer_path("probability"),
            "label.channel",
        )

    @functools.cached_property
    def _vesicles_channel(self) -> int | None:
        """The channel of the probability that shows vesicles, if they are asked for."""
        has_map = self.first_layer != "synapses" or self.given("probability") is not None
        if self.config.assign.density != "cleft" or not has_map:
            return None
        names = channel_names(self._probability_info)
        return names.index(_VESICLES) if _VESICLES in names else None

    @functools.cached_property
    def _probability_info(self) -> dict[str, Any]:
        return load_info(self.layer_path("probability"))

    def read_mask(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Whether voxels count for the mask, shape ``box.shape``; None without such a layer."""
        if self.config.layers.mask is None:
            return None
        return read_mask(self.layer("mask"), box)

    def read_cells(self, box: Box) -> npt.NDArray[np.uint64]:
        """Cells over a box at the working resolution, grown if the configuration says so.

        Parameters
        ----------
        box : Box
            It may reach past the layer, where there is 0.

        Returns
        -------
        ndarray of uint64, shape ``box.shape`` (x, y, z), Fortran order
        """
        layer = self.layer("cells")
        section = self.config.layers.cells
        if section is None or section.grow_nm == 0:
            return layer.read(box)
        wide = box.grown(reach_of(section.grow_nm, box.resolution))
        grown = grown_labels(layer.read(wide), section.grow_nm, box.resolution)
        return np.asfortranarray(grown[box.slices(wide)])

    def read_vesicles(self, box: Box) -> npt.NDArray[Any] | None:
        """A map of vesicles, shape ``box.shape``, labels as bool; None without such a layer.

        A probability with a channel "vesicles" has such a map where ``assign.density = "cleft"``.
        """
        if self.config.layers.vesicles is None:
            channel = self._vesicles_channel
            return None if channel is None else self.layer("probability", channel).read(box)
        layer = self.layer("vesicles")
        vesicles = layer.read(box)
        return vesicles != 0 if layer.kind == "segmentation" else vesicles

    def read_direction(self, box: Box) -> npt.NDArray[Any] | None:
        """Vectors (x, y, z, 3) over a box, from post to pre; None without such a layer."""
        if self.config.layers.direction is None:
            return None
        return np.stack([self.layer("direction", channel).read(box) for channel in range(3)], -1)

    def read_cutout(self, box: Box) -> dict[str, npt.NDArray[Any]]:
        """One box of all that a picture shows, cells as `read_cells` gives them.

        Parameters
        ----------
        box : Box
            At the working resolution. It may reach past the layers.

        Returns
        -------
        dict of name to ndarray, each of shape ``box.shape``
            ``image``, ``cells``, ``synapses``, and ``probability`` if there is one.

        Raises
        ------
        ConfigError
            If the configuration has no image or no cells.
        """
        for name in ("image", "cells"):
            if getattr(self.config.layers, name) is None:
                raise ConfigError(f"layers.{name} is missing: a picture needs it")
        arrays: dict[str, npt.NDArray[Any]] = {
            "image": self.layer("image").read(box),
            "cells": self.read_cells(box),
            "synapses": self.layer("synapses").read(box),
        }
        if self._has_probability:
            arrays["probability"] = self.layer("probability").read(box)
        return arrays

    def taken_missing(self) -> dict[LayerName, int]:
        """Chunks that were not there and were read as 0, by layer, since this was last asked."""
        counts: dict[LayerName, int] = {}
        # One layer may be here by several names of its channel.
        sources = {id(layer): (name, layer) for (name, _), layer in self._layers.items()}
        for key, (name, layer) in sources.items():
            new = layer.missing_chunks - self._told_missing.get(key, 0)
            self._told_missing[key] = layer.missing_chunks
            if new:
                counts[name] = counts.get(name, 0) + new
        return counts

    @functools.cached_property
    def _has_probability(self) -> bool:
        return Store(self.layer_path("probability")).exists("info")

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
        """Full bounds, at the working resolution: ids are raster indices in it.

        Raises
        ------
        BoundsError
            If the layer that the run starts from is empty.
        """
        frame = self.layer(self.first_layer).bounds
        if frame.empty:
            raise BoundsError(f"layer {self.layer_path(self.first_layer)} is empty: {frame}")
        return frame

    @functools.cached_property
    def region(self) -> Box:
        """The voxels that count: the frame, or the part of it in the configuration's bounds.

        Raises
        ------
        BoundsError
            If these bounds lie outside of the frame, or the frame is empty.
        """
        wanted = self.config.bounds_box()
        if wanted is None:
            return self.frame
        region = wanted.clamped(self.frame)
        if region.empty:
            raise BoundsError(
                f"bounds {wanted} lie outside of {self.layer_path(self.first_layer)}, "
                f"which covers {self.frame}: give bounds in voxels of "
                f"{format_resolution(self.config.resolution)}"
            )
        return region

    @functools.cached_property
    def chunk(self) -> Triple:
        """Storage chunks of the layers that the run makes."""
        return self.layer(self.first_layer).chunk_size

    def check_overlap(self) -> None:
        """Check that the layers cover the same tissue.

        Raises
        ------
        BoundsError
            If cells, probability, image or mask do not overlap with the layer the run starts from.
        """
        names = self._others()
        for name in [*names, "mask"] if self.given("mask") else names:
            if self.layer(name).bounds.intersection(self.frame).empty:
                raise BoundsError(
                    f"layers do not overlap: {name} ({self.layer_path(name)}) covers "
                    f"{self.layer(name).bounds}, {self.first_layer} "
                    f"({self.layer_path(self.first_layer)}) covers {self.frame}: "
                    "check their voxel offsets and resolutions"
                )

    def overlap_notes(self) -> list[str]:
        """A line for each layer that covers only a part of the voxels that count."""
        notes = []
        for name in self._others():
            common = self.layer(name).bounds.intersection(self.region)
            share = common.voxels / self.region.voxels
            if share >= _ALL:
                continue
            way_out = (
                "if it is shifted, mend voxel_offset in its info; if not, set [bounds] start = "
                f"{list(common.start)}, stop = {list(common.stop)}"
            )
            if common.empty:
                way_out = "check [bounds] and the voxel offsets"
            notes.append(
                f"note: {name} ({self.layer_path(name)}) covers {100 * share:.0f} % of what "
                f"counts, {self.region}: {way_out}"
            )
        return notes

    def _others(self) -> list[LayerName]:
        """The given layers that are read beside the one the run starts from."""
        names: tuple[LayerName, ...] = ("image", "cells", "probability")
        return [name for name in names if name != self.first_layer and self.given(name)]

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
        ``.image``, ``.cells`` (grown by ``layers.cells.grow_nm``), ``.synapses`` and
        ``.probability`` (None if there is none) are arrays [x, y, z] of the voxels of ``.box``;
        ``.draw(path)`` makes a picture of them.

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
        return cut_out(data, synapse, width_nm=width_nm, sections=sections)
    if position_nm is not None and synapse is None:
        return cut_out_at(data, position_nm, width_nm=width_nm, sections=sections)
    raise ConfigError("a cutout needs a place: give one of synapse and position_nm")
