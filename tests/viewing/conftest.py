"""A finished run so small that it is written by hand: four cells, three synapses, both tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnapse.geometry import Box
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag, write_table
from cnapse.viewing.connections import Connections
from cnapse.volumes.writer import create_layer

RESOLUTION = (4.0, 4.0, 50.0)
BOUNDS = Box.from_shape((400, 360, 8), RESOLUTION, (100, 200, 30))
BIG = 2**63 + 5


def _row(schema: Any, **values: Any) -> dict[str, Any]:
    row = {c.name: "" if c.dtype == "str" else 0 for c in schema.columns}
    assert not set(values) - set(row)
    return {**row, **values}


def _synapse(syn_id: int, start: tuple[int, int, int], **values: Any) -> dict[str, Any]:
    """A synapse of 20 x 10 x 2 voxels; start counts from the bounds'."""
    first = [a + b for a, b in zip(start, BOUNDS.start, strict=True)]
    last = [a + n for a, n in zip(first, (20, 10, 2), strict=True)]
    x, y, z = ((a + n + 0.5) * h for a, n, h in zip(first, (10, 5, 1), RESOLUTION, strict=True))
    return _row(
        SYNAPSES,
        syn_id=syn_id,
        **dict(zip(("start_x", "start_y", "start_z"), first, strict=True)),
        **dict(zip(("stop_x", "stop_y", "stop_z"), last, strict=True)),
        x_pos=x,
        y_pos=y,
        z_pos=z,
        voxels=400,
        sections=2,
        **values,
    )


def _tables() -> Connections:
    synapses = pd.DataFrame(
        [
            _synapse(7, (190, 170, 3), pre="AVAL", pre_id=11, size=9e5, n_partners=2),
            _synapse(
                BIG,
                (40, 40, 1),
                pre="AVAL",
                pre_id=11,
                size=2e6,
                n_partners=1,
                flags=int(SynapseFlag.BORDER | SynapseFlag.NEAR_CUT),
            ),
            _synapse(9, (300, 300, 5), pre="14", pre_id=14, size=1e5, n_partners=0),
        ]
    )

    def partner(syn: int, name: str, cell: int, share: float, offset: float) -> dict[str, Any]:
        own = synapses[synapses["syn_id"] == syn].iloc[0]
        taken = {n: own[n] for n in ("syn_id", "pre", "pre_id", "x_pos", "y_pos", "z_pos")}
        place = {"post_x": own["x_pos"] + offset, "post_y": own["y_pos"] + 90.0}
        return _row(
            PARTNERS, **taken, post=name, post_id=cell, share=share, post_z=own["z_pos"], **place
        )

    partners = pd.DataFrame(
        [
            partner(7, "RIML", 12, 0.25, -90.0),
            partner(7, "$100 神経", 13, 0.75, 90.0),
            partner(BIG, "14", 14, 1.0, 0.0),
        ]
    )
    return Connections(synapses, partners)


def _layers() -> dict[str, np.ndarray]:
    shape = BOUNDS.shape
    rng = np.random.default_rng(5)
    cells = np.zeros(shape, dtype=np.uint64)
    cells[:198, :178], cells[202:, :178] = 11, 12
    cells[:198, 182:], cells[202:, 182:] = 13, 14
    synapses = np.zeros(shape, dtype=np.uint64)
    for label, (x, y, z) in ((7, (190, 170, 3)), (BIG, (40, 40, 1)), (9, (300, 300, 5))):
        synapses[x : x + 20, y : y + 10, z : z + 2] = label
    image = rng.integers(60, 200, shape).astype(np.uint8)
    image[synapses != 0] = 20
    probability = np.where(synapses != 0, 230, 10).astype(np.uint8)
    return {"image": image, "cells": cells, "synapses": synapses, "probability": probability}


CONFIG = """
output = "out"
resolution = [4, 4, 50]
[layers]
image = "image"
cells = "cells"
probability = "probability"
"""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run: cnapse.toml, layers, tables."""
    folder = tmp_path_factory.mktemp("finished")
    for name, array in _layers().items():
        where = folder / "out" / name if name == "synapses" else folder / name
        kind = "segmentation" if name in ("cells", "synapses") else "image"
        writer = create_layer(
            where, kind=kind, dtype=array.dtype, bounds=BOUNDS, chunk_size=(128, 128, 4)
        )
        writer.write(np.asfortranarray(array), BOUNDS)
    tables = _tables()
    for schema, table in ((SYNAPSES, tables.synapses), (PARTNERS, tables.partners)):
        write_table(table, folder / "out" / "tables" / schema.name / "part-0.parquet", schema)
    (folder / "cnapse.toml").write_text(CONFIG)
    public = CONFIG + '[link]\nimage = "gs://b/image"\ncells = "gs://b/cells"\n'
    (folder / "public.toml").write_text(public)
    return folder


@pytest.fixture(scope="session")
def connections(finished_run: Path) -> Connections:
    return Connections.read(f"file://{finished_run}/out")
