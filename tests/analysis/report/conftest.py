"""A finished run written by hand, whose names would break a careless page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnapse.geometry import Box
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag, empty_table, write_table
from cnapse.volumes.writer import create_layer

BOUNDS = Box.from_shape((96, 96, 4), (4.0, 4.0, 50.0))
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
CONFIG = """
output = "out"
resolution = [4, 4, 50]
[layers]
image = "image"
cells = "cells"
[detect]
model = "phantom"
[label]
threshold = 0.25
"""


def _row(schema: Any, **values: Any) -> dict[str, Any]:
    row = {c.name: "" if c.dtype == "str" else 0 for c in schema.columns}
    assert not set(values) - set(row)
    return {**row, **values}


def _synapse(number: int, **values: Any) -> dict[str, Any]:
    start = {"start_x": 40, "start_y": 40, "start_z": 1, "stop_x": 56, "stop_y": 46, "stop_z": 2}
    place = {"x_pos": 190.0, "y_pos": 170.0, "z_pos": 75.0}
    return _row(SYNAPSES, syn_id=number, sections=1, voxels=96, **start, **place, **values)


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three synapses, one of them doubtful, one without a partner."""
    border = int(SynapseFlag.BORDER)
    synapses = [
        _synapse(5, pre=HOSTILE, pre_id=11, size=3e5, n_partners=2, doubt=0.1, link="javascript:0"),
        _synapse(6, pre="RIS", pre_id=12, size=1e5, n_partners=1, doubt=0.9, flags=border),
        _synapse(7, pre="", pre_id=0, size=2e5, n_partners=0, doubt=0.5, doubts="no cell",
                 flags=border | int(SynapseFlag.NO_PRESYNAPTIC_CELL), link="https://v.example/#!7"),
    ]  # fmt: skip

    def partner(syn: int, pre: str, pre_id: int, post: str, post_id: int, share: float) -> Any:
        cells = {"pre": pre, "pre_id": pre_id, "post": post, "post_id": post_id}
        place = {"post_x": 200.0, "post_y": 190.0, "post_z": 75.0}
        return _row(PARTNERS, syn_id=syn, **cells, share=share, size=share * 3e5, **place)

    partners = [
        partner(5, HOSTILE, 11, "RIS", 12, 0.75),
        partner(5, HOSTILE, 11, "13", 13, 0.25),
        partner(6, "RIS", 12, HOSTILE, 11, 1.0),
    ]
    return pd.DataFrame(synapses), pd.DataFrame(partners)


def write_run(folder: Path, synapses: pd.DataFrame, partners: pd.DataFrame) -> Path:
    """Write tables and a cnapse.toml; where that is."""
    for schema, table in ((SYNAPSES, synapses), (PARTNERS, partners)):
        write_table(table, folder / "out" / "tables" / schema.name / "part-0.parquet", schema)
    (folder / "cnapse.toml").write_text(CONFIG)
    return folder / "cnapse.toml"


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cnapse.toml of a run with layers."""
    # Ruff and browsers alike take a folder of this name.
    folder = tmp_path_factory.mktemp("run & <b>")
    cells = np.zeros(BOUNDS.shape, np.uint64, order="F")
    cells[:48, :42], cells[48:, :42], cells[:, 46:] = 11, 12, 13
    synapses = np.zeros(BOUNDS.shape, np.uint64, order="F")
    synapses[40:56, 40:46, 1] = 5
    image = np.random.default_rng(0).integers(90, 160, BOUNDS.shape).astype(np.uint8)
    layers = (("image", image), ("cells", cells), ("out/synapses", synapses))
    for name, array in layers:
        kind = "image" if name == "image" else "segmentation"
        writer = create_layer(
            folder / name, kind=kind, dtype=array.dtype, bounds=BOUNDS, chunk_size=(96, 96, 4)
        )
        writer.write(np.asfortranarray(array), BOUNDS)
    return write_run(folder, *tables())


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """Write the run without its layers; first some values of the partners are changed."""

    def write(changes: Mapping[tuple[int, str], object] | None = None) -> Path:
        synapses, partners = tables()
        for (row, column), value in (changes or {}).items():
            partners.loc[row, column] = value
        return write_run(tmp_path, synapses, partners)

    return write


@pytest.fixture
def empty_run(tmp_path: Path) -> Path:
    """The cnapse.toml of a run that found nothing."""
    return write_run(tmp_path, empty_table(SYNAPSES), empty_table(PARTNERS))
