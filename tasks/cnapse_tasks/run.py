"""One run: its configuration, layers, boxes and grids, as every stage needs them.

A run is rebuilt from its configuration on each worker; nothing here is written.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Literal

from cnapse.config import Config
from cnapse.errors import ConfigError
from cnapse.geometry import Grid, Triple
from cnapse.runs import LayerName, RunData
from cnapse.store import Store, canonical_json
from cnapse.volumes.writer import LayerWriter, create_layer, open_writer

if TYPE_CHECKING:
    from cnapse.detection.checkpoint import ModelBundle

__all__ = ["PART_BITS", "LayerName", "Run", "Section"]

Section = Literal["detect", "label", "measure", "assign"]

# Compute blocks that keep a worker under 2 GB: labels, cells and probability of 16.8 Mvox.
_DEFAULT_BLOCK: Triple = (512, 512, 64)
# Ids are 1 + raster indices: a part of a table covers 2^35 of them, some 30,000 synapses.
PART_BITS = 35


class Run(RunData):
    """A configuration with its layers opened on demand, and what stages share.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.store = Store(config.output).child(".cnapse")
        self.output = Store(config.output)
        self._writers: dict[LayerName, LayerWriter] = {}

    def data(self, stage: str) -> Store:
        """What a stage hands to the next ones."""
        return self.store.child(f"{stage}/data")

    def create_output(self, name: Literal["probability", "synapses"]) -> None:
        """Create the layer that a stage writes: full bounds and chunks of the input."""
        create_layer(
            self.layer_path(name),
            kind="image" if name == "probability" else "segmentation",
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
        layer = self.layer(name, channel=0 if name == "direction" else None)
        stored = {"scale": layer.info["scales"][layer.mip], "data_type": layer.info["data_type"]}
        digest = hashlib.sha256(canonical_json(stored)).hexdigest()
        return {**section.model_dump(), "info": digest}
