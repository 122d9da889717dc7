"""Whether a run may write to its output: nothing of others is overwritten unasked."""

from __future__ import annotations

from cnapse.errors import ConfigError, LayerExistsError
from cnapse.runs import LAYER_KINDS, LayerName
from cnapse.store import cloud_path
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

__all__ = ["APPLIED", "check_output"]

APPLIED = ".cnapse/apply.json"
"""The record of `cnapse apply`, in the folder that it made."""

_TABLES = ("synapses.csv", "partners.csv")


def check_output(run: Run, *, redo: bool = False) -> None:
    """Refuse an output where something lies that no run has made.

    Parameters
    ----------
    run : Run
    redo : bool
        Whether layers and tables without the records of a run may be replaced.

    Raises
    ------
    ConfigError
        If the output is a layer that the run reads, or lies in one.
    LayerExistsError
        If it has layers or tables, but no records of a run; if `cnapse apply` made it.
    """
    output = cloud_path(run.config.output)
    for name in LAYER_KINDS:
        section = run.given(name)
        if section is not None:
            layer = cloud_path(section.path)
            if output == layer or output.startswith(f"{layer}/"):
                raise ConfigError(
                    f"output {run.config.output} lies in layers.{name}, {section.path}: give a "
                    "folder of its own"
                )
    # Read, not asked for: a bucket that refuses says why only in an answer with a body.
    if run.output.get(APPLIED) is not None:
        raise LayerExistsError(
            f"{run.config.output} has the corrections of `cnapse apply`, which a run would replace "
            "by what it computes: give another output"
        )
    if redo or any(stage.ledger(run).plan() is not None for stage in stages_of(run)):
        return
    layers: tuple[LayerName, ...] = ("probability", "synapses")
    made = [f"{name}/info" for name in layers if run.given(name) is None]
    found = [name for name in (*made, *_TABLES) if run.output.exists(name)]
    if found:
        raise LayerExistsError(
            f"{run.config.output} has {found[0].removesuffix('/info')} already, which no run made: "
            "give another output, or replace it with --redo"
        )
