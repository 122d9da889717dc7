"""Tables of synapses made up for the tests of the review."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.geometry import Box
from cnapse.runs import RunData, open_run
from cnapse.tables import PARTNERS, SYNAPSES, filled, validate, write_table
from cnapse.volumes.writer import create_layer

Tables = tuple[pd.DataFrame, pd.DataFrame]


def made_up(n: int, seed: int = 0, *, huge_ids: bool = False) -> Tables:
    """``synapses`` and ``partners``: ties, unknown values and shared cells among them."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, n + 1)).astype(np.uint64)
    if huge_ids:
        ids += np.uint64(2**64 - 1 - n)
    voxels = rng.integers(5, 60, n)
    start = rng.integers(0, 400, (n, 3))
    synapses = pd.DataFrame(
        {
            "syn_id": ids,
            "pre": [f'<b>"{i % 7}"\n' for i in range(n)],
            "pre_id": rng.integers(0, 6, n).astype(np.uint64),
            "size": voxels * 800.0,
            "voxels": voxels,
            "sections": rng.integers(1, 9, n),
            "flags": rng.integers(0, 512, n),
            "mean_probability": np.where(rng.random(n) < 0.1, np.nan, rng.random(n).round(1)),
            "doubt": np.where(rng.random(n) < 0.1, np.nan, rng.random(n).round(1)),
            "doubts": "lost 0.50",
            "n_partners": rng.integers(0, 4, n),
        }
        | {f"{axis}_pos": rng.random(n) * 9000 for axis in "xyz"}
        | {f"start_{axis}": start[:, i] for i, axis in enumerate("xyz")}
        | {f"stop_{axis}": start[:, i] + 9 for i, axis in enumerate("xyz")}
    )
    pairs = 2 * n
    partners = pd.DataFrame(
        {
            "syn_id": rng.choice(ids, pairs) if n else np.empty(0, np.uint64),
            "post_id": rng.integers(1, 9, pairs).astype(np.uint64),
        }
    )
    return (
        validate(filled(synapses, SYNAPSES), SYNAPSES),
        validate(filled(partners, PARTNERS), PARTNERS),
    )


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    return made_up


@dataclass(frozen=True)
class Reviewed:
    """A finished run on disk: an image, and six objects in rows of 16 x 20 x 3 voxels."""

    config: Path
    run: RunData
    image: np.ndarray
    objects: np.ndarray
    box: Box


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory) -> Reviewed:
    folder = tmp_path_factory.mktemp("reviewed")
    box = Box.from_shape((120, 100, 12), (4, 4, 50), (10, -20, 5))
    image = np.random.default_rng(0).integers(1, 256, box.shape).astype(np.uint8)
    objects = np.zeros(box.shape, np.uint64)
    rows = []
    for i in range(6):
        x, y, z = 5 + 38 * (i % 3), 10 + 50 * (i // 3), 2 + i
        objects[x : x + 16, y : y + 20, z : z + 3] = 2**63 + i
        start = np.array([x, y, z]) + box.start
        middle = (start + np.array([8.5, 10.5, 1.5])) * box.resolution
        rows.append(
            {"syn_id": 2**63 + i, "size": 960 * 800.0, "sections": 3, "doubt": i / 10}
            | {f"{axis}_pos": middle[a] for a, axis in enumerate("xyz")}
            | {f"start_{axis}": start[a] for a, axis in enumerate("xyz")}
            | {f"stop_{axis}": start[a] + (16, 20, 3)[a] for a, axis in enumerate("xyz")}
        )
    for name, array in (("image", image), ("synapses", objects)):
        writer = create_layer(
            folder / name, kind="image" if name == "image" else "segmentation",
            dtype=array.dtype, bounds=box, chunk_size=(64, 64, 6),
        )  # fmt: skip
        writer.write(array, box)
    synapses = filled(pd.DataFrame(rows).astype({"syn_id": "uint64"}), SYNAPSES)
    for name, table, schema in (
        ("synapses", synapses, SYNAPSES), ("partners", filled(pd.DataFrame(), PARTNERS), PARTNERS),
    ):  # fmt: skip
        write_table(validate(table, schema), folder / f"run/tables/{name}/p.parquet", schema)
    config = folder / "cnapse.toml"
    config.write_text(
        'output = "run"\nresolution = [4, 4, 50]\n'
        '[layers]\nimage = "image"\nsynapses = "synapses"\n'
    )
    return Reviewed(config, open_run(config), image, objects, box)
