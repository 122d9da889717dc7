"""Layers written and read without any code of the project: the oracle of the tests here."""

import gc
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest


@dataclass
class Scale:
    """One scale of a layer made by hand."""

    array: np.ndarray
    offset: tuple = (0, 0, 0)
    resolution: tuple = (4, 4, 50)
    chunk: tuple = (8, 8, 8)


class RawLayers:
    """Writes and reads uncompressed precomputed layers, straight from the format's description."""

    Scale = Scale

    def write(self, folder, scales, kind="image"):
        folder = Path(folder)
        infos = [self._write_scale(folder, f"s{mip}", scale) for mip, scale in enumerate(scales)]
        info = {
            "type": kind,
            "data_type": scales[0].array.dtype.name,
            "num_channels": 1,
            "scales": infos,
        }
        (folder / "info").write_text(json.dumps(info))
        return folder

    def _write_scale(self, folder, key, scale):
        (folder / key).mkdir(parents=True)
        for begin, end in self._chunks(scale.array.shape, scale.chunk):
            data = scale.array[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))]
            name = "_".join(
                f"{a + o}-{b + o}" for a, b, o in zip(begin, end, scale.offset, strict=True)
            )
            (folder / key / name).write_bytes(data.tobytes("F"))
        return {
            "key": key,
            "encoding": "raw",
            "size": list(scale.array.shape),
            "voxel_offset": list(scale.offset),
            "resolution": list(scale.resolution),
            "chunk_sizes": [list(scale.chunk)],
        }

    def read(self, folder):
        """The first scale of an uncompressed layer, from its files alone."""
        folder = Path(folder)
        info = json.loads((folder / "info").read_text())
        scale = info["scales"][0]
        assert scale["encoding"] == "raw"
        out = np.empty(scale["size"], dtype=info["data_type"])
        for begin, end in self._chunks(scale["size"], scale["chunk_sizes"][0]):
            name = "_".join(
                f"{a + o}-{b + o}"
                for a, b, o in zip(begin, end, scale["voxel_offset"], strict=True)
            )
            data = np.frombuffer((folder / scale["key"] / name).read_bytes(), out.dtype)
            shape = [b - a for a, b in zip(begin, end, strict=True)]
            out[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))] = data.reshape(
                shape, order="F"
            )
        return out

    @staticmethod
    def _chunks(shape, chunk):
        counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        for index in np.ndindex(*counts):
            begin = [i * c for i, c in zip(index, chunk, strict=True)]
            yield begin, [min(a + c, n) for a, c, n in zip(begin, chunk, shape, strict=True)]


@pytest.fixture(scope="session")
def raw():
    return RawLayers()


@pytest.fixture
def least_peak() -> Callable[[Callable[[], object]], int]:
    """Measures the memory of some work: the least of three times, as others only add to it."""

    def measure(work: Callable[[], object]) -> int:
        peaks = []
        for _ in range(3):
            gc.collect()
            tracemalloc.start()
            try:
                work()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        return min(peaks)

    return measure
