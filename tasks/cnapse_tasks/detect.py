"""Image to probability, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnapse.checksums import crcs_as_text
from cnapse.geometry import Box, Grid, format_resolution
from cnapse.volumes.channels import ChannelsWriter, create_channels
from cnapse_tasks.intact import KEY as CHECKSUMS
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost


def components(run: Run) -> Mapping[str, object]:
    """The image, the model and what counts."""
    section = run.config.detect
    chosen: dict[str, object] = {
        "augment": section.augment,
        "compile": section.compile,
        "tile": list(run.tiled_model.tile),
        "mask": run.layer_identity("mask"),
    }
    unlike = {"augment": "none", "compile": False, "tile": list(run.model.tile), "mask": {}}
    return {
        "image": run.layer_identity("image"),
        "model": run.model.digest,
        "precision": section.precision,
        "device": section.device.partition(":")[0],
        "batch": section.batch if section.precision != "float32" else None,
        "zero_is_missing": section.zero_is_missing,
        # Only what differs from how earlier versions ran: their records stay valid.
        **{name: value for name, value in chosen.items() if value != unlike[name]},
        **run.storage_components("probability"),
        **run.frame_components("detect"),
    }


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(run.grid("detect")))


def cost(run: Run) -> Cost:
    """Each block reads its halo, too."""
    from cnapse.detection.inference import read_box

    grid = run.grid("detect")
    read = sum(read_box(block.write, run.frame, run.tiled_model).voxels for block in grid)
    return Cost(len(grid), read, read, run.frame.voxels)


def prepare(run: Run) -> None:
    """Create the probability layer, with a channel for each class of the model.

    Raises
    ------
    ConfigError
        If the model was trained on voxels of quite another size, lacks the class that objects are
        made of, or cannot be run as the configuration says.
    FormatError
        If the image is not uint8.
    """
    from cnapse.detection.tta import check_augmentation
    from cnapse.detection.volume import check_pixels, check_resolution

    section = run.config.detect
    working = run.config.resolution
    check_pixels(run.layer_path("image"), run.layer("image").dtype)
    check_resolution(
        run.model,
        section.model,
        working,
        f"the run works at {format_resolution(working)}: set resolution to a scale near the "
        "model's",
    )
    check_augmentation(section.augment, working)
    run.made_channel()
    if len(run.tiled_model.classes) == 1:
        run.create_output("probability")
    else:
        _create_channels(run)


def forget(run: Run) -> None:
    """Take away the layer: other parameters may give it other bounds."""
    run.output.delete_folder("probability")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Predict one block; voxels outside of the bounds get 0.

    Of a block that is some chunks deep, one is predicted while the next is read and the one before
    is written.
    """
    from cnapse.detection.pipeline import overlapped

    block = run.grid("detect")[index].write
    slabs = Grid(block, (*block.shape[:2], run.chunk[2]))
    task = _Task(run)
    overlapped((slab.write for slab in slabs), task.read, task.compute, task.write)
    # Slabs are one chunk deep, so that their chunks follow each other as in the block.
    return {
        "voxels": block.voxels,
        "path": task.took,
        CHECKSUMS: crcs_as_text(task.checksums),
    }


@dataclass(frozen=True, slots=True)
class _Read:
    """The part of a slab in which anything may count, its image with the halo, and its mask."""

    inside: Box
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_] | None


class _Task:
    """What is done to a slab of a block."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = run.tiled_model
        self.classes = len(self.model.classes)
        self.image = run.layer("image")
        self.checksums: list[int] = []
        self.writer = run.writer("probability") if self.classes == 1 else _create_channels(run)

    @property
    def took(self) -> str:
        """Which path was taken."""
        from cnapse.detection.backends import engine_of

        section = self.run.config.detect
        return engine_of(
            self.model,
            section.precision,
            section.device,
            compiled=section.compile,
            augmentation=section.augment,
        ).took

    def read(self, slab: Box) -> _Read | None:
        """The image with its halo, and the mask; None if nothing of the slab counts."""
        from cnapse.detection.inference import read_box

        inside = slab.intersection(self.run.region)
        if inside.empty:
            return None
        mask = self.run.read_mask(inside)
        if mask is not None and not mask.any():
            return None
        wide = read_box(inside, self.run.frame, self.model)
        return _Read(inside, self.image.read(wide, pad="mirror"), mask)

    def compute(self, slab: Box, found: _Read | None) -> npt.NDArray[np.uint8]:
        """The slab's probability, shape (x, y, z), and classes where there are several."""
        from cnapse.detection.inference import detect_block

        shape = slab.shape if self.classes == 1 else (*slab.shape, self.classes)
        probability = np.zeros(shape, np.uint8, order="F")
        if found is None:
            return probability
        section = self.run.config.detect
        probability[found.inside.slices(slab)] = detect_block(
            found.image,
            found.inside,
            self.run.frame,
            self.model,
            precision=section.precision,
            device=section.device,
            batch=section.batch,
            zero_is_missing=section.zero_is_missing,
            mask=found.mask,
            augment=section.augment,
            compiled=section.compile,
        )
        return probability

    def write(self, slab: Box, probability: npt.NDArray[np.uint8]) -> None:
        """Write the slab's chunks."""
        self.checksums += self.writer.write(probability, slab)


def _create_channels(run: Run) -> ChannelsWriter:
    """The layer of several classes, made if it is not there."""
    return create_channels(
        run.layer_path("probability"),
        bounds=run.frame,
        chunk_size=run.chunk,
        names=run.model.classes,
    )
