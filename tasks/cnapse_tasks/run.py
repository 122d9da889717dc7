"""One run: its configuration, layers, boxes and grids, as every stage needs them.

A run is rebuilt from its configuration on each worker; nothing here is written.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from cnapse.config import Config, LayerSection
from cnapse.errors import BoundsError, ConfigError
from cnapse.geometry import Box, Grid, Triple, format_resolution
from cnapse.store import Store, canonical_json
from cnapse.volumes.grow import grown_labels, reach_of
from cnapse.volumes.reader import Layer, open_layer
from cnapse.volumes.writer import LayerWriter, create_layer, open_writer

if TYPE_CHECKING:
    from cnapse.detection.checkpoint import ModelBundle

__all__ = ["PART_BITS", "LayerName", "Run", "Section"]

LayerName = Literal["image", "cells", "probability", "synapses"]
Section = Literal["detect", "label", "measure", "assign"]

_KINDS: dict[LayerName, Literal["image", "segmentation"]] = {
    "image": "image",
    "cells": "segmentation",
    "probability": "image",
    "synapses": "segmentation",
}

# Compute blocks that keep a worker under 2 GB: labels, cells and probability of 16.8 Mvox.
_DEFAULT_BLOCK: Triple = (512, 512, 64)
# Ids are 1 + raster indices: a part of a table covers 2^35 of them, some 30,000 synapses.
PART_BITS = 35


class Run:
    """A configuration with its layers opened on demand.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.output).child(".cnapse")
        self.output = Store(config.output)
        self._layers: dict[LayerName, Layer] = {}
        self._writers: dict[LayerName, LayerWriter] = {}

    def data(self, stage: str) -> Store:
        """What a stage hands to the next ones."""
        return self.store.child(f"{stage}/data")

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
        """A layer, opened at the working resolution."""
        if name not in self._layers:
            section = self.given(name)
            if section is None and name in ("image", "cells"):
                raise ConfigError(f"layers.{name} is missing: this stage needs it")
            self._layers[name] = open_layer(
                self.layer_path(name),
                resolution=self.config.resolution,
                kind=_KINDS[name],
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

    def create_output(self, name: Literal["probability", "synapses"]) -> None:
        """Create the layer that a stage writes: full bounds and chunks of the input."""
        create_layer(
            self.layer_path(name),
            kind=_KINDS[name],
            dtype="uint8" if name == "probability" else "uint64",
            bounds=self.frame,
            chunk_size=self.chunk,
            exist_ok=True,
        )

    def writer(self, name: Literal["probability", "synapses"]) -> LayerWriter:
        """The writer of a layer that `create_output` made."""
        if name not in self._writers:
            self._writers[name] = open_writer(self.layer_path(name))
        return self._writers[name]

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
    def region(self) -> Box:
        """The voxels that count."""
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

    def grid(self, section: Section) -> Grid:
        """The blocks of a stage: anchored to the frame, multiples of the storage chunks."""
        block = self.config.block_of(section)
        if block is None:
            block = self._default_block(section)
        elif section in ("detect", "label") and any(
            b % c for b, c in zip(block, self.chunk, strict=True)
        ):
            fitting = [-(-b // c) * c for b, c in zip(block, self.chunk, strict=True)]
            raise ConfigError(
                f"block {list(block)} of {section} is no multiple of the layers' chunks "
                f"{list(self.chunk)}, so two tasks would write the same chunk: use {fitting}"
            )
        return Grid(self.frame, block)

    def _default_block(self, section: str) -> Triple:
        wanted = _DEFAULT_BLOCK
        if section == "detect":
            tile = self.model.tile
            wanted = (tile[0], tile[1], self.chunk[2])
        x, y, z = (max(1, -(-w // c)) * c for w, c in zip(wanted, self.chunk, strict=True))
        return x, y, z

    def frame_components(self, section: Section) -> dict[str, object]:
        """What a record keeps of boxes and blocks."""
        return {
            "resolution": list(self.config.resolution),
            "frame": [list(self.frame.start), list(self.frame.stop)],
            "bounds": [list(self.region.start), list(self.region.stop)],
            "block": list(self.grid(section).block_shape),
        }

    # --- other inputs ---------------------------------------------------------------------------

    @functools.cached_property
    def model(self) -> ModelBundle:
        """The model bundle of the `detect` stage."""
        from cnapse.detection.checkpoint import load_bundle

        return load_bundle(self.config.detect.model)

    @property
    def has_cells(self) -> bool:
        """Whether there are cells to assign synapses to."""
        return self.config.layers.cells is not None

    def part_count(self) -> int | None:
        """Number of parts, if ids are raster indices; imported ids may be anything: None."""
        if self.first_layer == "synapses":
            return None
        return ((self.frame.voxels - 1) >> PART_BITS) + 1

    def layer_identity(self, name: LayerName) -> dict[str, object]:
        """What a record keeps of an input layer: where it is, and how the scale read is stored."""
        section = self.given(name)
        if section is None:
            return {}
        # Not the whole info: meshes and mips may be added to a layer without touching its voxels.
        layer = self.layer(name)
        stored = {"scale": layer.info["scales"][layer.mip], "data_type": layer.info["data_type"]}
        digest = hashlib.sha256(canonical_json(stored)).hexdigest()
        return {**section.model_dump(), "info": digest}

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
