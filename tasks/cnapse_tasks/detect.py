"""Image to probability, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnapse.errors import ConfigError
from cnapse.geometry import format_resolution
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

# 4 and 4.6 nm look alike to a network; 4 and 8 nm do not.
_OTHER_SIZE = 1.6


def components(run: Run) -> Mapping[str, object]:
    """The image, the model and what counts."""
    section = run.config.detect
    return {
        "image": run.layer_identity("image"),
        "model": run.model.digest,
        "precision": section.precision,
        "device": section.device.partition(":")[0],
        "batch": section.batch if section.precision != "float32" else None,
        "zero_is_missing": section.zero_is_missing,
        **run.frame_components("detect"),
    }


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(run.grid("detect")))


def cost(run: Run) -> Cost:
    """Each block reads its halo, too."""
    from cnapse.detection.inference import read_box

    grid = run.grid("detect")
    read = sum(read_box(block.write, run.frame, run.model).voxels for block in grid)
    return Cost(len(grid), read, read, run.frame.voxels)


def prepare(run: Run) -> None:
    """Create the probability layer.

    Raises
    ------
    ConfigError
        If the model was trained on voxels of quite another size.
    """
    trained, wanted = run.model.resolution, run.config.resolution
    if any(max(a / b, b / a) > _OTHER_SIZE for a, b in zip(trained, wanted, strict=True)):
        raise ConfigError(
            f"model {run.config.detect.model} was trained at {format_resolution(trained)}, the run "
            f"works at {format_resolution(wanted)}: set resolution to a scale near the model's"
        )
    run.create_output("probability")


def forget(run: Run) -> None:
    """Take away the layer: other parameters may give it other bounds."""
    run.output.delete_folder("probability")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Predict one block; voxels outside of the bounds get 0."""
    from cnapse.detection.inference import detect_block, read_box

    write = run.grid("detect")[index].write
    inside = write.intersection(run.region)
    probability = np.zeros(write.shape, np.uint8, order="F")
    if not inside.empty:
        section = run.config.detect
        read = read_box(inside, run.frame, run.model)
        image = run.layer("image").read(read, pad="mirror")
        probability[inside.slices(write)] = detect_block(
            image,
            inside,
            run.frame,
            run.model,
            precision=section.precision,
            device=section.device,
            batch=section.batch,
            zero_is_missing=section.zero_is_missing,
        )
    run.writer("probability").write(probability, write)
    return {"voxels": write.voxels}
