"""``cnapse.toml`` as frozen, validated records.

Relative paths count from the folder of the file. Every mistake is one line that names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cnapse.geometry import Box, Resolution, Triple
from cnapse.store import cloud_path
from cnapse.toml import Section, TomlFile, read_toml

__all__ = [
    "AssignSection",
    "BoundsSection",
    "Config",
    "DetectSection",
    "LabelSection",
    "LayerSection",
    "LayersSection",
    "LinkSection",
    "MeasureSection",
    "MeshesSection",
    "PyramidSection",
    "StorageSection",
    "TasksSection",
    "ViewerSection",
    "load_config",
]

Positive = Annotated[int, Field(ge=1)]
BlockShape = tuple[Positive, Positive, Positive]

_SMALLEST_CREDIBLE_NM = 0.05


class LayerSection(Section):
    """One layer: its path, and what is known of it."""

    path: str
    """Folder of a precomputed layer, or its address in a bucket or on a web server."""
    version: str = ""
    """Change it after an edit in place: what depends on the layer is then made again."""
    fill_missing: bool = False
    """Read chunks that are not there as zeros."""
    grow_nm: Annotated[float, Field(ge=0)] = 0.0
    """Cells only: grow them so far, in the plane, into what belongs to no cell."""


def _as_layer(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Layer = Annotated[LayerSection, BeforeValidator(_as_layer)]


class LayersSection(Section):
    """Layers made elsewhere; a run starts from the latest of them in the order of the stages."""

    image: Layer | None = None
    """EM, uint8 or uint16. Needed unless the run starts from one of the next."""
    cells: Layer | None = None
    """Segmentation of cells. Without it a run only finds where synapses are, and makes no
    tables."""
    probability: Layer | None = None
    """A map of another network, or a hand-drawn binary one: the run starts at ``label``."""
    synapses: Layer | None = None
    """A synapse segmentation: the run starts at ``measure``."""
    vesicles: Layer | None = None
    """A map or a segmentation of vesicles, for ``assign.density = "cleft"``."""
    direction: Layer | None = None
    """Three channels x, y, z: vectors from post to pre, for ``assign.density = "cleft"``."""
    mask: Layer | None = None
    """Where it is 0, or is not at all, the probability is 0: only the rest is looked at."""


class BoundsSection(Section):
    """The voxels that count, at the working resolution; all others have probability 0."""

    start: Triple
    """First voxel, x, y, z."""
    stop: Triple
    """One past the last voxel, x, y, z."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if any(a >= b for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"start {self.start} must be below stop {self.stop} in every axis")
        return self


class DetectSection(Section):
    """From image to probability."""

    model: str = ""
    """Folder of a model bundle, or the name of a shipped one."""
    block: BlockShape | None = None
    """Voxels of a task; rounded up to whole tiles of the model."""
    zero_is_missing: bool = False
    """Image value 0 means that there is no image: probability is 0 there."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's arithmetic: bfloat16 is about twice as fast, and not quite the same."""
    device: str = "cpu"
    """As torch names it: "cuda" for a graphics card (never tried on one)."""
    batch: Positive = 1
    """Tiles that are predicted at once: more need more memory, and change nothing else."""
    augment: Literal["none", "flips", "all"] = "none"
    """Mean over the image flipped in x and y, and turned by quarters: 4 and 8 times the work."""
    compile: bool = False
    """Whether to try `torch.compile`; the records of the tasks say which path was taken."""
    tile: tuple[Positive, Positive] | None = None
    """Pixels predicted at a time instead of the model's, if its statistics are frozen."""


class LabelSection(Section):
    """From probability to objects."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A voxel counts from this probability on."""
    binary: bool = False
    """The map is hand-drawn: every voxel that is not 0 counts."""
    connectivity: Literal[6, 18, 26] = 26
    """Which voxels touch: those that share a face (6), also an edge (18), also a corner (26)."""
    min_voxels: Positive = 1
    """Smaller objects are dropped; whole objects count, not their parts in a block."""
    max_voxels: Positive | None = None
    """Larger objects are dropped; whole objects count here, too."""
    channel: Annotated[int, Field(ge=0)] | str | None = None
    """Of a map of several classes: name or number; else "synapse", "density" or the first."""
    block: BlockShape | None = None
    """Voxels of a task; results do not depend on it."""


class MeasureSection(Section):
    """Size, place and presynaptic cell of each object."""

    weak_presynaptic: Annotated[float, Field(ge=0, le=1)] = 0.6
    """A presynaptic cell with a smaller share of the object's voxels on cells is flagged."""
    block: BlockShape | None = None
    """Voxels of a task; results do not depend on it."""


class AssignSection(Section):
    """Partner assignment: a published set of parameters, and what differs from it."""

    preset: Literal["cnapse", "witvliet"] = "cnapse"
    """The published set of parameters: Cnapse's, or that of Witvliet et al. 2021."""
    only: str = ""
    """CSV whose first column lists the cells that may be partners."""
    method: Literal["harmonic", "montecarlo", "both", "contact"] | None = None
    """How partners are found. "harmonic": the diffusion solved exactly; "montecarlo": random walks,
    as published; "both": the exact rows, and how far the walks disagree; "contact": no diffusion,
    the share of apposed membrane, as a baseline."""
    density: Literal["presynaptic", "cleft"] | None = None
    """What objects are: on the presynaptic side, or "cleft" if they cover both sides of it. Then
    the presynaptic cell is looked for, by `layers.vesicles` or `layers.direction`."""
    vesicle_reach_nm: Annotated[float, Field(gt=0)] | None = None
    """For "cleft": how far from the object vesicles count; at most `padding_nm`."""
    min_margin: Annotated[float, Field(gt=0, le=1)] | None = None
    """For "cleft": how far one cell must be ahead of the next, as a share, to be presynaptic."""
    rule: Literal["near", "extracellular"] | None = None
    """From which voxels transmitter is released: "near" allows other cells, "extracellular" does
    not."""
    particles: Positive | None = None
    """Random walks for each synapse. The exact solution knows no particles, but a cell with less
    than the share of one is no partner."""
    step_nm: Annotated[float, Field(gt=0)] | None = None
    """Length of a step of the walks; the exact solution is that of walks with such steps."""
    max_steps: Positive | None = None
    """A walk that has reached nothing after so many steps is lost."""
    standard_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Release more particles, until the sampling error of every share is at most this."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None
    """No share of the exact solution is off by more than this."""
    padding_nm: Annotated[float, Field(ge=0)] | None = None
    """How far beyond the synapse's bounding box cells are looked at."""
    min_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """A cell with at most this share of all the transmitter is no partner. 0 keeps every cell that
    the published walks could find."""
    directions: Positive | None = None
    """Directions that a step of a walk may take, spread evenly over the sphere."""
    pre_reach_vx: tuple[int, int, int] | None = None
    """How far from the presynaptic cell transmitter is released: half axes x, y, z of a ball. Left
    out: the rule's published ones."""
    density_reach_vx: tuple[int, int] | None = None
    """How far from the density, in the section, transmitter is released: towards lower and higher x
    and y. Left out: the rule's published ones."""
    pre_reach_nm: Annotated[float, Field(gt=0)] | None = None
    """The same as `pre_reach_vx` in nm, for other voxel sizes; it goes before it."""
    density_reach_nm: Annotated[float, Field(gt=0)] | None = None
    """The same as `density_reach_vx` in nm, for other voxel sizes; it goes before it."""
    lost_limit: Annotated[float, Field(ge=0, le=1)] | None = None
    """A synapse that loses a larger share of its transmitter is flagged `many_lost`."""
    near_cut_sigmas: Annotated[float, Field(ge=0)] | None = None
    """A synapse with a share so near to `min_share` is flagged `near_cut`."""
    max_box_voxels: Positive | None = None
    """A synapse with a larger box around it is flagged `too_large` and passed over."""
    block: BlockShape | None = None
    """Voxels of a task; results do not depend on it."""

    _OWN: ClassVar[frozenset[str]] = frozenset({"preset", "block", "only"})

    def overrides(self) -> dict[str, Any]:
        """The parameters that were set, by name."""
        given = self.model_dump(exclude_none=True)
        return {name: value for name, value in given.items() if name not in self._OWN}


class StorageSection(Section):
    """How the layers that a run makes are stored; all of it without loss."""

    probability: Literal["raw", "png"] = "raw"
    """Encoding of the chunks; in buckets ``raw`` ones are gzip'd."""
    synapses: Literal["compressed_segmentation", "compresso", "raw"] = "compressed_segmentation"
    """The same; tensorstore does not read ``compresso``."""
    sharded: bool = False
    """At the end, pack each layer into few large files below the folder ``sharded``."""


class PyramidSection(Section):
    """Coarser scales of the layers that a run makes."""

    levels: Annotated[int, Field(ge=0, le=12)] = 3
    """How often voxels are halved; 0 makes none."""


class ViewerSection(Section):
    """What is laid beside the layers for Neuroglancer, made of the tables."""

    properties: bool = True
    """Names, types and numbers of cells and synapses, to search and sort them by."""
    annotations: bool = True
    """Lines from presynaptic to postsynaptic cells, as an annotation layer."""


class MeshesSection(Section):
    """Meshes and skeletons for the viewer; made where this section is, or with ``--meshes``."""

    layers: tuple[Literal["cells", "synapses"], ...] = ("cells", "synapses")
    """Of which layers there are meshes."""
    mip: Annotated[int, Field(ge=0, le=12)] | None = None
    """How often voxels are halved (in the plane, where sections are thick) before; default as far
    as they stay within 16 nm for cells and 8 nm for synapses."""
    shape: BlockShape | None = None
    """Voxels of a task, at that size."""
    lod: Annotated[int, Field(ge=0, le=8)] = 2
    """Coarser levels of detail of large objects, at most."""
    sharded: bool = True
    """Pack many objects into a file; else two files for each."""
    skeletons: bool = False
    """Also skeletons of the cells."""


class LinkSection(Section):
    """Public addresses, so that every row can link to Neuroglancer."""

    viewer: str = "https://neuroglancer-demo.appspot.com"
    """An address, or ``neuroglancer``, or ``spelunker``."""
    image: str = ""
    """Address of the image that everyone can read: gs://, s3:// or https://."""
    cells: str = ""
    """The same of the cells."""
    synapses: str = ""
    """The same of the layer `synapses` that the run makes."""
    output: str = ""
    """Of the output folder: `cnapse link` then shows its lines, names and meshes too."""


class TasksSection(Section):
    """How tasks are tried."""

    tries: Positive = 3
    """A task that failed so often is set aside with its traceback."""
    lease_seconds: Annotated[int, Field(ge=10)] = 60
    """A task is kept from other workers so long; renewed while it runs."""


class Config(TomlFile):
    """A whole ``cnapse.toml``."""

    output: str
    """Folder or bucket that the run writes to: layers, tables and records."""
    resolution: Resolution
    """Voxel size in nm at which everything is done; other layers are brought to it."""
    layers: LayersSection
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the random walks: another seed, another sample."""
    names: str = ""
    """CSV of segment id and name."""
    block: BlockShape | None = None
    """Block of every stage that does not set its own; a multiple of the layers' chunks."""
    bounds: BoundsSection | None = None
    detect: DetectSection = DetectSection()
    label: LabelSection = LabelSection()
    measure: MeasureSection = MeasureSection()
    assign: AssignSection = AssignSection()
    pyramid: PyramidSection = PyramidSection()
    viewer: ViewerSection = ViewerSection()
    meshes: MeshesSection | None = None
    storage: StorageSection = StorageSection()
    link: LinkSection = LinkSection()
    tasks: TasksSection = TasksSection()

    @field_validator("resolution")
    @classmethod
    def _check_unit(cls, value: Resolution) -> Resolution:
        if any(v <= 0 for v in value):
            raise ValueError(f"a voxel size must be positive, not {list(value)}")
        if any(v < _SMALLEST_CREDIBLE_NM for v in value):
            in_nm = ", ".join(f"{v * 1000:g}" for v in value)
            raise ValueError(f"{list(value)} looks like micrometres: give nm, [{in_nm}]")
        return value

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        given = self.layers
        if not (given.image or given.probability or given.synapses):
            raise ValueError("layers: give at least one of image, probability and synapses")
        if (given.vesicles or given.direction) and self.assign.density != "cleft":
            raise ValueError(
                "layers.vesicles and layers.direction tell the presynaptic side of densities that "
                'cover the cleft: set assign.density = "cleft", or take them out'
            )
        if given.mask and (given.probability or given.synapses or not given.image):
            raise ValueError(
                "layers.mask tells where an image is searched: it goes without layers.probability "
                "and layers.synapses; take it out, and set those to 0 outside of it if need be"
            )
        if given.image and not given.probability and not given.synapses and not self.detect.model:
            raise ValueError(
                "detect.model is missing: give a model bundle's folder or the name of a shipped "
                'model ("phantom"), or start from a map with layers.probability'
            )
        return self

    def block_of(self, section: str) -> Triple | None:
        """The block of a stage's section, else the common one, else None."""
        own: Triple | None = getattr(self, section).block
        return own or self.block

    def bounds_box(self) -> Box | None:
        """The bounds as a box at the working resolution, if there are any."""
        if self.bounds is None:
            return None
        return Box(self.bounds.start, self.bounds.stop, self.resolution)


def load_config(path: str | Path) -> Config:
    """Read and validate a ``cnapse.toml``; its relative paths become absolute.

    Raises
    ------
    LayerNotFoundError
        If there is no such file.
    ConfigError
        If it is not TOML, or a key is unknown, missing or wrong.
    """
    config = Config.from_dict(read_toml(path, "configuration file"), str(path))
    return _rooted(config, Path(path).absolute().parent)


def _rooted(config: Config, folder: Path) -> Config:
    """The configuration with every relative path counted from `folder`."""

    def rooted(path: str) -> str:
        if not path or "://" in path:
            return cloud_path(path) if path else path
        return cloud_path(folder / Path(path).expanduser())

    layers = {
        name: layer.model_copy(update={"path": rooted(layer.path)})
        for name in LayersSection.model_fields
        if (layer := getattr(config.layers, name)) is not None
    }
    return config.model_copy(
        update={
            "output": rooted(config.output),
            "names": rooted(config.names),
            "assign": config.assign.model_copy(update={"only": rooted(config.assign.only)}),
            "layers": config.layers.model_copy(update=layers),
            "detect": config.detect.model_copy(update={"model": _rooted_model(config, folder)}),
        }
    )


def _rooted_model(config: Config, folder: Path) -> str:
    """A model given as a path is rooted; a bare name that is no folder there stays a name."""
    model = config.detect.model
    if "://" in model or not model:
        return model
    local = folder / Path(model).expanduser()
    is_path = "/" in model or model.startswith((".", "~")) or local.is_dir()
    return cloud_path(local) if is_path else model
