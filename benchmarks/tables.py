"""From a table of partners of 10^7 rows to edges, matrices and answers: time and peak memory.

Beside it the same with pandas: the table in memory, `groupby`. Each figure is of a process of its
own, which reads the table from Parquet parts; the sums of both are compared.

    python benchmarks/tables.py [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _rows import Row, parser, report

ROWS, QUICK_ROWS, PART = 10_000_000, 1_000_000, 1_000_000
CELLS = 5_000


def make_table(folder: Path, rows: int) -> None:
    """Parts as a run writes them: 2.2 partners a synapse; few cells have most of the synapses."""
    random = np.random.default_rng(0)
    cells = np.sort(random.choice(1 << 58, CELLS, replace=False)).astype(np.uint64)
    weight = 1 / np.arange(1, CELLS + 1)
    ends = weight.cumsum() / weight.sum()
    first = 0
    for number, start in enumerate(range(0, rows, PART)):
        n = min(PART, rows - start)
        synapse = first + np.cumsum(random.random(n) < 1 / 2.2)
        first = int(synapse[-1])
        # One presynaptic cell a synapse.
        pre = cells[np.searchsorted(ends, np.modf(synapse * 0.6180339887498949)[0])]
        post = cells[np.searchsorted(ends, random.random(n))]
        share = random.random(n)
        places = {name: random.random(n) * 1e6 for name in ("x_pos", "y_pos", "z_pos")}
        table = {
            "syn_id": (synapse * 97).astype(np.uint64),
            "pre": pre.astype("U"),
            "pre_id": pre,
            "post": post.astype("U"),
            "post_id": post,
            **places,
            "size": share * 4e5,
            "share": share,
        }
        pq.write_table(pa.table(table), folder / f"part-{number:08d}.parquet", compression="zstd")


def ours_edges(folder: Path) -> float:
    from cnapse.analysis.connectome import connectome_of
    from cnapse.analysis.queries import Synapses

    with Synapses.open(folder) as synapses:
        return float(connectome_of(synapses).edges()["size"].sum())


def ours_matrix(folder: Path) -> float:
    from cnapse.analysis.connectome import connectome_of
    from cnapse.analysis.queries import Synapses

    with Synapses.open(folder) as synapses:
        return float(connectome_of(synapses).matrix("size").to_numpy().sum())


def ours_cell(folder: Path) -> float:
    from cnapse.analysis.queries import Synapses

    with Synapses.open(folder) as synapses:
        return float(synapses.of_cell(_rare_cell(), "pre").to_pandas()["size"].sum())


def pandas_edges(folder: Path) -> float:
    return float(_pandas_edges(folder)["size"].sum())


def pandas_matrix(folder: Path) -> float:
    edges = _pandas_edges(folder).reset_index()
    matrix = edges.pivot_table(index="pre_id", columns="post_id", values="size", fill_value=0.0)
    return float(matrix.to_numpy().sum())


def pandas_cell(folder: Path) -> float:
    import pandas as pd

    table = pd.read_parquet(folder)
    return float(table.loc[table["pre_id"] == np.uint64(_rare_cell()), "size"].sum())


def _pandas_edges(folder: Path):
    """As one would: count synapses, add sizes, per pair of cells."""
    import pandas as pd

    table = pd.read_parquet(folder, columns=["syn_id", "pre_id", "post_id", "size"])
    edges = table.groupby(["pre_id", "post_id"]).agg({"syn_id": "nunique", "size": "sum"})
    whole = edges.groupby(level=0)["syn_id"].transform("sum")
    received = edges.groupby(level=1)["syn_id"].transform("sum")
    return edges.assign(output=edges["syn_id"] / whole, input=edges["syn_id"] / received)


def _rare_cell() -> int:
    random = np.random.default_rng(0)
    return int(np.sort(random.choice(1 << 58, CELLS, replace=False))[CELLS // 2])


WORK: dict[str, tuple[str, Callable[[Path], float], Callable[[Path], float]]] = {
    "edges": ("edge list with fractions", ours_edges, pandas_edges),
    "matrix": ("matrix of summed sizes", ours_matrix, pandas_matrix),
    "cell": ("synapses of one cell", ours_cell, pandas_cell),
}


def measure(whose: str, work: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, peak GB and the sum of sizes, in a process of its own."""
    command = [sys.executable, __file__, "--work", f"{whose}:{work}:{folder}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    values = json.loads(said.splitlines()[-1])
    return values["seconds"], values["gigabytes"], values["sum"]


def work_here(task: str) -> None:
    """What `measure` starts."""
    whose, work, folder = task.split(":", 2)
    _, ours, theirs = WORK[work]
    # Imports are not what is measured.
    import pandas as pd  # noqa: F401

    import cnapse.analysis.connectome
    import cnapse.analysis.queries  # noqa: F401

    start = time.perf_counter()
    total = (ours if whose == "ours" else theirs)(Path(folder))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "gigabytes": peak, "sum": total}))


def main() -> None:
    options = parser(__doc__.splitlines()[0], {})
    options.add_argument("--work", help="used by this script itself")
    arguments = options.parse_args()
    if arguments.work:
        work_here(arguments.work)
        return
    rows = QUICK_ROWS if arguments.quick else ROWS
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="cnapse-bench-") as place:
        folder = Path(place)
        make_table(folder, rows)
        for work, (name, _, _) in WORK.items():
            seconds, gigabytes, total = measure("ours", work, folder)
            their_seconds, their_gigabytes, their_total = measure("pandas", work, folder)
            if not np.isclose(total, their_total, rtol=1e-9):
                sys.exit(f"{work}: sums differ: {total} and {their_total}")
            what = f"{name}, {rows:,} rows"
            peer = "pandas"
            found.append(Row(what, seconds, "s", peer, their_seconds, "from Parquet parts"))
            note = "of the process; 2 GB allowed"
            found.append(Row(what, gigabytes, "GB peak", peer, their_gigabytes, note))
    report(found, arguments.json)


if __name__ == "__main__":
    main()
