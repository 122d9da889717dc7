"""What each stage will read, write and ask of the store, from the run's boxes alone.

What depends on voxels is counted exactly: tasks, voxels, chunks of layers. What depends on synapses
is expected, from a `Tissue`: records, tables, cutouts. Requests of each worker for the ``info`` of
its layers come on top, a few a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnapse_tasks import pyramid
from cnapse_tasks.planning.memory import memory_of
from cnapse_tasks.planning.requests import Counted, Requests
from cnapse_tasks.planning.scene import Scene
from cnapse_tasks.planning.stage_loads import STAGE_LOADS
from cnapse_tasks.planning.tissue import Scatter, Tissue
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost, Stage

__all__ = ["OF_A_TASK", "Load", "load_of"]

OF_A_TASK = Requests(get=3, put=2, delete=1)
"""Its record: is it done, is somebody at it, how often was it begun; note that, note that it is."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one stage will do.

    Parameters
    ----------
    stage : str
    tasks : int
    voxels : int
        As `cnapse run --dry-run` counts them: read, with halos.
    bytes_read, bytes_written : float
        Of voxels, before compression.
    requests : Requests
    files : float
        That stay after the stage: its data, a record for each task, and what it depends on.
    memory_bytes : float
        Of one worker.
    work : mapping of str to float
        What time goes with, by unit: ``voxel``, ``synapse``, ``block``, ``task``...
    predicted : int
        Voxels that `detect` gives a probability.
    on_gpu : bool
    """

    stage: str
    tasks: int
    voxels: int
    bytes_read: float
    bytes_written: float
    requests: Requests
    files: float
    memory_bytes: float
    work: Mapping[str, float]
    predicted: int = 0
    on_gpu: bool = False


def load_of(stage: Stage, run: Run, tissue: Tissue) -> Load:
    """What a stage of a run will do.

    Stages that are not known here are given by their `cost` alone.
    """
    scene = Scene(run, Scatter(tissue, run.region))
    counted = STAGE_LOADS.get(stage.name)
    if counted is None:
        cost: Cost = stage.module.cost(run)
        data = Counted(
            cost.voxels,
            Requests(),
            {"voxel": float(cost.voxels)},
            bytes_read=cost.bytes_read,
            bytes_written=cost.bytes_written,
        )
        tasks = cost.tasks or 1
    else:
        tasks, data = counted(scene)
    records = OF_A_TASK.times(tasks)
    return Load(
        stage=stage.name,
        tasks=tasks,
        voxels=data.voxels,
        bytes_read=data.bytes_read,
        bytes_written=data.bytes_written,
        requests=data.requests + records,
        files=data.requests.put + tasks + 1 + _of_layers(run, stage.name),
        memory_bytes=memory_of(stage.name, run, data.block.largest if data.block else (0, 0, 0)),
        work={**data.work, "task": float(tasks)},
        predicted=data.predicted,
        on_gpu=stage.name == "detect" and run.config.detect.device.startswith("cuda"),
    )


def _of_layers(run: Run, stage: str) -> int:
    """Info and provenance of each layer that a stage creates."""
    made = {"detect": 1, "relabel": 1, "shard": len(pyramid.made_layers(run))}
    return 2 * made.get(stage, 0)
