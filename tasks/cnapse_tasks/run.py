"""One run: its configuration, layers, boxes and grids, as every stage needs them.

A run is rebuilt from its configuration on each worker; nothing here is written.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from cnapse.config import Config, StorageSection
from cnapse.errors import ConfigError
from cnapse.geometry import Box, Grid, Triple
from cnapse.runs import LayerName, RunData
from cnapse.store import Store, canonical_json, local_path
from cnapse.volumes.channels import channel_names, chosen_channel
from cnapse.volumes.writer import LayerWriter, create_layer, open_writer
from cnapse_tasks.intact import ChunkCheck
from cnapse_tasks.ledger import Ledger

if TYPE_CHECKING:
    from cnapse.detection.checkpoint import ModelBundle

__all__ = ["LAYER_MAKERS", "PART_BITS", "LayerName", "Run", "Section"]

Section = Literal["detect", "label", "measure", "assign"]

# Compute blocks that keep a worker under 2 GB: labels, cells and probability of 16.8 Mvox.
_DEFAULT_BLOCK: Triple = (512, 512, 64)
# So many sections of a tile take a core a minute or so.
_DETECTED_SECTIONS = 16
# Where tiles and chunks meet no earlier, a block cuts tiles.
_MOST_TILES = 8
# Ids are 1 + raster indices: a part of a table covers 2^35 of them, some 30,000 synapses.
PART_BITS = 35
LAYER_MAKERS: Mapping[str, tuple[str, Section]] = {
    "probability": ("detect", "detect"),
    "synapses": ("relabel", "label"),
}
"""For each layer that a run can make: the stage that does, and the section of its blocks."""


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
        self._checks: dict[LayerName, ChunkCheck] = {}

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
            encoding=getattr(self.config.storage, name),
            exist_ok=True,
        )

    def storage_components(self, name: Literal["probability", "synapses"]) -> dict[str, object]:
        """What a record keeps of how a layer is stored, where it is not the default."""
        encoding: str = getattr(self.config.storage, name)
        default: str = getattr(StorageSection(), name)
        return {} if encoding == default else {"encoding": encoding}

    def writer(self, name: Literal["probability", "synapses"]) -> LayerWriter:
        """The writer of a layer that `create_output` made."""
        if name not in self._writers:
            self._writers[name] = open_writer(self.layer_path(name))
        return self._writers[name]

    def check_chunks(self, name: LayerName, box: Box) -> None:
        """Check chunks of a layer that this run makes, where another program is to read them.

        Raises
        ------
        DamagedFileError
            If one is missing or cut.
        RunStateError
            If one is not what was written.
        """
        check = self._check_of(name)
        if check is not None:
            check(0, box)

    def _check_of(self, name: LayerName) -> ChunkCheck | None:
        path = self.layer_path(name)
        if self.given(name) is not None or name not in LAYER_MAKERS or local_path(path) is None:
            return None
        if name not in self._checks:
            stage, section = LAYER_MAKERS[name]
            self._checks[name] = ChunkCheck(path, Ledger(self.store, stage), self.grid(section))
        return self._checks[name]

    # --- boxes ----------------------------------------------------------------------------------

    def grid(self, section: Section) -> Grid:
        """The blocks of a stage: anchored to the frame, multiples of the storage chunks."""
        block = self.config.block_of(section) or self._default_block(section)
        if section in ("detect", "label") and any(
            b % c for b, c in zip(block, self.chunk, strict=True)
        ):
            fitting = [-(-b // c) * c for b, c in zip(block, self.chunk, strict=True)]
            raise ConfigError(
                f"block {list(block)} of {section} is no multiple of the layers' chunks "
                f"{list(self.chunk)}, so two tasks would write the same chunk: use {fitting}"
            )
        return Grid(self.frame, self._whole_tiles(block) if section == "detect" else block)

    def _default_block(self, section: str) -> Triple:
        wanted = _DEFAULT_BLOCK
        if section == "detect":
            wanted = (1, 1, _DETECTED_SECTIONS)  # and as many pixels as whole tiles have
        x, y, z = (max(1, -(-w // c)) * c for w, c in zip(wanted, self.chunk, strict=True))
        return x, y, z

    def _whole_tiles(self, block: Triple) -> Triple:
        """A block of whole tiles: one that cuts them would have them predicted more than once."""
        x, y = (
            _tiles_of(*sides)
            for sides in zip(
                block, self.tiled_model.tile, self.chunk, self.frame.shape, strict=False
            )
        )
        return x, y, block[2]

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

    @functools.cached_property
    def tiled_model(self) -> ModelBundle:
        """The model with the tile that the run takes: the configuration's, else one that fits."""
        from cnapse.detection.inference import shared_tile, with_tile

        tile = self.config.detect.tile
        return with_tile(self.model, tile or shared_tile(self.model, self.frame, self.chunk))

    @property
    def has_cells(self) -> bool:
        """Whether there are cells to assign synapses to."""
        return self.config.layers.cells is not None

    def part_count(self) -> int | None:
        """Number of parts, if ids are raster indices; imported ids may be anything: None."""
        if self.first_layer == "synapses":
            return None
        return ((self.frame.voxels - 1) >> PART_BITS) + 1

    def made_channel(self) -> int:
        """The channel of the run's own probability that objects are made of.

        Raises
        ------
        ConfigError
            If the model has no such class.
        """
        classes = self.model.classes
        names = classes if len(classes) > 1 else ()
        where = f"model {self.config.detect.model}"
        return chosen_channel(
            names, len(classes), self.config.label.channel, where, "label.channel"
        )

    def layer_identity(self, name: LayerName) -> dict[str, object]:
        """What a record keeps of an input layer: where it is, and how the scale read is stored.

        Of the probability also which channel is taken, where there are several.
        """
        section = self.given(name)
        if section is None:
            own = name == "probability" and self.first_layer == "image"
            return {"channel": self.made_channel()} if own and len(self.model.classes) > 1 else {}
        # Not the whole info: meshes and mips may be added to a layer without touching its voxels.
        layer = self.layer(name, channel=0 if name == "direction" else None)
        stored = {"scale": layer.info["scales"][layer.mip], "data_type": layer.info["data_type"]}
        digest = hashlib.sha256(canonical_json(stored)).hexdigest()
        several = name == "probability" and int(layer.info.get("num_channels", 1)) > 1
        channel: dict[str, object] = {}
        if several:
            names = list(channel_names(layer.info))
            channel = {"channel": self.probability_channel, "channels": names}
        return {**section.model_dump(), "info": digest, **channel}


def _tiles_of(block: int, tile: int, chunk: int, size: int) -> int:
    """The side of a block out to whole tiles and chunks; where these never meet, to chunks."""
    if size <= tile:
        return -(-size // chunk) * chunk
    both = math.lcm(tile, chunk)
    step = both if both <= _MOST_TILES * tile else chunk
    return -(-max(block, tile) // step) * step
