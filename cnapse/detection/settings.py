"""The file that `cnapse train` reads, as frozen, validated records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnapse.detection.augment import AUGMENTATIONS
from cnapse.detection.averaging import AverageKind
from cnapse.detection.schedule import Decay
from cnapse.detection.tta import Augmentation
from cnapse.geometry import Resolution, Triple
from cnapse.store import cloud_path
from cnapse.toml import Section, TomlFile, read_toml

__all__ = ["LayerSource", "PhantomSource", "TrainConfig", "load_train_config"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Patch = Annotated[int, Field(ge=32, multiple_of=16)]

_AUGMENT = {
    "flip": 1.0,
    "rotate90": 1.0,
    "contrast": 0.5,
    "noise": 0.3,
    "darkline": 0.1,
    "block": 0.1,
    "blackpad": 0.05,
}


class LayerSource(Section):
    """A box of an image and of what is drawn in it: layers, or HDF5, TIFF, Zarr, PNG files.

    A file is as `cnapse ingest` takes it, ``file.h5:/dataset`` as well; it begins at voxel 0, 0, 0
    unless it tells otherwise.
    """

    image: str
    labels: str
    """Densities, 0 = none: ids of objects, or one value for all of them."""
    ignore: str = ""
    """What is not 0 here counts neither in the loss nor in the score."""
    auxiliary: str = ""
    """Something else to learn along, as membranes: it helps the network, and is left out of it
    in the end."""
    auxiliary_range: tuple[int, int] = (1, 255)
    """Values of `auxiliary`, first and last, that are to be learned."""
    start: Triple | None = None
    stop: Triple | None = None
    """At the resolution of the training; all of it if not given."""
    validation: bool = False
    """Used to score the model, not to train it."""

    @model_validator(mode="after")
    def _check_box(self) -> Self:
        if (self.start is None) != (self.stop is None):
            raise ValueError("give both start and stop of the box, or neither")
        if self.auxiliary_range[0] > self.auxiliary_range[1]:
            raise ValueError(f"auxiliary_range = {list(self.auxiliary_range)}: give first, last")
        return self


class PhantomSource(Section):
    """A phantom (`cnapse.phantom`), made in memory; each parameter as there."""

    shape: Triple
    seed: Count = 0
    voxel_offset: Triple = (0, 0, 0)
    gap_nm: float = 16.0
    neurite_nm: float = 380.0
    synapse_density: float = 1.0
    jitter_nm: float = 3.0
    noise: float = 1.0
    contrast_change: float = 1.0
    validation: bool = False
    """Used to score the model, not to train it."""


class NormalizationSection(Section):
    """What is done to grey values: see `cnapse.detection.normalization.ImageNormalization`."""

    kind: Literal["scale", "standard"] = "scale"
    mean: float = 0.0
    std: PositiveFloat = 255.0


class LossSection(Section):
    """Shares of the parts of the loss: see `cnapse.detection.losses.LossWeights`."""

    bce: NotNegative = 0.5
    """Binary cross entropy; 0 leaves it out."""
    dice: NotNegative = 0.5
    """Dice loss; 0 leaves it out."""
    auxiliary: NotNegative = 0.2
    """Cross entropy of the auxiliary target, where there is one."""
    background: PositiveFloat = 1.0
    density: PositiveFloat = 1.0
    """Weights of the two classes in the cross entropy."""
    hardest: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the background in the cross entropy: what is taken most for a density."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if not self.bce + self.dice:
            raise ValueError("bce and dice are both 0: there is nothing to learn")
        return self


class AverageSection(Section):
    """Average of the weights: see `cnapse.detection.averaging.WeightAverage`."""

    kind: AverageKind = "none"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """For "exponential"."""
    begin: Share = 0.75
    """For "late": share of the steps after which it begins."""


class TrainConfig(TomlFile):
    """A whole training file."""

    output: str
    """Folder for the bundle, the checkpoints and the log."""
    resolution: Resolution
    """Voxel size in nm at which the model is trained and later run."""
    layers: tuple[LayerSource, ...] = ()
    phantom: tuple[PhantomSource, ...] = ()
    architecture: str = "detectem"
    """Name of the network, or your own as "module:Class": see `cnapse.detection.registry`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the network, besides `widths`."""
    sections: Annotated[int, Field(ge=1, le=31)] = 1
    """Neighbouring sections that the network is shown; it predicts the middle one."""
    widths: Annotated[tuple[Positive, ...], Field(min_length=5, max_length=5)] = (
        16,
        32,
        64,
        128,
        256,
    )
    start_from: str = ""
    """A checkpoint of detectEM to go on from; its widths count."""
    seed: Count = 0
    steps: Positive = 2000
    finetune_frozen_steps: Count = 0
    """The last so many steps are trained with fixed statistics, as inference will run."""
    batch: Positive = 8
    patch: Patch = 256
    density_share: Share = 0.7
    """Share of the patches that are put on a density."""
    border: Count = 0
    """Pixels to each side of an outline that do not count in the loss: people do not draw it the
    same way twice, and what is unsure there outweighs whole objects that are found or missed."""
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NotNegative = 1e-2
    warmup_steps: Count = 100
    decay: Decay = "cosine"
    """How the learning rate falls after the warm-up."""
    clip_norm: NotNegative = 0.0
    """Longest gradient, all weights together; 0 for no limit."""
    loss: LossSection = LossSection()
    average: AverageSection = AverageSection()
    augment: dict[str, Share] = Field(default_factory=lambda: dict(_AUGMENT))
    """Chance of each augmentation; one that is left out is off."""
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    """As torch names it."""
    normalization: NormalizationSection = NormalizationSection()
    tile: tuple[Positive, Positive] = (1024, 1024)
    halo: Positive = 160
    freeze_sections: Positive = 16
    """Sample sections on which the statistics are pooled."""
    save_every: Positive = 100
    """Steps after which `last.pt` is written: what an interruption costs at most."""
    validate_every: Positive = 500
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_voxels: Positive = 20
    """Smaller predicted objects do not count in the score."""
    score_augment: Augmentation = "none"
    """Views that are averaged where the model is scored: as `detect.augment` of a run."""
    min_iou: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Overlap from which a predicted object is the true one."""
    gap_nm: NotNegative = 0.0
    """Objects, predicted and drawn, that a gap of at most this parts are one where the model is
    scored: from centre to centre of the nearest voxels, as `cnapse merge --gap-nm`."""
    patience: Count = 0
    """Stop after so many validations without a better one; 0 goes on to the last step."""
    keep: Literal["best", "last"] = "best"
    """Which weights the bundle gets; "best" flatters the score, as it was chosen by it."""
    tensorboard: bool = False
    """Curves and pictures for TensorBoard, in `output`."""

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if all(source.validation for source in self.sources):
            raise ValueError("give at least one [[layers]] or [[phantom]] to train on")
        unknown = sorted(set(self.augment) - set(AUGMENTATIONS))
        if unknown:
            known = ", ".join(AUGMENTATIONS)
            raise ValueError(f"augment.{unknown[0]} is not known; there are: {known}")
        if self.finetune_frozen_steps > self.steps:
            raise ValueError("finetune_frozen_steps is more than steps")
        if self.sections % 2 == 0:
            raise ValueError(f"sections = {self.sections}: give an odd number, one in the middle")
        trained = [source for source in self.sources if not source.validation]
        if len({_is_helped(source) for source in trained}) > 1:
            raise ValueError("give auxiliary for all [[layers]] to train on, or for none")
        if not any(source.validation for source in self.sources) and self.patience:
            raise ValueError("patience needs a source with validation = true")
        return self

    @property
    def sources(self) -> tuple[LayerSource | PhantomSource, ...]:
        """All sources, layers first."""
        return (*self.layers, *self.phantom)

    @property
    def has_auxiliary(self) -> bool:
        """Whether there is an auxiliary target."""
        return any(_is_helped(source) for source in self.sources if not source.validation)


def load_train_config(path: str | Path) -> TrainConfig:
    """Read and validate a training file; its relative paths count from its folder.

    Raises
    ------
    LayerNotFoundError
        If there is no such file.
    ConfigError
        If it is not TOML, or a key is unknown, missing or wrong.
    """
    config = TrainConfig.from_dict(read_toml(path, "training file"), str(path))
    return _rooted(config, Path(path).absolute().parent)


def _rooted(config: TrainConfig, folder: Path) -> TrainConfig:
    def local(text: str) -> str:
        return str(folder / Path(text).expanduser()) if text else text

    def rooted(text: str) -> str:
        return cloud_path(local(text)) if text and "://" not in text else text

    paths = ("image", "labels", "ignore", "auxiliary")
    layers = [
        source.model_copy(update={name: rooted(getattr(source, name)) for name in paths})
        for source in config.layers
    ]
    return config.model_copy(
        update={
            "layers": tuple(layers),
            "output": local(config.output),
            "start_from": local(config.start_from),
        }
    )


def _is_helped(source: LayerSource | PhantomSource) -> bool:
    return isinstance(source, LayerSource) and bool(source.auxiliary)
