"""What a finished run found, in lines for its end, and what looks wrong about it."""

from __future__ import annotations

from cnapse.errors import LayerNotFoundError
from cnapse.geometry import Grid
from cnapse.runs import LayerName, RunData
from cnapse.store import Store
from cnapse.tables import read_table
from cnapse.viewing.panels import as_probability

__all__ = ["outcome"]

# Below this share of synapses on cells, more is wrong than a few false ones.
_FEW = 0.5
_TABLES = ("synapses", "partners")
_BLOCK = (512, 512, 64)
# What is looked at to say why nothing was found: half a gigavoxel.
_MOST_BLOCKS = 32


def outcome(run: RunData) -> list[str]:
    """Tell what a finished run found.

    Parameters
    ----------
    run : RunData
        With its last stage done.

    Returns
    -------
    list of str
        How many synapses and partners, and where; what looks wrong, with the way out. Where no
        synapse was found, the reason is looked up in a part of the layers.
    """
    if run.given("cells") is None:
        return [_without_cells(run)]
    output = run.config.output
    try:
        cells = read_table(f"{output}/tables/synapses", columns=["pre_id"])["pre_id"].to_numpy()
        partners = len(read_table(f"{output}/tables/partners", columns=["syn_id"]))
    except LayerNotFoundError:
        return []
    if not len(cells):
        return [_why_none(run)]
    counts = f"{_counted(len(cells), 'synapse')}, {_counted(partners, 'partner')}"
    lines = [f"{counts}: {_where(output)}"]
    bare = int((cells == 0).sum())
    if bare > (1 - _FEW) * len(cells):
        lines.append(
            f"note: {bare} of {_counted(len(cells), 'synapse')} lie on no cell: are the cells "
            "shifted (compare voxel_offset and resolution in the layers' info), or do they leave "
            "out the membranes (layers.cells.grow_nm)? `cnapse view` shows it"
        )
    return lines


def _without_cells(run: RunData) -> str:
    if not _any(run, "synapses"):
        return _why_none(run)
    where = run.layer_path("synapses").removeprefix("file://")
    return f"synapses: {where}; no tables, since there is no layers.cells"


def _where(output: str) -> str:
    """The CSVs; long tables are several files, in a folder."""
    store = Store(output)
    several = [store.exists(f"csv/{name}-00000.csv") for name in _TABLES]
    names = [f"csv/{t}-*.csv" if s else f"{t}.csv" for t, s in zip(_TABLES, several, strict=True)]
    return f"{output.removeprefix('file://')}/{' and '.join(names)}"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number != 1 else ''}"


def _why_none(run: RunData) -> str:
    """Why there is no synapse, as far as the layers tell."""
    first, section = run.first_layer, run.config.label
    if not _any(run, first):
        return f"no synapse found: layers.{first} is 0 everywhere: check its path and [bounds]"
    highest = _highest(run)
    is_below = not section.binary and highest < section.threshold
    if first != "synapses" and is_below:
        check = "check layers.probability"
        if first == "image":
            check = "train a model on data like this with `cnapse train`"
        sampled = " in a sample of the blocks" if len(_blocks(run)) > _MOST_BLOCKS else ""
        return (
            f"no synapse found: the highest probability{sampled} is {highest:.3f}, and "
            f"label.threshold is {section.threshold:g}: lower it and run again with --redo, or "
            f"{check}"
        )
    most = f" and at most label.max_voxels = {section.max_voxels}" if section.max_voxels else ""
    return (
        "no synapse found: some voxels count, but no object has at least label.min_voxels = "
        f"{section.min_voxels}{most} voxels: change that and run again with --redo"
    )


def _blocks(run: RunData) -> Grid:
    return Grid(run.region, _BLOCK)


def _any(run: RunData, name: LayerName) -> bool:
    """Whether a layer is not 0 somewhere; most layers show it in their first block."""
    layer = run.layer(name)
    return any(layer.read(block.write).any() for block in _blocks(run))


def _highest(run: RunData) -> float:
    """The highest probability, of a sample of blocks if there are many."""
    layer, blocks = run.layer("probability"), _blocks(run)
    boxes = (block.write for block in blocks[:: -(-len(blocks) // _MOST_BLOCKS)])
    return max(float(as_probability(layer.read(box)).max()) for box in boxes)
