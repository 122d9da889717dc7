"""`cnapse review` over HTTP with a million candidates: what a reviewer waits for.

    python benchmarks/review_load.py --quick
    python benchmarks/review_load.py [--json rows.json]

The tables are those of `review.py`; the server is a process of its own. Lists (orders, filters,
deep pages), claims, decisions, progress, one synapse's detail and tiles of 256 pixels are asked for
by two reviewers at once; the figures are the worst, the 99th percentile and the median of all
answers of a kind. Tiles are cold where neither of their chunks was read before, and warm the second
time and in the sections beside. There is no peer.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
from _rows import Row, parser, report
from review import make_tables

from cnapse.geometry import Box
from cnapse.tables import PARTNERS, SYNAPSES, write_table
from cnapse.volumes.writer import create_layer

_FULL, _QUICK = 1_000_000, 100_000
_ORDERS = ("doubt", "size", "score", "cell", "random", "place", "stratified")
_CONFIG = (
    'output = "run"\nresolution = [8, 8, 50]\n[layers]\nimage = "image"\nsynapses = "synapses"\n'
)
_CHUNK = (128, 128, 32)
# Places of tiles, each in a chunk of its own: of both layers as many chunks as 16 x 16 tiles need.
_PLACES = 16
_TILES = 60


def main() -> None:
    options = parser(__doc__.splitlines()[0], {}).parse_args()
    n = _QUICK if options.quick else _FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = make_run(folder, n)
        rows = measure(folder, ids, 3 if options.quick else 10)
    named = [replace(row, work=f"{n:,} candidates over HTTP: {row.work}") for row in rows]
    report(named, options.json)


def make_run(folder: Path, n: int) -> np.ndarray:
    """A finished run: its tables, and layers with voxels where the first synapses are."""
    synapses, partners = make_tables(n)
    resolution = np.array([8, 8, 50])
    for i in range(_PLACES**2):
        corner = np.array([i % _PLACES, i // _PLACES, 0]) * _CHUNK + (56, 56, 14)
        for axis, name in enumerate("xyz"):
            row = synapses.index[i]
            synapses.loc[row, f"start_{name}"] = corner[axis]
            synapses.loc[row, f"stop_{name}"] = corner[axis] + (16, 16, 4)[axis]
            middle = corner[axis] + (8, 8, 2)[axis]
            synapses.loc[row, f"{name}_pos"] = (middle + 0.5) * resolution[axis]
    write_table(synapses, folder / "run/tables/synapses/part.parquet", SYNAPSES)
    write_table(partners, folder / "run/tables/partners/part.parquet", PARTNERS)
    box = Box.from_shape((40_100, 40_100, 40_100), (8, 8, 50))
    shown = Box.from_shape((_PLACES * _CHUNK[0], _PLACES * _CHUNK[1], _CHUNK[2]), (8, 8, 50))
    objects = np.zeros(shown.shape, np.uint64)
    for i, syn_id in enumerate(synapses["syn_id"].iloc[: _PLACES**2]):
        x, y = (i % _PLACES) * _CHUNK[0] + 56, (i // _PLACES) * _CHUNK[1] + 56
        objects[x : x + 16, y : y + 16, 14:18] = syn_id
    grey = np.random.default_rng(0).integers(1, 256, shown.shape, np.uint8)
    for name, kind, array in (
        ("image", "image", grey), ("synapses", "segmentation", objects),
    ):  # fmt: skip
        writer = create_layer(
            folder / name, kind=kind, dtype=array.dtype, bounds=box, chunk_size=_CHUNK
        )
        writer.write(array, shown)
    (folder / "cnapse.toml").write_text(_CONFIG)
    return synapses["syn_id"].to_numpy()


def measure(folder: Path, ids: np.ndarray, rounds: int) -> list[Row]:
    """Start the server, ask, and stop it."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cnapse_cli", "review", str(folder / "cnapse.toml"), "--no-browser"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        link = next(line.strip() for line in process.stdout or [] if line.startswith("http"))
        started = time.perf_counter() - began
        page, _, token = link.partition("/?token=")
        taken: dict[str, list[float]] = defaultdict(list)
        reviewers = [
            threading.Thread(target=review, args=(page, token, name, ids, rounds, taken))
            for name in ("Ann", "Bob")
        ]
        for thread in reviewers:
            thread.start()
        for thread in reviewers:
            thread.join()
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(next(v.split()[1] for v in status.splitlines() if v.startswith("VmHWM")))
    finally:
        process.terminate()
        process.communicate(timeout=60)
    rows = [
        Row(f"{kind}, worst of {len(all_ms)}", max(all_ms), "ms",
            note=f"median {statistics.median(all_ms):.1f} ms, "
            f"99 % below {np.percentile(all_ms, 99):.1f} ms")
        for kind, all_ms in taken.items()
    ]  # fmt: skip
    return [
        *rows,
        Row("until it answers", started, "s"),
        Row("memory of the server", peak / 2**20, "GB"),
    ]


def review(
    page: str, token: str, name: str, ids: np.ndarray, rounds: int, taken: dict[str, list[float]]
) -> None:
    """What one reviewer's page asks for."""
    headers = {"Authorization": f"Bearer {token}", "X-Cnapse-Review": "1"}
    rng = np.random.default_rng(len(name) + ord(name[0]))
    with httpx2.Client(base_url=page, headers=headers, timeout=60) as client:

        def timed(kind: str, answer: httpx2.Response, expected: int = 200) -> httpx2.Response:
            if answer.status_code != expected:
                raise SystemExit(f"{answer.request.url}: {answer.status_code} {answer.text[:200]}")
            taken[kind].append(1000 * answer.elapsed.total_seconds())
            return answer

        client.post("/api/session", json={"reviewer": name})
        for order in _ORDERS:
            query = {"order": order, "limit": 200}
            timed("first list of each order", client.get("/api/candidates", params=query))
        for _ in range(rounds):
            for order in _ORDERS:
                for more in (
                    {"offset": int(rng.integers(len(ids)))},
                    {"verdict": "open", "min_size": 1e5, "flag": "border"},
                    {"cell": str(int(rng.integers(1, 900)))},
                ):
                    query = {"order": order, "limit": 200, **more}
                    timed("lists, sorted and filtered", client.get("/api/candidates", params=query))
            body = {"loop": "candidates", "count": 20, "order": "doubt", "verdict": "open"}
            mine = timed("claims of 20", client.post("/api/claim", json=body)).json()["items"]
            for item in mine:
                decision = {
                    "uuid": str(uuid.uuid4()), "action": "verdict", "syn_id": item["syn_id"],
                    "new": {"verdict": "true"}, "seconds": 1.0,
                }  # fmt: skip
                timed("decisions", client.post("/api/decisions", json=decision), 201)
            timed("progress", client.get("/api/progress"))
            one = ids[rng.integers(len(ids))]
            timed("one synapse", client.get(f"/api/synapses/{one}"))
        # Reviewers are given different synapses.
        own = ids[: _PLACES**2][("Ann", "Bob").index(name) :: 2]
        query = {"size": 256, "span_nm": 900}
        for syn_id in own[:_TILES]:
            for kind, dz in (("cold", 0), ("warm", 0), ("warm", 1), ("warm", -1)):
                answer = client.get(f"/api/tiles/{syn_id}/{dz}", params=query)
                timed(f"tiles, {kind}", answer)


if __name__ == "__main__":
    main()
