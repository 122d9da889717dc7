"""The stages: their order, what each needs, and what its results depend on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from cnapse.errors import ConfigError
from cnapse.store import canonical_json
from cnapse_tasks.ledger import Ledger, stage_key
from cnapse_tasks.run import Run

__all__ = ["ORDER", "STAGES", "Cost", "Stage", "StageModule", "components_of", "stages_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage will read and write, before compression."""

    tasks: int | None
    """None where it is known only after the stage before."""
    voxels: int
    bytes_read: int
    bytes_written: int


class StageModule(Protocol):
    """What a module of a stage offers."""

    def components(self, run: Run) -> Mapping[str, object]:
        """All that the results depend on, but for the stages before."""

    def indices(self, run: Run) -> Sequence[int]:
        """The tasks; the stages before are complete when this is asked."""

    def cost(self, run: Run) -> Cost:
        """What the stage will read and write."""

    def prepare(self, run: Run) -> None:
        """Create the layers that the tasks write to."""

    def execute(self, run: Run, index: int) -> Mapping[str, object]:
        """Do one task, and give some facts for its record."""

    # Some also have ``forget(run)``, which takes away what they made in the output, and
    # ``finish(run)``, called whenever all tasks are done: it may find its work done already.


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Parameters
    ----------
    name : str
    version : int
        Of the algorithm: raised when its results change.
    upstream : tuple of str
        The stages whose results it reads.
    """

    name: str
    version: int
    upstream: tuple[str, ...]

    @property
    def module(self) -> StageModule:
        """The module that does it, imported on first use: torch only where it is needed."""
        return cast("StageModule", importlib.import_module(f"cnapse_tasks.{self.name}"))

    def ledger(self, run: Run) -> Ledger:
        """The records of the stage in a run."""
        return Ledger(run.store, self.name)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("detect", 1, ()),
        Stage("label", 1, ("detect",)),
        Stage("join", 1, ("label",)),
        Stage("stitch", 1, ("label", "join")),
        Stage("relabel", 1, ("detect", "label", "join", "stitch")),
        Stage("measure", 2, ("detect", "relabel")),
        Stage("tabulate", 1, ("measure",)),
        Stage("assign", 2, ("relabel", "tabulate")),
        Stage("gather", 2, ("tabulate", "assign")),
        Stage("export", 1, ("gather",)),
        Stage("properties", 1, ("gather",)),
        Stage("survey", 1, ("gather",)),
        Stage("annotate", 1, ("survey",)),
        Stage("fuse_annotations", 1, ("annotate",)),
        Stage("pyramid", 2, ("detect", "relabel")),
        Stage("shard", 1, ("detect", "relabel", "pyramid")),
        Stage("mesh_synapses", 1, ("relabel", "pyramid")),
        Stage("fuse_synapses", 1, ("mesh_synapses",)),
        Stage("mesh_cells", 1, ()),
        Stage("fuse_cells", 1, ("mesh_cells",)),
        Stage("skeletonize_cells", 1, ()),
        Stage("fuse_skeletons", 1, ("skeletonize_cells",)),
    )
}

ORDER = tuple(STAGES)

_MESHED = {f"{verb}_{layer}": layer for verb in ("mesh", "fuse") for layer in ("cells", "synapses")}


def stages_of(run: Run) -> list[Stage]:
    """The stages of a run: those after the layer it starts from, as far as there are cells.

    `join` is only there if the blocks are many; `shard`, meshes and skeletons if they are wanted.
    """
    skipped: set[str] = set()
    if run.first_layer in ("probability", "synapses"):
        skipped |= {"detect"}
    if run.first_layer == "synapses":
        skipped |= {"label", "join", "stitch", "relabel"}
    elif not _has_superblocks(run):
        skipped |= {"join"}
    if not run.config.storage.sharded:
        skipped |= {"shard"}
    if not run.has_cells:
        skipped |= {"measure", "tabulate", "assign", "gather", "export"}
    if not (run.has_cells and run.config.viewer.properties):
        skipped |= {"properties"}
    if not (run.has_cells and run.config.viewer.annotations):
        skipped |= {"survey", "annotate", "fuse_annotations"}
    skipped |= {name for name, layer in _MESHED.items() if not _is_meshed(run, layer)}
    if run.config.meshes is None or not run.config.meshes.skeletons or not run.has_cells:
        skipped |= {"skeletonize_cells", "fuse_skeletons"}
    return [stage for name, stage in STAGES.items() if name not in skipped]


def _is_meshed(run: Run, layer: str) -> bool:
    section = run.config.meshes
    return section is not None and layer in section.layers and (run.has_cells or layer != "cells")


def _has_superblocks(run: Run) -> bool:
    # Modules of stages import this one.
    needed: bool = importlib.import_module("cnapse_tasks.join").is_needed(run)
    return needed


def components_of(run: Run) -> dict[str, dict[str, object]]:
    """What each stage of a run depends on, with the keys of the stages before it."""
    found: dict[str, dict[str, object]] = {}
    for stage in stages_of(run):
        own = {
            "stage": stage.name,
            "version": stage.version,
            **stage.module.components(run),
            "upstream": {name: stage_key(found[name]) for name in stage.upstream if name in found},
        }
        # As JSON gives them back, so that what was stored compares equal.
        found[stage.name] = json.loads(canonical_json(own))
    return found


def stage_named(name: str, run: Run) -> Stage:
    """A stage of a run by name.

    Raises
    ------
    ConfigError
        If there is no such stage, or this run does not have it.
    """
    names = [stage.name for stage in stages_of(run)]
    if name not in names:
        word = "is not part of this run" if name in STAGES else "is no stage"
        raise ConfigError(f"{name!r} {word}; its stages are {', '.join(names)}")
    return STAGES[name]
