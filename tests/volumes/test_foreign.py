"""Every format, written by its own library in all its variants, comes in; tensorstore reads it."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.geometry import Box
from cnapse.volumes.ingest import IngestOptions, ingest, plan_ingest
from cnapse.volumes.sources import open_source

RESOLUTION = (4.6, 4.6, 50)
DTYPES = st.sampled_from(["uint8", "uint16", "uint32", "uint64", "int8", "int16", "float32"])
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
CHUNKS = st.tuples(*[st.integers(3, 17)] * 3)
LAYER_CHUNKS = st.tuples(st.integers(3, 20), st.integers(3, 20), st.integers(1, 9))
WIDE = st.tuples(*[st.integers(9, 25)] * 3)
OFFSETS = st.tuples(*[st.integers(-50, 50)] * 3)
ORDERS = st.permutations("zyx").map("".join)


def numbers(dtype, shape):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def place(path):
    return {"driver": "file", "path": f"{path}/"}


def create(path, driver, data, **spec):
    spec = {"driver": driver, "kvstore": place(path), **spec}
    store = tensorstore.open(spec, create=True, dtype=data.dtype, shape=data.shape).result()
    store.write(data).result()


def bring_in(path, destination, chunk, offset=None, resolution=None, **options):
    axes = options.pop("axes", None)
    options = IngestOptions(resolution=resolution, chunk_size=chunk, offset=offset, **options)
    plan = plan_ingest(open_source(path, axes=axes), destination, options)
    ingest(plan)
    return plan


def read_back(path):
    """A layer's voxels and where they begin, by tensorstore."""
    spec = {"driver": "neuroglancer_precomputed", "kvstore": place(path)}
    layer = tensorstore.open(spec, open=True, read=True).result()
    return layer[..., 0].read().result(), tuple(layer.domain.origin[:3])


def check(path, data, offset):
    found, begin = read_back(path)
    np.testing.assert_array_equal(found, data)
    assert found.dtype == data.dtype
    assert begin == offset


def turned(data, axes):
    return data.transpose(["xyz".index(axis) for axis in axes])


def zarr2(data, chunks, *, compressor, order, endian):
    kind = data.dtype.newbyteorder(endian).str if data.dtype.itemsize > 1 else data.dtype.str
    how = {"chunks": chunks, "compressor": compressor, "order": order, "dtype": kind}
    return {"metadata": how}


@given(
    dtype=DTYPES,
    shape=SHAPES,
    chunks=CHUNKS,
    layer_chunk=LAYER_CHUNKS,
    offset=OFFSETS,
    axes=ORDERS,
    compressor=st.sampled_from(
        [
            None,
            {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
            {"id": "zlib", "level": 1},
            {"id": "zstd", "level": 1},
            {"id": "bz2", "level": 1},
        ]
    ),
    order=st.sampled_from("CF"),
    endian=st.sampled_from("<>"),
    separator=st.sampled_from("./"),
)
@settings(max_examples=15, deadline=None)
def test_zarr_v2(
    dtype, shape, chunks, layer_chunk, offset, axes, compressor, order, endian, separator
):
    data = numbers(dtype, shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = zarr2(data, chunks, compressor=compressor, order=order, endian=endian)
        spec["metadata"]["dimension_separator"] = separator
        create(folder / "in", "zarr", turned(data, axes), **spec)
        assert json.loads((folder / "in" / ".zarray").read_text())["order"] == order
        bring_in(folder / "in", folder / "out", layer_chunk, offset, RESOLUTION, axes=axes)
        check(folder / "out", data, offset)


@given(
    dtype=DTYPES,
    shape=SHAPES,
    inner=st.tuples(*[st.integers(3, 9)] * 3),
    shards=st.none() | st.tuples(*[st.integers(1, 3)] * 3),
    layer_chunk=LAYER_CHUNKS,
    offset=OFFSETS,
    axes=ORDERS,
    codec=st.sampled_from(
        [
            None,
            {"name": "gzip", "configuration": {"level": 1}},
            {"name": "zstd", "configuration": {"level": 1}},
            {"name": "blosc", "configuration": {"cname": "zstd"}},
        ]
    ),
    endian=st.sampled_from(["little", "big"]),
    fortran=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_zarr_v3_in_shards_or_not(
    dtype, shape, inner, shards, layer_chunk, offset, axes, codec, endian, fortran
):
    data = numbers(dtype, shape)
    codecs = [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}] if fortran else []
    codecs += [{"name": "bytes", "configuration": {"endian": endian}}]
    codecs += [codec] if codec else []
    outer = inner
    if shards:
        inside = {"chunk_shape": inner, "codecs": codecs}
        codecs = [{"name": "sharding_indexed", "configuration": inside}]
        outer = [a * b for a, b in zip(inner, shards, strict=True)]
    grid = {"name": "regular", "configuration": {"chunk_shape": outer}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        metadata = {"chunk_grid": grid, "codecs": codecs}
        create(folder / "in", "zarr3", turned(data, axes), metadata=metadata)
        bring_in(folder / "in", folder / "out", layer_chunk, offset, RESOLUTION, axes=axes)
        check(folder / "out", data, offset)


@given(
    version=st.sampled_from(["zarr", "zarr3"]),
    dtype=DTYPES,
    shape=SHAPES,
    chunks=CHUNKS,
    layer_chunk=LAYER_CHUNKS,
    offset=OFFSETS,
    axes=ORDERS,
    unit=st.sampled_from([("nanometer", 1), ("micrometer", 1e-3)]),
)
@settings(max_examples=12, deadline=None)
def test_ome_zarr_by_its_metadata_alone(
    version, dtype, shape, chunks, layer_chunk, offset, axes, unit
):
    data = numbers(dtype, shape)
    unit, per_nm = unit
    sizes = [RESOLUTION["xyz".index(a)] * per_nm for a in axes]
    begins = [s * offset["xyz".index(a)] for a, s in zip(axes, sizes, strict=True)]
    transforms = [
        {"type": "scale", "scale": sizes},
        {"type": "translation", "translation": begins},
    ]
    image = {
        "axes": [{"name": a, "type": "space", "unit": unit} for a in axes],
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if version == "zarr":
            create(folder / "in/0", version, turned(data, axes), metadata={"chunks": chunks})
            (folder / "in/.zgroup").write_text('{"zarr_format": 2}')
            (folder / "in/.zattrs").write_text(json.dumps({"multiscales": [image]}))
        else:
            grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
            create(folder / "in/0", version, turned(data, axes), metadata={"chunk_grid": grid})
            attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
            group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            (folder / "in/zarr.json").write_text(json.dumps(group))
        plan = bring_in(folder / "in", folder / "out", layer_chunk)
        assert plan.slabs.bounds == Box.from_shape(shape, RESOLUTION, offset)
        check(folder / "out", data, offset)


@given(
    dtype=DTYPES,
    shape=SHAPES,
    chunks=CHUNKS,
    layer_chunk=LAYER_CHUNKS,
    offset=OFFSETS,
    compression=st.sampled_from(["raw", "gzip", "bzip2", "xz", "blosc", "zstd"]),
)
@settings(max_examples=12, deadline=None)
def test_n5(dtype, shape, chunks, layer_chunk, offset, compression):
    data = numbers(dtype, shape)
    how = {"type": compression}
    if compression == "blosc":
        how |= {"cname": "lz4", "clevel": 5, "shuffle": 1}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        metadata = {"blockSize": chunks, "compression": how}
        create(folder / "in", "n5", data, metadata=metadata)
        bring_in(folder / "in", folder / "out", layer_chunk, offset, RESOLUTION)
        check(folder / "out", data, offset)


SHARDS = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 2,
    "shard_bits": 1,
    "hash": "identity",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}


@given(
    dtype=st.sampled_from(["uint8", "uint16", "float32", "uint32", "uint64"]),
    shape=SHAPES,
    chunks=WIDE,
    layer_chunk=WIDE,
    offset=OFFSETS,
    sharded=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_precomputed_by_tensorstore(dtype, shape, chunks, layer_chunk, offset, sharded):
    data = numbers(dtype, shape)
    ids = dtype in ("uint32", "uint64")
    kind = "segmentation" if ids else "image"
    scale = {
        "size": shape,
        "resolution": RESOLUTION,
        "chunk_size": chunks,
        "voxel_offset": offset,
        "encoding": "compressed_segmentation" if ids else "raw",
        **({"compressed_segmentation_block_size": [4, 5, 6]} if ids else {}),
        **({"sharding": SHARDS} if sharded else {}),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": place(folder / "in"),
            "multiscale_metadata": {"type": kind, "data_type": dtype, "num_channels": 1},
            "scale_metadata": scale,
        }
        tensorstore.open(spec, create=True).result()[..., 0].write(data).result()
        bring_in(folder / "in", folder / "out", layer_chunk, kind=kind)
        check(folder / "out", data, offset)


@pytest.mark.parametrize("encoding", ["raw", "png", "compressed_segmentation", "compresso"])
def test_precomputed_by_cloudvolume(tmp_path, encoding):
    from cloudvolume import CloudVolume

    kind, dtype = ("image", "uint8") if encoding in ("raw", "png") else ("segmentation", "uint64")
    data = numbers(dtype, (37, 26, 19)) // 7
    made = CloudVolume.create_new_info(
        1, kind, dtype, encoding, RESOLUTION, (-3, 4, 5), data.shape, chunk_size=(16, 8, 8)
    )
    layer = CloudVolume(f"file://{tmp_path}/in", info=made, progress=False)
    layer.commit_info()
    layer[:, :, :] = np.asfortranarray(data)
    bring_in(tmp_path / "in", tmp_path / "out", (11, 12, 13), kind=kind)
    check(tmp_path / "out", data, (-3, 4, 5))


# --- blocks -------------------------------------------------------------------------------------


class Counted:
    """A source with chunks that counts how often each is touched."""

    name, dtype, resolution, begin = "counted", np.dtype("uint8"), RESOLUTION, None

    def __init__(self, shape, chunk_size):
        self.shape, self.chunk_size = shape, chunk_size
        self.touched = np.zeros([-(-n // c) for n, c in zip(shape, chunk_size, strict=True)], int)

    def read_into(self, out, start, row=0):
        _, y, z = self.chunk_size
        rows = slice(row // y, -(-(row + out.shape[1]) // y))
        self.touched[:, rows, start // z : -(-(start + out.shape[2]) // z)] += 1
        out[...] = 0

    def identity(self):
        return [["counted"]]


@pytest.mark.parametrize(
    ("stored", "times"),
    [
        ((64, 64, 64), 1),
        ((32, 64, 48), 1),
        ((32, 32, 16), 1),
        # Deeper ones would take more memory than whole sections do.
        ((128, 128, 128), 4),
        ((300, 300, 64), 4),
        # Rows that are no whole chunks of the layer are decoded by two neighbours.
        ((100, 100, 16), 2),
    ],
)
def test_stored_chunks_are_decoded_once_where_memory_allows(tmp_path, stored, times):
    source = Counted((300, 300, 200), stored)
    options = IngestOptions(resolution=RESOLUTION, chunk_size=(64, 64, 16))
    plan = plan_ingest(source, tmp_path / "out", options)
    ingest(plan)
    assert source.touched.max() == times
    assert source.touched.min() >= 1
    assert plan.blocks(0)[0].write.voxels <= 300 * 300 * 16


@given(
    shape=SHAPES,
    stored=st.tuples(*[st.integers(1, 50)] * 3),
    chunk=st.tuples(*[st.integers(1, 20)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_blocks_are_the_volume_in_whole_chunks_and_never_more_than_sections(shape, stored, chunk):
    options = IngestOptions(resolution=RESOLUTION, chunk_size=chunk)
    plan = plan_ingest(Counted(shape, stored), "/nowhere", options)
    count = np.zeros(shape, int)
    for slab in plan.slabs:
        for block in plan.blocks(slab.index):
            count[block.write.slices(plan.slabs.bounds)] += 1
            for axis in (1, 2):
                assert block.write.start[axis] % chunk[axis] == 0
            assert block.write.voxels <= shape[0] * shape[1] * min(chunk[2], shape[2])
    assert (count == 1).all()
