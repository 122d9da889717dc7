"""Meshes by block: closed, in place, none lost; shards that others read."""

import struct

import DracoPy
import numpy as np
import pytest
import tensorstore as ts

from cnapse.geometry import Box, Grid
from cnapse.store import Store
from cnapse_tasks import igneous
from cnapse_tasks.meshing import Target, _halvings, keep_pieces, pieces_of, put_shard, with_rim

RESOLUTION = (16, 16, 50)
UNIT = np.array(RESOLUTION) / igneous.UNITS_PER_VOXEL


def target_of(box, block, bits=0) -> Target:
    return Target("cells", Grid(box, block, halo_upper=(1, 1, 1)), bits)


def surfaces_of(labels, box, block) -> dict[int, list[igneous.Surface]]:
    found: dict[int, list[igneous.Surface]] = {}
    for own in target_of(box, block).grid:
        part, where = with_rim(labels[own.read.slices(box)], own.read, box)
        for label, surface in igneous.block_surfaces(part, where).items():
            found.setdefault(label, []).append(surface)
    return found


def decoded(manifest: bytes, data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Triangles of each level, after the format's specification alone."""
    chunk, origin = np.frombuffer(manifest, "<f4", 6).reshape(2, 3)
    (levels,) = struct.unpack_from("<I", manifest, 24)
    at = 28 + 16 * levels  # scales, offsets of vertices
    counts = np.frombuffer(manifest, "<u4", levels, at)
    at += 4 * levels
    found, start = [], 0
    for level, count in enumerate(counts.tolist()):
        places = np.frombuffer(manifest, "<u4", 3 * count, at).reshape(3, count).T
        sizes = np.frombuffer(manifest, "<u4", count, at + 12 * count)
        at += 16 * count
        triangles = []
        for place, size in zip(places, sizes.tolist(), strict=True):
            if size:
                mesh = DracoPy.decode(data[start : start + size])
                start += size
                top = 2**igneous.QUANTIZATION_BITS - 1
                points = origin + chunk * 2**level * (place + mesh.points / top)
                triangles.append((points * UNIT)[mesh.faces])
        found.append(np.concatenate(triangles))
    assert start == len(data)
    assert at == len(manifest)
    return found


def volume(triangles) -> float:
    a, b, c = triangles.transpose(1, 0, 2)
    return float(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6)


@pytest.mark.parametrize("block", [(64, 64, 24), (24, 40, 9)])
def test_a_ball_is_closed_and_in_place_in_every_level(block) -> None:
    """Its volume tells: a hole where blocks meet, or a face there twice, would change it."""
    box = Box.from_shape((64, 64, 24), RESOLUTION, (1000, -50, 30))
    x, y, z = np.indices(box.shape)
    inside = ((x - 31) * 16) ** 2 + ((y - 30) * 16) ** 2 + ((z - 11) * 50) ** 2 < 450**2
    labels = np.where(inside, np.uint64(2**60 + 1), np.uint64(0))
    (pieces,) = surfaces_of(labels, box, block).values()
    made = igneous.multires_mesh(pieces, RESOLUTION, 2, least=16)
    assert made is not None
    levels = decoded(*made)
    assert len(levels) > 1
    assert len(levels[1]) < len(levels[0])
    corners = np.argwhere(inside).min(0), np.argwhere(inside).max(0) + 1
    for triangles, tolerance in zip(levels, (0.04, 0.1, 0.2), strict=False):
        flat = triangles.reshape(-1, 3)
        expected = (np.array(corners) + box.start) * RESOLUTION
        np.testing.assert_allclose([flat.min(0), flat.max(0)], expected, atol=50)
        centred = triangles - flat.mean(0)
        assert volume(centred) == pytest.approx(inside.sum() * 16 * 16 * 50, rel=tolerance)


def test_the_smallest_and_thinnest_objects_are_not_lost() -> None:
    """igneous itself drops what is thinner than a voxel after it was simplified."""
    box = Box.from_shape((40, 40, 10), RESOLUTION)
    labels = np.zeros(box.shape, np.uint64)
    labels[3, 3, 3] = 1
    labels[0, 39, 9] = 2
    labels[8:38, 8:38, 5] = 3
    labels[6, 8:38, 2:8] = 4
    found = surfaces_of(labels, box, (16, 16, 4))
    for label in range(1, 5):
        made = igneous.multires_mesh(found[label], RESOLUTION, 2)
        assert made is not None, label
        points = decoded(*made)[0].reshape(-1, 3)
        voxels = np.argwhere(labels == label)
        expected = np.array([voxels.min(0), voxels.max(0) + 1]) * RESOLUTION
        np.testing.assert_allclose([points.min(0), points.max(0)], expected, atol=8)


def test_shards_hold_what_tensorstore_finds_in_them(tmp_path) -> None:
    """Objects of several blocks, in the shards in which the format looks for them."""
    box = Box.from_shape((8, 8, 8), RESOLUTION)
    target = target_of(box, (8, 8, 8), bits=2)
    store = Store(tmp_path / "pieces")
    labels = [1, 2, 3, 77, 2**40 + 1, 2**64 - 1, *range(100, 140)]
    for block, own in enumerate((labels[:30], labels[20:])):
        pieces = {n: (np.full((2, 3), n % 97 + block, np.float32),) for n in own}
        keep_pieces(store, block, target, pieces)
    expected = {}
    for shard in range(target.shards):
        objects = {}
        for label, pieces in pieces_of(store, shard).items():
            assert len(pieces) == (2 if label in labels[20:30] else 1)
            text = b"".join(piece[0].tobytes() for piece in pieces)
            objects[label] = (b"fragments", text)
            expected[label] = text
        put_shard(Store(tmp_path / "out"), "meshes", target, objects)
    assert sorted(expected) == sorted(labels)
    spec = {
        "driver": "neuroglancer_uint64_sharded",
        "base": f"file://{tmp_path}/out/meshes/",
        "metadata": target.sharding,
    }
    shards = ts.KvStore.open(spec).result()
    for label, text in expected.items():
        assert shards.read(label.to_bytes(8, "big")).result().value == text


@pytest.mark.parametrize(
    ("resolution", "cells", "synapses"),
    [((4, 4, 50), 2, 1), ((8, 8, 8), 1, 0), ((4.6, 4.6, 45), 1, 0), ((32, 32, 40), 0, 0)],
)
def test_voxels_are_halved_as_far_as_suits_the_layer(resolution, cells, synapses) -> None:
    assert _halvings(resolution, "cells") == cells
    assert _halvings(resolution, "synapses") == synapses
