"""A finished run to correct, and decisions about it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.config import Config
from cnapse.geometry import Box
from cnapse.review.decisions import Decision, parse_decision
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse_tasks.correct import Done, Request, correct
from cnapse_tasks.run import Run


@dataclass(frozen=True)
class Finished:
    """A run, its tables and its labels."""

    config: Config
    synapses: pd.DataFrame
    partners: pd.DataFrame
    labels: np.ndarray
    box: Box

    @property
    def ids(self) -> list[int]:
        return self.synapses["syn_id"].tolist()

    def place(self, syn_id: int) -> tuple[float, float, float]:
        row = self.synapses.set_index("syn_id").loc[syn_id]
        return row["x_pos"], row["y_pos"], row["z_pos"]

    def voxels(self, syn_id: int) -> np.ndarray:
        """In raster order."""
        z, y, x = np.nonzero(syn_id == self.labels.T)
        return np.stack([x, y, z], axis=-1) + self.box.start

    def nm(self, voxel) -> list[float]:
        return [(float(v) + 0.5) * h for v, h in zip(voxel, self.box.resolution, strict=True)]

    def decide(self, action: str, syn_id: int, new: dict, **more) -> Decision:
        place = self.place(syn_id) if syn_id in self.ids else None
        about = {"syn_id": syn_id, "position_nm": place} if syn_id else {}
        given = {"reviewer": "Ada", "action": action, "new": new, **about, **more}
        return parse_decision(given)

    def cells(self, syn_id: int) -> dict:
        """The pipeline's answer, as the page sends it."""
        rows = self.partners[self.partners["syn_id"] == syn_id]
        listed = zip(rows["post_id"], rows["share"], strict=True)
        pre = int(self.synapses.set_index("syn_id").loc[syn_id, "pre_id"])
        posts = [{"post_id": str(p), "share": float(s)} for p, s in listed]
        return {"pre_id": str(pre), "partners": posts}

    def apply(self, decisions: list[Decision], out: Path, **request) -> Done:
        numbered = [d.model_copy(update={"id": n}) for n, d in enumerate(decisions, 1)]
        repaints = f"{self.config.output}/review/repaints"
        return correct(Run(self.config), numbered, Request(str(out), "", repaints, **request))


@pytest.fixture(scope="session")
def finished(tissue, tmp_path_factory, run_here) -> Finished:
    config = tissue.config(tmp_path_factory.mktemp("finished") / "out", assign={})
    run_here(config, last="export")
    run = Run(config)
    labels = open_layer(f"{config.output}/synapses", mip=0).read(tissue.box)
    return Finished(config, run.synapses, run.partners, labels, tissue.box)


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, str]]:
    """Hashes of all files of a folder."""

    def of(folder: Path) -> dict[str, str]:
        store = Store(folder)
        names = [name for name in store.names() if not name.endswith("provenance")]
        return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}

    return of
