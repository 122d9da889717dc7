"""`cnapse ingest` of every format: speed against reading and writing the raw bytes, and memory.

    python benchmarks/ingest.py --quick
    python benchmarks/ingest.py --folder /tmp/ingest [--formats tiff zarr3] [--json rows.json]

Each format's own library writes a volume of uint8 like EM (smooth structure and the noise of a
detector, which hardly compresses): 4096 x 4096 x 256 voxels, 4.3 GB; with --quick 1024 x 1024 x 64.
The command runs in a process of its own, start of Python included. Its peer is a plain copy of the
same number of bytes, section by section. Both read what was just written: the disk's cache is as
warm for one as for the other, and neither waits for the disk at the end. Memory is the highest
resident size of the command, and its peer that for a quarter of the sections: the same if memory
does not depend on how many there are. One volume at a time is on the disk, with its copy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorstore
import tifffile
from _rows import Row, parser, report
from scipy.ndimage import gaussian_filter

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]

_RESOLUTION = (4.0, 4.0, 40.0)
_FULL: Shape = (4096, 4096, 256)
_QUICK: Shape = (1024, 1024, 64)
_MB = 1e6


class Volume:
    """A volume z, y, x that is computed section by section, the same for each format."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        rng = np.random.default_rng(7)
        plane = (shape[1], shape[0])
        smooth = gaussian_filter(rng.normal(size=plane).astype(np.float32), 4, mode="wrap")
        self._smooth = np.clip(100 + 20 * smooth / smooth.std(), 0, 200).astype(np.uint8)
        self._noise = np.clip(rng.normal(27, 9, plane), 0, 55).astype(np.uint8)

    def section(self, z: int) -> Array:
        """Section z, shape (y, x): structure that moves slowly, noise that jumps."""
        noise = np.roll(self._noise, z * 131, 0)
        moved: Array = np.roll(self._smooth, z, 0)
        return moved + noise

    def slabs(self, depth: int) -> Iterator[tuple[int, Array]]:
        """The volume in slabs z, y, x."""
        for z in range(0, self.shape[2], depth):
            stop = min(z + depth, self.shape[2])
            yield z, np.stack([self.section(at) for at in range(z, stop)])


def write_tiff(folder: Path, volume: Volume) -> list[str]:
    with tifffile.TiffWriter(folder / "in.tif", bigtiff=True) as writer:
        for _, slab in volume.slabs(1):
            writer.write(slab[0], contiguous=False, metadata=None)
    return [f"{folder}/in.tif"]


def write_deflated(folder: Path, volume: Volume) -> list[str]:
    with tifffile.TiffWriter(folder / "in.tif", bigtiff=True) as writer:
        for _, slab in volume.slabs(1):
            writer.write(
                slab[0],
                contiguous=False,
                metadata=None,
                compression="zlib",
                compressionargs={"level": 1},
            )
    return [f"{folder}/in.tif"]


def write_png(folder: Path, volume: Volume) -> list[str]:
    from PIL import Image

    for z, slab in volume.slabs(1):
        Image.fromarray(slab[0]).save(folder / f"s{z:04}.png", compress_level=1)
    return [str(folder)]


def write_hdf5(folder: Path, volume: Volume, **how: Any) -> list[str]:
    import h5py

    with h5py.File(folder / "in.h5", "w") as file:
        data = file.create_dataset("main", volume.shape[::-1], np.uint8, **how)
        for z, slab in volume.slabs(16):
            data[z : z + len(slab)] = slab
    return [f"{folder}/in.h5"]


def write_hdf5_chunks(folder: Path, volume: Volume) -> list[str]:
    # As h5py chooses chunks if asked to.
    return write_hdf5(folder, volume, chunks=True)


def write_array(folder: Path, volume: Volume, driver: str, metadata: dict[str, Any]) -> None:
    spec = {
        "driver": driver,
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": metadata,
    }
    x, y, z = volume.shape
    shape = (x, y, z) if driver == "n5" else (z, y, x)
    store = tensorstore.open(spec, create=True, dtype="uint8", shape=shape).result()
    for begin, slab in volume.slabs(64):
        where = slice(begin, begin + len(slab))
        if driver == "n5":
            store[:, :, where].write(slab.T).result()
        else:
            store[where].write(slab).result()


def write_zarr2(folder: Path, volume: Volume) -> list[str]:
    write_array(folder, volume, "zarr", {"chunks": [64, 64, 64]})
    return [str(folder), "--axes", "zyx"]


def write_zarr3(folder: Path, volume: Volume) -> list[str]:
    grid = {"name": "regular", "configuration": {"chunk_shape": [64, 128, 128]}}
    codecs = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]
    write_array(folder, volume, "zarr3", {"chunk_grid": grid, "codecs": codecs})
    return [str(folder), "--axes", "zyx"]


def write_sharded(folder: Path, volume: Volume) -> list[str]:
    grid = {"name": "regular", "configuration": {"chunk_shape": [64, 512, 512]}}
    inner = {"chunk_shape": [64, 64, 64], "codecs": [{"name": "bytes"}, {"name": "blosc"}]}
    codecs = [{"name": "sharding_indexed", "configuration": inner}]
    write_array(folder, volume, "zarr3", {"chunk_grid": grid, "codecs": codecs})
    return [str(folder), "--axes", "zyx"]


def write_ome(folder: Path, volume: Volume) -> list[str]:
    write_array(folder / "s0", volume, "zarr", {"chunks": [64, 64, 64]})
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    scale = [{"type": "scale", "scale": list(_RESOLUTION[::-1])}]
    datasets = [{"path": "s0", "coordinateTransformations": scale}]
    image = {"version": "0.4", "axes": axes, "datasets": datasets}
    (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    return [str(folder)]


def write_n5(folder: Path, volume: Volume) -> list[str]:
    compression = {"type": "gzip", "level": 1}
    write_array(folder, volume, "n5", {"blockSize": [64, 64, 64], "compression": compression})
    return [str(folder)]


def write_precomputed(folder: Path, volume: Volume) -> list[str]:
    from cloudvolume import CloudVolume

    info = CloudVolume.create_new_info(
        1, "image", "uint8", "raw", _RESOLUTION, (0, 0, 0), volume.shape, chunk_size=(64, 64, 64)
    )
    layer = CloudVolume(f"file://{folder}", info=info, progress=False, compress=False)
    layer.commit_info()
    for z, slab in volume.slabs(64):
        layer[:, :, z : z + len(slab)] = np.asfortranarray(slab.T)
    return [str(folder)]


FORMATS: dict[str, tuple[str, Callable[[Path, Volume], list[str]]]] = {
    "tiff": ("BigTIFF, plain", write_tiff),
    "deflate": ("BigTIFF, deflate", write_deflated),
    "png": ("PNG sections", write_png),
    "hdf5": ("HDF5, contiguous", write_hdf5),
    "hdf5-chunks": ("HDF5, h5py's chunks", write_hdf5_chunks),
    "zarr2": ("Zarr v2, 64^3 blosc", write_zarr2),
    "zarr3": ("Zarr v3, 128x128x64 zstd", write_zarr3),
    "sharded": ("Zarr v3, shards of 512x512x64", write_sharded),
    "ome-zarr": ("OME-Zarr, 64^3 blosc", write_ome),
    "n5": ("N5, 64^3 gzip", write_n5),
    "precomputed": ("precomputed, 64^3 raw", write_precomputed),
}


def copy_raw(folder: Path, shape: Shape) -> float:
    """Seconds to read a plain file of the volume's size, and to write it to another."""
    width, height, depth = shape
    section = np.random.default_rng(1).integers(0, 256, width * height, dtype=np.uint8).tobytes()
    with (folder / "raw").open("wb") as file:
        for _ in range(depth):
            file.write(section)
    began = time.perf_counter()
    with (folder / "raw").open("rb") as source, (folder / "copy").open("wb") as target:
        while block := source.read(len(section)):
            target.write(block)
    seconds = time.perf_counter() - began
    for name in ("raw", "copy"):
        (folder / name).unlink()
    return seconds


# A process begins with the peak memory of the one that it was started from, so a small one starts
# the command, and tells what it took.
_STARTER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""


class Taken(NamedTuple):
    """What one `cnapse ingest` took; memory in bytes."""

    seconds: float
    cpu: float
    memory: int


def run_command(arguments: list[str], destination: Path) -> Taken:
    """Run one `cnapse ingest`."""
    given = ["--resolution", *map(str, _RESOLUTION)]
    command = [sys.executable, "-m", "cnapse_cli", "ingest"]
    command += [arguments[0], str(destination), *arguments[1:], *given]
    done = subprocess.run(
        [sys.executable, "-c", _STARTER, *command], capture_output=True, text=True, check=True
    )
    code, *taken = json.loads(done.stdout)
    if code:
        sys.exit(done.stderr)
    return Taken(*taken)


def measure(name: str, shape: Shape, folder: Path) -> Taken:
    """Write a volume, bring it in, check some of it, and delete both."""
    volume = Volume(shape)
    source, destination = folder / "in", folder / "out"
    source.mkdir(parents=True)
    try:
        arguments = FORMATS[name][1](source, volume)
        taken = run_command(arguments, destination)
        check(destination, volume)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(destination, ignore_errors=True)
    return taken


def check(destination: Path, volume: Volume) -> None:
    """Compare three sections with what was written, by tensorstore."""
    place = {"driver": "file", "path": f"{destination}/"}
    spec = {"driver": "neuroglancer_precomputed", "kvstore": place}
    layer = tensorstore.open(spec, open=True, read=True).result()
    for z in (0, volume.shape[2] // 2, volume.shape[2] - 1):
        found = layer[:, :, z, 0].read().result()
        if not np.array_equal(found, volume.section(z).T):
            sys.exit(f"section {z} came in otherwise than it was written")


def rows_of(name: str, shape: Shape, folder: Path, *, quick: bool) -> list[Row]:
    """Speed and memory of one format; how memory grows only where there is time for it."""
    what = FORMATS[name][0]
    size = int(np.prod(shape))
    taken = measure(name, shape, folder)
    raw = copy_raw(folder, shape)
    note = f"{size / 1e9:.2g} GB, {taken.cpu:.0f} s of CPU"
    speed = Row(what, size / _MB / taken.seconds, "MB/s", "raw bytes", size / _MB / raw, note)
    peak = taken.memory / _MB
    if quick:
        return [speed, Row(what, peak, "MB", note="peak memory")]
    quarter = measure(name, (*shape[:2], shape[2] // 4), folder).memory / _MB
    return [speed, Row(what, peak, "MB", "1/4 of the sections", quarter, "peak memory")]


def options() -> argparse.Namespace:
    result = parser("Speed and memory of `cnapse ingest`, format by format.", {})
    result.add_argument("--folder", type=Path, metavar="DIR", help="where there are 15 GB of disk")
    result.add_argument("--sections", type=int, default=_FULL[2], help="default: 256, 4.3 GB")
    result.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    return result.parse_args()


def main() -> None:
    chosen = options()
    if chosen.folder is not None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    shape = _QUICK if chosen.quick else (*_FULL[:2], chosen.sections)
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for name in chosen.formats:
            found = rows_of(name, shape, Path(folder), quick=chosen.quick)
            for row in found:
                print(json.dumps(row.as_json()), file=sys.stderr, flush=True)
            rows += found
    report(rows, chosen.json)


if __name__ == "__main__":
    main()
