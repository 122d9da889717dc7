"""Label, stitch, relabel and measure a volume; stitch many objects; beside igneous and Synaptor.

    python benchmarks/labeling.py --quick [--synaptor PATH] [--json FILE]
    python benchmarks/labeling.py --stitching
    python benchmarks/labeling.py --billion

*Volume*: 1024 x 1024 x 1024 voxels (--quick: 512 x 512 x 256) of blobs on columns of cells, see
`_labeling_volume.py`. Ours are the tasks of a run, one after the other in one process; igneous'
are its four passes of connected components through a LocalTaskQueue of one process, with its own
default of 512^3 voxels a task, to a layer of uint64 like ours. It measures nothing, has
6-connectivity only (ours is 26), gzips what it writes and renumbers from 1.

*Stitching*: 10^7 objects with 10^6 face pairs in 16,384 blocks (--quick: 300,000 with 30,000 in
512), see `_stitching.py`. Ours are the tasks of `join` and `stitch`, from the records that `label`
leaves to the ids that `relabel` reads; igneous' is `create_relabeling` on the same equivalences in
the form that its second pass leaves them, from and to files likewise. Its JSON is not compressed.

``--billion`` is the last step of stitching alone, for a cubic millimetre with 10^9 synapses: 10^8
groups of labels that go on from one superblock into another, see `_open_groups.py`. It takes 4 GB
of memory and of disk, and has no peer: igneous' dictionary would need some 20 GB.

*Synaptor*: ``--synaptor PATH`` is a checkout; its segmentation stages (`cc_task`, `merge_ccs_task`,
`remap_ids_task`) run in process on 1024 x 1024 x 128 voxels (--quick: 512 x 512 x 128) in chunks of
512 x 512 x 128, its extensions compiled with g++, python-igraph replaced by scipy where it is not
installed. Ours on the same array are label, stitch, label again, relabel, and all measures, which
are more than its sizes, centroids and boxes.

Each runs in a process of its own, after its imports and a small first run (numba, page cache).
Memory is the highest resident size of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _open_groups
import numpy as np
import numpy.typing as npt
from _labeling_volume import CHUNK, RESOLUTION, make_volume, probability_of
from _rows import Row, absent, parser, report
from _stitching import BLOCK, Size, prepare, write_records

from cnapse.config import Config
from cnapse.geometry import Box, Grid, Triple
from cnapse.synapses.components import block_components, label_box, threshold_mask
from cnapse.synapses.measure import combine, measure_block
from cnapse.synapses.stitching import object_ids, relabel, stitch
from cnapse.volumes.writer import create_layer
from cnapse_tasks import join
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES

Figures = dict[str, float]

_FULL: Triple = (1024, 1024, 1024)
_QUICK: Triple = (512, 512, 256)
_SMALL: Triple = (128, 128, 64)
_IN_MEMORY: Triple = (1024, 1024, 128)
_IN_MEMORY_QUICK: Triple = (512, 512, 128)
_STITCHED = Size((32, 32, 16), 10**7, 10**6)
_STITCHED_QUICK = Size((8, 8, 8), 300_000, 30_000)
_STITCHED_SMALL = Size((2, 2, 2), 1000, 100)
_OURS = ("label", "stitch", "relabel", "measure")
_THRESHOLD = 128
_BLOCK: Triple = (512, 512, 64)
_SYNAPTOR_CHUNK: Triple = (512, 512, 128)
_MIN_VOXELS = 10
_MEGA, _GIGA = 1e6, 1e9


# --- what runs in a process of its own ------------------------------------------------------------


def volume_of_ours(folder: Path, figures: Figures) -> None:
    run = Run(
        Config.from_dict(
            {
                "output": f"file://{folder}/ours",
                "resolution": RESOLUTION,
                "layers": {
                    "probability": f"file://{folder}/probability",
                    "cells": f"file://{folder}/cells",
                },
            }
        )
    )
    for name in _OURS:
        with _timed(figures, name):
            stage = STAGES[name].module
            stage.prepare(run)
            for index in stage.indices(run):
                stage.execute(run, index)


def volume_of_igneous(folder: Path, figures: Figures) -> None:
    from igneous import task_creation as creation
    from igneous.tasks.image import ccl
    from taskqueue import LocalTaskQueue

    source, target = f"file://{folder}/probability", f"file://{folder}/igneous"
    size = json.loads((folder / "probability" / "info").read_text())["scales"][0]["size"]
    create_layer(
        target,
        kind="segmentation",
        dtype="uint64",
        bounds=Box.from_shape(size, RESOLUTION),
        chunk_size=CHUNK,
    )
    queue = LocalTaskQueue(parallel=1, progress=False)
    options: dict[str, Any] = {"mip": 0, "threshold_gte": _THRESHOLD}
    passes: dict[str, Callable[[], object]] = {
        "faces": lambda: queue.insert(creation.create_ccl_face_tasks(source, **options)),
        "links": lambda: queue.insert(creation.create_ccl_equivalence_tasks(source, **options)),
        "calc-labels": lambda: ccl.create_relabeling(source, 0, (512, 512, 512)),
        "relabel": lambda: queue.insert(
            creation.create_ccl_relabel_tasks(source, target, **options)
        ),
    }
    for name, do in passes.items():
        with _timed(figures, name):
            do()
            queue.execute()


def stitching_of_ours(folder: Path, figures: Figures) -> None:
    run = prepare(folder, _size_of(folder))
    for name in ("join", "stitch"):
        stage = STAGES[name].module
        if name == "join" and not join.is_needed(run):
            continue
        with _timed(figures, name):
            for index in stage.indices(run):
                stage.execute(run, index)


def stitching_of_igneous(folder: Path, figures: Figures) -> None:
    from igneous.tasks.image import ccl

    with _timed(figures, "calc-labels"):
        ccl.create_relabeling(f"file://{folder}/probability", 0, BLOCK)


def stitching_of_a_billion(folder: Path, figures: Figures) -> None:
    shape = _open_groups.QUICK_SHAPE if folder.name == "few" else _open_groups.SHAPE
    run = _open_groups.prepare(folder, shape)
    with _timed(figures, "stitch"):
        STAGES["stitch"].module.execute(run, 0)


def memory_of_ours(folder: Path, figures: Figures) -> None:
    probability = np.load(folder / "probability.npy").T
    frame = Box.from_shape(probability.shape, RESOLUTION)
    grid = Grid(frame, _BLOCK, halo_upper=(1, 1, 1))
    cells = np.zeros(_BLOCK, np.uint8, order="F")

    def labelled(index: int) -> tuple[Any, int]:
        part = probability[grid[index].read.slices(frame)]
        return label_box(threshold_mask(part, _THRESHOLD / 255))

    def load(index: int) -> Any:
        return block_components(*labelled(index), grid[index], frame)

    with _timed(figures, "all"):
        records = [load(index) for index in range(len(grid))]
        stitching = stitch(grid, records.__getitem__, _MIN_VOXELS)
        measures = []
        for block, record in zip(grid, records, strict=True):
            ids = object_ids(record, stitching.mapping(block.index), _MIN_VOXELS)
            found = relabel(labelled(block.index)[0], ids, block)
            box, x = block.write, block.write.shape
            under = cells[: x[0], : x[1], : x[2]]
            measures.append(measure_block(found, under, probability[box.slices(frame)], box, frame))
        figures["objects"] = len(combine(measures))


def memory_of_synaptor(folder: Path, figures: Figures) -> None:
    from _synaptor import segmentation_tasks

    tasks = segmentation_tasks(folder.parent / "synaptor")
    probability = np.load(folder / "probability.npy").T
    box = Box.from_shape(probability.shape, RESOLUTION)
    grid = Grid(box, _SYNAPTOR_CHUNK)
    chunks = [np.ascontiguousarray(probability[b.write.slices(box)]) for b in grid]
    with contextlib.redirect_stdout(io.StringIO()), _timed(figures, "all"):
        components, goes_on, info = [], *(_objects(grid.shape) for _ in range(2))
        for block, chunk in zip(grid, chunks, strict=True):
            place = np.unravel_index(block.index, grid.shape, order="F")
            labels, goes_on[place], info[place] = tasks.cc_task(
                chunk, _THRESHOLD - 1, _MIN_VOXELS, offset=block.write.start
            )
            components.append(labels)
        merged, maps = tasks.merge_ccs_task(goes_on, info, _MIN_VOXELS, (1024, 1024))
        for block, labels in zip(grid, components, strict=True):
            place = np.unravel_index(block.index, grid.shape, order="F")
            tasks.remap_ids_task(labels, maps[place])
        figures["objects"] = len(merged[merged["size"] >= _MIN_VOXELS])


def _objects(shape: Triple) -> npt.NDArray[Any]:
    return np.empty(shape, dtype=object)


CHILDREN: dict[str, Callable[[Path, Figures], None]] = {
    function.__name__: function
    for function in (
        volume_of_ours,
        volume_of_igneous,
        stitching_of_ours,
        stitching_of_igneous,
        stitching_of_a_billion,
        memory_of_ours,
        memory_of_synaptor,
    )
}


@contextlib.contextmanager
def _timed(figures: Figures, name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures[f"{name}.wall"] = time.perf_counter() - wall
    figures[f"{name}.cpu"] = time.process_time() - cpu


def _size_of(folder: Path) -> Size:
    return Size(**json.loads((folder / "size.json").read_text()))


# --- what starts them -----------------------------------------------------------------------------


def measured(name: str, folder: Path, small: Path) -> Figures:
    """Figures of a function above, in a process of its own, run on `small` first."""
    command = [sys.executable, __file__, "--child", name, str(folder), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def child(name: str, folder: Path, small: Path) -> None:
    """Run one function and print its figures as the last line."""
    with contextlib.redirect_stdout(sys.stderr):
        CHILDREN[name](small, {})
        figures: Figures = {}
        CHILDREN[name](folder, figures)
    figures["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(figures))


def volume_rows(folder: Path, shape: Triple) -> Iterator[Row]:
    """Label, stitch, relabel and measure, beside igneous' connected components."""
    objects = make_volume(folder / "volume", shape)
    make_volume(folder / "small", _SMALL)
    ours = measured("volume_of_ours", folder / "volume", folder / "small")
    theirs = measured("volume_of_igneous", folder / "volume", folder / "small")
    voxels = shape[0] * shape[1] * shape[2]
    work = "label, stitch, relabel, measure {} x {} x {}".format(*shape)
    note = "{} blobs; ours: {}; igneous, which measures nothing: {}".format(
        objects, _shares(ours, "wall"), _shares(theirs, "wall")
    )
    wall, other = _total(ours, "wall"), _total(theirs, "wall")
    yield Row(work, voxels / wall / _MEGA, "Mvox/s", "igneous", voxels / other / _MEGA, note)
    cpu, other = _total(ours, "cpu"), _total(theirs, "cpu")
    yield _cpu_row(work, voxels / cpu, "igneous", voxels / other, "")
    yield Row(work, ours["peak"] / _GIGA, "GB", "igneous", theirs["peak"] / _GIGA, "peak memory")


def stitching_rows(folder: Path, size: Size) -> Iterator[Row]:
    """Join and stitch, beside igneous' union-find."""
    counts = [
        write_sized(folder / name, chosen)
        for name, chosen in (("many", size), ("few", _STITCHED_SMALL))
    ]
    objects, pairs = counts[0]
    ours = measured("stitching_of_ours", folder / "many", folder / "few")
    theirs = measured("stitching_of_igneous", folder / "many", folder / "few")
    blocks = len(size.grid)
    work = f"stitch {objects:,} objects, {pairs:,} face pairs, {blocks:,} blocks"
    wall, other = _total(ours, "wall"), _total(theirs, "wall")
    yield Row(work, wall, "s", "igneous", other, _shares(ours, "wall"))
    yield Row(work, _total(ours, "cpu"), "cpu-s", "igneous", _total(theirs, "cpu"))
    yield Row(work, ours["peak"] / _GIGA, "GB", "igneous", theirs["peak"] / _GIGA, "peak memory")


def billion_rows(folder: Path) -> Iterator[Row]:
    """The last step for 10^9 objects."""
    _open_groups.write_open_groups(folder / "few", _open_groups.QUICK_SHAPE)
    groups, pairs = _open_groups.write_open_groups(folder / "many", _open_groups.SHAPE)
    ours = measured("stitching_of_a_billion", folder / "many", folder / "few")
    work = f"stitch {groups:,} open groups, {pairs:,} pairs"
    yield Row(work, ours["stitch.wall"], "s")
    yield Row(work, ours["stitch.cpu"], "cpu-s")
    note = f"peak memory, {ours['peak'] / groups:.0f} bytes a group, Python and all"
    yield Row(work, ours["peak"] / _GIGA, "GB", note=note)


def write_sized(folder: Path, size: Size) -> tuple[int, int]:
    """Write records of a size, and the size."""
    folder.mkdir(parents=True)
    plain = {"blocks": size.blocks, "objects": size.objects, "pairs": size.pairs}
    (folder / "size.json").write_text(json.dumps(plain))
    return write_records(folder, size)


def synaptor_rows(folder: Path, checkout: Path, shape: Triple) -> Iterator[Row]:
    """Everything in memory, beside Synaptor's segmentation stages."""
    from _synaptor import build

    for name, size in (("volume", shape), ("small", _SMALL)):
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "probability.npy", probability_of(size).T)
    build(checkout, folder / "synaptor")
    ours = measured("memory_of_ours", folder / "volume", folder / "small")
    theirs = measured("memory_of_synaptor", folder / "volume", folder / "small")
    voxels = shape[0] * shape[1] * shape[2]
    work = "label to measures in memory, {} x {} x {}".format(*shape)
    note = "{:.0f} and {:.0f} objects: 26- and 6-connected".format(
        ours["objects"], theirs["objects"]
    )
    rates = [voxels / figures["all.cpu"] for figures in (ours, theirs)]
    yield _cpu_row(work, rates[0], "Synaptor", rates[1], note)


def _cpu_row(work: str, ours: float, peer: str, theirs: float, note: str) -> Row:
    """Voxels a CPU-second."""
    rates = ours / _MEGA, theirs / _MEGA
    return Row(work, rates[0], "Mvox/cpu-s", peer, rates[1], note, more_is_better=True)


def _total(figures: Figures, unit: str) -> float:
    return sum(value for name, value in figures.items() if name.endswith(f".{unit}"))


def _shares(figures: Figures, unit: str) -> str:
    return ", ".join(
        f"{name.removesuffix('.' + unit)} {value:.1f} s"
        for name, value in figures.items()
        if name.endswith(f".{unit}")
    )


def main(argv: list[str]) -> None:
    if argv[:1] == ["--child"]:
        child(argv[1], Path(argv[2]), Path(argv[3]))
        return
    options = parser(__doc__ or "", {"synaptor": "checkout of Synaptor", "folder": "to work in"})
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--stitching", action="store_true", help="only the stitching")
    options.add_argument("--billion", action="store_true", help="only the stitching of 10^9")
    chosen = options.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="labeling-", dir=chosen.folder))
    quick = chosen.quick
    rows: list[Row] = []
    try:
        if chosen.billion:
            report(list(billion_rows(folder)), chosen.json)
            return
        rows += stitching_rows(folder / "stitching", _STITCHED_QUICK if quick else _STITCHED)
        if not chosen.stitching:
            rows += volume_rows(folder / "volume", _QUICK if quick else _FULL)
            if chosen.synaptor is None:
                absent("Synaptor", "give a checkout with --synaptor PATH")
            else:
                shape = _IN_MEMORY_QUICK if quick else _IN_MEMORY
                rows += synaptor_rows(folder / "synaptor", chosen.synaptor, shape)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(rows, chosen.json)


if __name__ == "__main__":
    main(sys.argv[1:])
