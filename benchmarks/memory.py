"""Peak memory of the workers of a run on a volume of 4 GB, stage by stage.

    python benchmarks/memory.py --folder /tmp/memory [--detect-blocks 4]

The volume is a phantom repeated: 4096 x 4096 x 256 voxels, 4.3 GB of image. `detect` is run on some
of its blocks only (its memory depends on the block, and the whole takes an hour); all other stages
on everything, from the true probability.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from cnapse.config import Config
from cnapse.geometry import Box, Grid
from cnapse.phantom import Phantom, PhantomSpec
from cnapse.volumes.writer import create_layer
from cnapse_tasks.driver import Options, run_stages

_UNIT = (512, 512, 32)
_REPEATS = (8, 8, 8)
_RESOLUTION = (4.0, 4.0, 50.0)


class _Watch(threading.Thread):
    """Highest resident memory of this process's children, by stage."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stage = ""
        self.done = 0
        self.peak: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    def run(self) -> None:
        me = psutil.Process(os.getpid())
        while True:
            for child in me.children(recursive=True):
                try:
                    used = child.memory_info().rss
                except psutil.Error:
                    continue
                self.peak[self.stage] = max(self.peak.get(self.stage, 0), used)
            time.sleep(0.05)

    def begin(self, stage: str, total: int, done: int) -> None:
        self.stage, self._began = stage, time.monotonic()
        print(f"{stage}: {total - done} of {total} tasks", flush=True)

    def update(self, done: int) -> None:
        self.done = done

    def end(self) -> None:
        self.seconds[self.stage] = time.monotonic() - self._began


def make(folder: Path) -> None:
    """Write the layers, block by block."""
    if (folder / "cells/info").exists():
        return
    unit = Phantom(PhantomSpec(_UNIT, _RESOLUTION, seed=31)).render(
        Box.from_shape(_UNIT, _RESOLUTION)
    )
    shape = [n * r for n, r in zip(_UNIT, _REPEATS, strict=True)]
    bounds = Box.from_shape(shape, _RESOLUTION)
    layers = {
        "image": ("image", unit["image"]),
        "probability": ("image", np.where(unit["densities"] > 0, np.uint8(255), np.uint8(0))),
        "cells": ("segmentation", unit["cells"]),
    }
    for name, (kind, array) in layers.items():
        writer = create_layer(
            folder / name,
            kind=kind,
            dtype=array.dtype,
            bounds=bounds,
            chunk_size=(128, 128, 16),
            exist_ok=True,
        )
        for block in Grid(bounds, _UNIT):
            writer.write(array, block.write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--detect-blocks", type=int, default=4)
    options = parser.parse_args()
    make(options.folder)
    watch = _Watch()
    watch.start()
    base = {"resolution": _RESOLUTION}
    cells = f"file://{options.folder}/cells"
    probability = f"file://{options.folder}/probability"
    config = Config.from_dict(
        base
        | {
            "output": f"file://{options.folder}/run",
            "layers": {"probability": probability, "cells": cells},
        }
    )
    run_stages(config, Options(workers=2), watch)
    width = 512 * options.detect_blocks
    detect = Config.from_dict(
        base
        | {
            "output": f"file://{options.folder}/detect",
            "layers": {"image": f"file://{options.folder}/image"},
            "detect": {"model": "phantom"},
            "bounds": {"start": (1024, 1024, 0), "stop": (1024 + width, 1536, 16)},
        }
    )
    run_stages(detect, Options(workers=2, last="detect"), watch)
    for stage, peak in watch.peak.items():
        print(f"{stage:<10}{peak / 1e9:8.2f} GB {watch.seconds.get(stage, 0):8.1f} s")


if __name__ == "__main__":
    main()
