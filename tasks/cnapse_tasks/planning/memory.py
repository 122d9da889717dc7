"""Memory of one worker, from the boxes that a task holds.

Fitted to what ``benchmarks/memory.py`` measures (highest resident memory of worker processes) on
blocks of 4 to 67 million voxels; docs/planning.md compares the two.
"""

from __future__ import annotations

import math

from cnapse.geometry import Triple
from cnapse_tasks.run import Run

__all__ = ["memory_of"]

# Python with its libraries, and bytes for each voxel of the largest box.
_BASE = 330e6
_PER_VOXEL = {"label": 10.2, "relabel": 18.2, "measure": 17.5, "assign": 30.0, "pyramid": 9.5}
# Both rows and their links while a part of the tables is made.
_PER_SYNAPSE = 8e3
# Tensors of the first width that are held at once: 0.46 kB a pixel with the published 16.
_TENSORS = 7.2
_FLOAT32 = 4
_NETWORK_BASE = 410e6
# Read ahead, computed and written at the same time.
_SLABS = 3


def memory_of(stage: str, run: Run, box: Triple, synapses: float = 0.0) -> float:
    """Bytes that one worker takes at most.

    Parameters
    ----------
    stage : str
    run : Run
    box : (x, y, z)
        What a task holds at once, in voxels.
    synapses : float
        How many rows a task holds at once.
    """
    if stage == "detect":
        return _of_network(run)
    return _BASE + _PER_VOXEL.get(stage, 0.0) * math.prod(box) + _PER_SYNAPSE * synapses


def _of_network(run: Run) -> float:
    section = run.config.detect
    model = run.tiled_model
    widths = model.options.get("widths", (16,))
    pixels = math.prod(t + 2 * model.halo for t in model.tile)
    batch = section.batch if section.device.startswith("cuda") else 1
    x, y = (b + 2 * model.halo for b in run.grid("detect").block_shape[:2])
    slabs = _SLABS * x * y * run.chunk[2]
    return _NETWORK_BASE + batch * pixels * _FLOAT32 * _TENSORS * float(widths[0]) + slabs
