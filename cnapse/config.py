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
    cells: Layer | None = None
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
    stop: Triple

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
    zero_is_missing: bool = False
    """Image value 0 means that there is no image: probability is 0 there."""
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    batch: Positive = 1
    augment: Literal["none", "flips", "all"] = "none"
    """Mean over the image flipped in x and y, and turned by quarters: 4 and 8 times the work."""
    compile: bool = False
    """Whether to try `torch.compile`; the records of the tasks say which path was taken."""
    tile: tuple[Positive, Positive] | None = None
    """Pixels predicted at a time instead of the model's, if its statistics are frozen."""


class LabelSection(Section):
    """From probability to objects."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    binary: bool = False
    """The map is hand-drawn: every voxel that is not 0 counts."""
    connectivity: Literal[6, 18, 26] = 26
    min_voxels: Positive = 1
    """Smaller objects are dropped; whole objects count, not their parts in a block."""
    max_voxels: Positive | None = None
    channel: Annotated[int, Field(ge=0)] | str | None = None
    """Of a map of several classes: name or number; else "synapse", "density" or the first."""
    block: BlockShape | None = None


class MeasureSection(Section):
    """Size, place and presynaptic cell of each object."""

    weak_presynaptic: Annotated[float, Field(ge=0, le=1)] = 0.6
    """A presynaptic cell with a smaller share of the object's voxels on cells is flagged."""
    block: BlockShape | None = None


class AssignSection(Section):
    """Partner assignment: a published set of parameters, and what differs from it."""

    preset: Literal["cnapse", "witvliet"] = "cnapse"
    only: str = ""
    """CSV whose first column lists the cells that may be partners."""
    method: Literal["harmonic", "montecarlo", "both", "contact"] | None = None
    density: Literal["presynaptic", "cleft"] | None = None
    vesicle_reach_nm: Annotated[float, Field(gt=0)] | None = None
    min_margin: Annotated[float, Field(gt=0, le=1)] | None = None
    rule: Literal["near", "extracellular"] | None = None
    particles: Positive | None = None
    step_nm: Annotated[float, Field(gt=0)] | None = None
    max_steps: Positive | None = None
    standard_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None
    padding_nm: Annotated[float, Field(ge=0)] | None = None
    min_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    directions: Positive | None = None
    pre_reach_vx: tuple[int, int, int] | None = None
    density_reach_vx: tuple[int, int] | None = None
    pre_reach_nm: Annotated[float, Field(gt=0)] | None = None
    density_reach_nm: Annotated[float, Field(gt=0)] | None = None
    lost_limit: Annotated[float, Field(ge=0, le=1)] | None = None
    near_cut_sigmas: Annotated[float, Field(ge=0)] | None = None
    max_box_voxels: Positive | None = None
    block: BlockShape | None = None

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


class ViewerSection(Section):
    """What is laid beside the layers for Neuroglancer, made of the tables."""

    properties: bool = True
    """Names, types and numbers of cells and synapses, to search and sort them by."""
    annotations: bool = True
    """Lines from presynaptic to postsynaptic cells, as an annotation layer."""


class MeshesSection(Section):
    """Meshes and skeletons for the viewer; made where this section is, or with ``--meshes``."""

    layers: tuple[Literal["cells", "synapses"], ...] = ("cells", "synapses")
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
    cells: str = ""
    synapses: str = ""
    output: str = ""
    """Of the output folder: `cnapse link` then shows its lines, names and meshes too."""


class TasksSection(Section):
    """How tasks are tried."""

    tries: Positive = 3
    lease_seconds: Annotated[int, Field(ge=10)] = 60


class Config(TomlFile):
    """A whole ``cnapse.toml``."""

    output: str
    resolution: Resolution
    """Voxel size in nm at which everything is done; other layers are brought to it."""
    layers: LayersSection
    seed: Annotated[int, Field(ge=0)] = 0
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
