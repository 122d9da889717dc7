"""Each stage's own requests, bytes and work: one function a stage, keyed by its name.

What depends on voxels is counted exactly; what depends on synapses is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cnapse.geometry import Grid, Triple, triple
from cnapse_tasks import assign, join, measure, pyramid
from cnapse_tasks.igneous import factor_of
from cnapse_tasks.planning.layers import Stored, detect_spans, network_pixels, stored
from cnapse_tasks.planning.requests import Counted, Requests
from cnapse_tasks.planning.scene import Scene
from cnapse_tasks.planning.spans import Spans, spans_of
from cnapse_tasks.planning.tissue import some
from cnapse_tasks.planning.viewer_loads import VIEWER_LOADS
from cnapse_tasks.run import Run

__all__ = ["STAGE_LOADS"]

# igneous.downsample_scales.compute_factors
_ROUNDING = 1e-4
_PARTLY = 0.05
_OPENED = 4


def _detect(scene: Scene) -> tuple[int, Counted]:
    run = scene.run
    image, made = stored(run, "image"), scene.probability
    written = spans_of(run.grid("detect"))
    inside, tiled, read = detect_spans(run)
    data = Counted(
        voxels=read.voxels,
        bytes_read=image.bytes(read),
        bytes_written=made.bytes(written),
        requests=Requests(get=image.chunks(read), put=made.chunks(written)),
        predicted=inside.voxels,
        work={"pixel": network_pixels(run, tiled)},
    )
    return len(written), data


def _label(scene: Scene) -> tuple[int, Counted]:
    run, read = scene.run, scene.labelled
    grid = run.grid("label")
    data = Counted(
        voxels=read.voxels,
        bytes_read=scene.probability.bytes(read),
        requests=Requests(get=scene.probability.chunks(read), put=scene.scatter.occupied(grid)),
        work={"voxel": float(read.voxels)},
        block=read,
    )
    return len(grid), data


def _join(scene: Scene) -> tuple[int, Counted]:
    blocks, superblocks = len(scene.run.grid("label")), len(join.grid_of(scene.run))
    requests = Requests(get=blocks, put=_with_touching(scene) + superblocks)
    return superblocks, Counted(0, requests, {"block": float(blocks)})


def _stitch(scene: Scene) -> tuple[int, Counted]:
    blocks = len(scene.run.grid("label"))
    if not join.is_needed(scene.run):
        requests = Requests(get=blocks, put=_with_touching(scene))
        return 1, Counted(0, requests, {"block": float(blocks)})
    superblocks = len(join.grid_of(scene.run))
    faces = blocks ** (2 / 3) * superblocks ** (1 / 3)
    return 1, Counted(0, Requests(get=superblocks, put=superblocks), {"block": faces})


def _with_touching(scene: Scene) -> float:
    """How many blocks have labels that go on in another."""
    grid, scatter = scene.run.grid("label"), scene.scatter
    cut = scatter.pieces(grid) - scatter.whole(grid)
    blocks = max(1, len(spans_of(grid).clipped(scene.run.region)))
    return blocks * some(scatter.synapses * max(0.0, cut) / blocks)


def _relabel(scene: Scene) -> tuple[int, Counted]:
    tasks, again = _label(scene)
    written = spans_of(scene.run.grid("label"))
    # Its record, and the ids of its touching labels; with superblocks these are in two files.
    mappings = 2 if join.is_needed(scene.run) else 1
    records = tasks + mappings * scene.scatter.occupied(scene.run.grid("label"))
    made = scene.synapses
    data = Counted(
        voxels=again.voxels,
        bytes_read=again.bytes_read,
        bytes_written=made.bytes(written),
        requests=Requests(
            get=scene.probability.chunks(scene.labelled) + records,
            put=made.chunks(written),
        ),
        work=again.work,
        block=again.block,
    )
    return tasks, data


def _measure(scene: Scene) -> tuple[int, Counted]:
    run, scatter = scene.run, scene.scatter
    grid = run.grid("measure")
    every = spans_of(grid)
    counted = every.clipped(run.region)
    share = scatter.occupied(grid) / max(1, len(counted))
    # Of blocks without synapses neither cells nor probability are read.
    inner = spans_of(grid) if run.region == run.frame else _blocks_of(grid, counted)
    cells = scene.wide_cells(inner)
    get = scene.synapses.chunks(every) + share * scene.cells.chunks(cells)
    read = scene.synapses.bytes(every) + share * scene.cells.bytes(cells)
    if measure.has_probability(run):
        get += share * scene.probability.chunks(inner)
        read += share * scene.probability.bytes(inner)
    parts = scene.parts_of(grid, scatter.in_block(grid))
    data = Counted(
        voxels=every.voxels,
        bytes_read=read,
        requests=Requests(get=get, put=scatter.occupied(grid) * parts),
        work={"voxel": float(every.voxels)},
        block=every,
    )
    return len(grid), data


def _blocks_of(grid: Grid, counted: Spans) -> Spans:
    """The whole blocks of the parts of blocks that count."""
    low, size, high = grid.bounds.start, grid.block_shape, grid.bounds.stop

    def whole(axis: int, span: tuple[int, int]) -> tuple[int, int]:
        start = low[axis] + (span[0] - low[axis]) // size[axis] * size[axis]
        return start, min(start + size[axis], high[axis])

    return counted.mapped(whole)


def _tabulate(scene: Scene) -> tuple[int, Counted]:
    run, scatter = scene.run, scene.scatter
    grid, lists = run.grid("measure"), run.grid("assign")
    files = scatter.occupied(grid) * scene.parts_of(grid, scatter.in_block(grid))
    objects = scatter.in_block(lists, pieces=False)
    listed = scatter.occupied(lists, pieces=False) * scene.parts_of(lists, objects)
    data = Counted(
        voxels=0,
        requests=Requests(
            get=files,
            put=scene.parts + listed,
            list=scene.parts * scene.pages(files / scene.parts),
        ),
        work={"part": float(scene.parts), "synapse": scatter.synapses},
    )
    return scene.parts, data


def _assign(scene: Scene) -> tuple[int, Counted]:
    run, scatter = scene.run, scene.scatter
    grid = run.grid("assign")
    mean = scatter.in_block(grid, pieces=False)
    occupied = scatter.occupied(grid, pieces=False)
    usual, widest = _hulls(scene, grid, mean / max(some(mean), 1e-9))
    voxels = usual.voxels / max(1, len(usual))
    batches = _batches(scene, usual, voxels)
    get = listed = occupied * scene.parts_of(grid, mean)
    bytes_read = 0.0
    for layer, times in _read_by_assign(scene):
        reads = occupied * times * batches
        get += reads * _chunks_of_one(layer, usual, widest, batches)
        bytes_read += reads * voxels / batches * layer.itemsize
    data = Counted(
        voxels=round(occupied * voxels),
        bytes_read=bytes_read,
        requests=Requests(get=get, put=2 * listed, list=len(grid)),
        work={"voxel": occupied * voxels, "synapse": scatter.synapses},
        block=_at_most(widest, assign.LARGEST_READ_VOXELS),
    )
    return len(grid), data


def _hulls(scene: Scene, grid: Grid, objects: float) -> tuple[Spans, Spans]:
    """What is read for a block with so many objects: usually, and at most.

    The first voxels of n objects strewn over a length lie between 1/(n + 1) and n/(n + 1) of it.
    """
    run = scene.run
    padding = assign.parameters(run).padding_vx(run.config.resolution)
    inside = spans_of(grid).clipped(run.region)
    spare = (1 / (objects + 1), objects / (objects + 1))

    def hull(axis: int, span: tuple[int, int], ends: tuple[float, float]) -> tuple[int, int]:
        length, wide = span[1] - span[0], padding[axis]
        start = span[0] + ends[0] * length - wide
        stop = span[0] + ends[1] * length + scene.scatter.extent[axis] + wide
        return max(round(start), run.frame.start[axis]), min(round(stop), run.frame.stop[axis])

    usual = inside.mapped(lambda axis, span: hull(axis, span, spare))
    return usual, inside.mapped(lambda axis, span: hull(axis, span, (0.0, 1.0)))


def _batches(scene: Scene, usual: Spans, voxels: float) -> float:
    """In how many parts a block is read: slabs in z that overlap by a cutout."""
    most = assign.LARGEST_READ_VOXELS
    if voxels <= most:
        return 1.0
    x, y, z = usual.largest
    padding = assign.parameters(scene.run).padding_vx(scene.run.config.resolution)
    one = scene.scatter.extent[2] + 2 * padding[2]
    deep = max(one + 1, most / (x * y))
    return max(1.0, (z - one) / (deep - one))


def _chunks_of_one(layer: Stored, usual: Spans, widest: Spans, batches: float) -> float:
    """How many chunks one read touches on average: of its usual width, but lying anywhere."""
    found = 1.0
    stored, limits = layer.below(usual), layer.below(widest)
    for axis, chunk in enumerate(layer.chunk):
        spans = list(zip(stored.axes[axis], limits.axes[axis], strict=False))
        cut = batches if axis == 2 else 1.0
        origin = layer.bounds.start[axis]
        touched = [
            min(
                1 + ((b - a) / cut - 1) / chunk,
                float((high - 1 - origin) // chunk - (low - origin) // chunk + 1),
            )
            for (a, b), (low, high) in spans
        ]
        found *= sum(touched) / max(1, len(touched))
    return found


def _at_most(spans: Spans, voxels: int) -> Spans:
    """The largest box, made lower where it has more voxels than are read at once."""
    x, y, z = spans.largest
    return Spans((((0, x),), ((0, y),), ((0, min(z, max(1, voxels // max(1, x * y)))),)))


def _read_by_assign(scene: Scene) -> list[tuple[Stored, int]]:
    """The layers that assignment reads, and how often each chunk."""
    layers = [(scene.synapses, 1), (scene.cells, 1)]
    if scene.run.config.layers.vesicles is not None:
        layers.append((stored(scene.run, "vesicles"), 1))
    if scene.run.config.layers.direction is not None:
        layers.append((stored(scene.run, "direction"), 3))
    return layers


def _gather(scene: Scene) -> tuple[int, Counted]:
    run, scatter = scene.run, scene.scatter
    grid = run.grid("assign")
    objects = scatter.in_block(grid, pieces=False)
    files = scatter.occupied(grid, pieces=False) * scene.parts_of(grid, objects)
    names = 1 if run.config.names else 0
    data = Counted(
        voxels=0,
        requests=Requests(
            get=2 * files + (1 + names) * scene.parts,
            put=2 * scene.parts,
            list=2 * scene.parts * scene.pages(files / scene.parts),
        ),
        work={"part": float(scene.parts), "synapse": scatter.synapses},
    )
    return scene.parts, data


def _export(scene: Scene) -> tuple[int, Counted]:
    run, scatter = scene.run, scene.scatter
    grid = run.grid("measure")
    files = scatter.occupied(grid) * scene.parts_of(grid, scatter.in_block(grid))
    data = Counted(
        voxels=0,
        requests=Requests(get=2 * scene.parts, put=2, list=2 * scene.pages(files)),
        work={"part": float(scene.parts), "synapse": scatter.synapses},
    )
    return 1, data


def _pyramid(scene: Scene) -> tuple[int, Counted]:
    run = scene.run
    names = pyramid.made_layers(run) if pyramid.levels(run) else []
    blocks = spans_of(pyramid.grid_of(run))
    scales = _scales(scene, blocks)
    # igneous opens the layer in every task: info and provenance, twice.
    get = _OPENED * len(names) * len(blocks)
    put = bytes_read = bytes_written = 0
    for name in names:
        layer = stored(run, name)
        get += layer.chunks(blocks)
        bytes_read += layer.bytes(blocks)
        put += sum(scale.chunks((0, 0, 0), run.chunk) for scale in scales)
        bytes_written += layer.itemsize * sum(scale.voxels for scale in scales)
    data = Counted(
        voxels=len(names) * blocks.voxels,
        bytes_read=bytes_read,
        bytes_written=bytes_written,
        requests=Requests(get=get, put=put),
        work={name: float(blocks.voxels) for name in names},
        block=blocks,
    )
    return len(names) * len(blocks), data


def _shard(scene: Scene) -> tuple[int, Counted]:
    run = scene.run
    scales = _scales(scene, spans_of(pyramid.grid_of(run))) if pyramid.levels(run) else []
    whole = spans_of(Grid(run.frame, run.frame.shape)).mapped(
        lambda _, span: (0, span[1] - span[0])
    )
    tasks = chunks = read = 0
    for name in pyramid.made_layers(run):
        size = stored(run, name).itemsize
        for scale in (whole, *scales):
            tasks += _shards(run, name, triple([axis[-1][1] for axis in scale.axes]))
            chunks += scale.chunks((0, 0, 0), run.chunk)
            read += size * scale.voxels
    data = Counted(
        voxels=len(pyramid.made_layers(run)) * run.frame.voxels,
        bytes_read=read,
        bytes_written=read,
        requests=Requests(get=chunks, put=tasks),
        work={"byte": float(read)},
    )
    return tasks, data


def _shards(run: Run, name: pyramid.Made, shape: Triple) -> int:
    """Into how many files a scale of a layer is packed."""
    from cnapse.volumes.sharded import shard_grid, sharding_of

    scale = {
        "size": shape,
        "chunk_sizes": [run.chunk],
        "encoding": getattr(run.config.storage, name),
        "resolution": run.frame.resolution,
        "voxel_offset": (0, 0, 0),
    }
    dtype = "uint8" if name == "probability" else "uint64"
    how = sharding_of(dtype, scale)
    return len(shard_grid({"scales": [{**scale, "sharding": how}]}, 0))


def _scales(scene: Scene, blocks: Spans) -> list[Spans]:
    """The coarser scales that are made, in blocks that begin at the first voxel."""
    run = scene.run
    factor = factor_of(run.frame.resolution)
    made = _levels_made(run.frame.shape, run.chunk, factor, pyramid.levels(run))
    return [
        _coarser(blocks, run.frame.start, [f**level for f in factor])
        for level in range(1, made + 1)
    ]


def _levels_made(shape: Triple, chunk: Triple, factor: Triple, levels: int) -> int:
    """How many mips igneous makes: none beyond one chunk along an axis that shrinks.

    Where the volume ends before the last chunk is full, one more if it then fits into a chunk.
    """
    axes = [
        (min(n, c * f**levels), n, c, f)
        for n, c, f in zip(shape, chunk, factor, strict=True)
        if f > 1
    ]
    exact = min(math.log(span / c) / math.log(f) for span, _, c, f in axes) + _ROUNDING
    if exact < _ROUNDING:
        return 0
    whole = int(exact)
    fits = all(n / f ** math.ceil(exact) < c for _, n, c, f in axes)
    return min(levels, whole + (fits and exact - whole > _PARTLY))


def _coarser(blocks: Spans, origin: Triple, factor: Sequence[int]) -> Spans:
    """Blocks of whole chunks of every mip, counted from the layer's first voxel in a mip."""

    def scaled(axis: int, span: tuple[int, int]) -> tuple[int, int]:
        start, stop = (v - origin[axis] for v in span)
        return start // factor[axis], -(-stop // factor[axis])

    return blocks.mapped(scaled)


STAGE_LOADS: dict[str, Callable[[Scene], tuple[int, Counted]]] = {
    "detect": _detect,
    "label": _label,
    "join": _join,
    "stitch": _stitch,
    "relabel": _relabel,
    "measure": _measure,
    "tabulate": _tabulate,
    "assign": _assign,
    "gather": _gather,
    "export": _export,
    "pyramid": _pyramid,
    "shard": _shard,
    **VIEWER_LOADS,
}
