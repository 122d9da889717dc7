"""Image to probability, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError
from cnapse.geometry import Box, Grid, format_resolution
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

if TYPE_CHECKING:
    from cnapse.detection.checkpoint import ModelBundle


def components(run: Run) -> Mapping[str, object]:
    """The image, the model and what counts."""
    section = run.config.detect
    chosen = {"augment": section.augment, "compile": section.compile, "tile": section.tile}
    unlike = {"augment": "none", "compile": False, "tile": None}
    return {
        "image": run.layer_identity("image"),
        "model": run.model.digest,
        "precision": section.precision,
        "device": section.device.partition(":")[0],
        "batch": section.batch if section.precision != "float32" else None,
        "zero_is_missing": section.zero_is_missing,
        # Only what differs from how earlier versions ran: their records stay valid.
        **{name: value for name, value in chosen.items() if value != unlike[name]},
        **run.frame_components("detect"),
    }


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(run.grid("detect")))


def cost(run: Run) -> Cost:
    """Each block reads its halo, too."""
    from cnapse.detection.inference import read_box

    grid = run.grid("detect")
    model = _model(run)
    read = sum(read_box(block.write, run.frame, model).voxels for block in grid)
    return Cost(len(grid), read, read, run.frame.voxels)


def prepare(run: Run) -> None:
    """Create the probability layer.

    Raises
    ------
    ConfigError
        If the model was trained on voxels of quite another size, has several classes, or cannot be
        run as the configuration says.
    """
    from cnapse.detection.tta import check_augmentation
    from cnapse.detection.volume import check_resolution

    section = run.config.detect
    working = run.config.resolution
    check_resolution(
        run.model,
        section.model,
        working,
        f"the run works at {format_resolution(working)}: set resolution to a scale near the "
        "model's",
    )
    if len(run.model.classes) != 1:
        raise ConfigError(
            f"model {section.model} has the classes {', '.join(run.model.classes)}, a run takes "
            "one: use `cnapse detect`, and the channel of the layer that it makes as probability"
        )
    check_augmentation(section.augment, working)
    _model(run)
    run.create_output("probability")


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
    return {"voxels": block.voxels, "path": task.took}


class _Task:
    """What is done to a slab of a block."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = _model(run)
        self.image = run.layer("image")
        self.writer = run.writer("probability")

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

    def read(self, slab: Box) -> npt.NDArray[np.uint8] | None:
        """The image with its halo; None if nothing of the slab counts."""
        from cnapse.detection.inference import read_box

        inside = slab.intersection(self.run.region)
        if inside.empty:
            return None
        return self.image.read(read_box(inside, self.run.frame, self.model), pad="mirror")

    def compute(self, slab: Box, image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
        """The slab's probability."""
        from cnapse.detection.inference import detect_block

        probability = np.zeros(slab.shape, np.uint8, order="F")
        if image is None:
            return probability
        section = self.run.config.detect
        inside = slab.intersection(self.run.region)
        probability[inside.slices(slab)] = detect_block(
            image,
            inside,
            self.run.frame,
            self.model,
            precision=section.precision,
            device=section.device,
            batch=section.batch,
            zero_is_missing=section.zero_is_missing,
            augment=section.augment,
            compiled=section.compile,
        )
        return probability

    def write(self, slab: Box, probability: npt.NDArray[np.uint8]) -> None:
        """Write the slab's chunks."""
        self.writer.write(probability, slab)


def _model(run: Run) -> ModelBundle:
    from cnapse.detection.inference import with_tile

    return with_tile(run.model, run.config.detect.tile)
