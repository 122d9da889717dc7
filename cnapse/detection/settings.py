"""The file that `cnapse train` reads, as frozen, validated records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cnapse.detection.augment import AUGMENTATIONS
from cnapse.geometry import Resolution, Triple
from cnapse.store import cloud_path
from cnapse.toml import Section, TomlFile, read_toml

__all__ = ["LayerSource", "PhantomSource", "TrainConfig", "load_train_config"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
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
    """A box of an image and of the densities drawn in it, both precomputed layers."""

    image: str
    labels: str
    """Densities, 0 = none: ids of objects, or one value for all of them."""
    start: Triple | None = None
    stop: Triple | None = None
    """At the resolution of the training; the whole layer if not given."""
    validation: bool = False
    """Used to score the model, not to train it."""

    @model_validator(mode="after")
    def _check_box(self) -> Self:
        if (self.start is None) != (self.stop is None):
            raise ValueError("give both start and stop of the box, or neither")
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


class TrainConfig(TomlFile):
    """A whole training file."""

    output: str
    """Folder for the bundle, the checkpoints and the log."""
    resolution: Resolution
    """Voxel size in nm at which the model is trained and later run."""
    layers: tuple[LayerSource, ...] = ()
    phantom: tuple[PhantomSource, ...] = ()
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
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Count = 100
    dice_weight: Share = 0.5
    """Loss = (1 - w) cross entropy + w Dice loss."""
    augment: dict[str, Share] = Field(default_factory=lambda: dict(_AUGMENT))
    """Chance of each augmentation."""
    precision: Literal["float32", "bfloat16"] = "float32"
    normalization: NormalizationSection = NormalizationSection()
    tile: tuple[Positive, Positive] = (512, 512)
    halo: Positive = 160
    freeze_sections: Positive = 16
    """Sample sections on which the statistics are pooled."""
    validate_every: Positive = 500
    threshold: Share = 0.5
    min_voxels: Positive = 20
    """Smaller predicted objects do not count in the score."""

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
        return self

    @property
    def sources(self) -> tuple[LayerSource | PhantomSource, ...]:
        """All sources, layers first."""
        return (*self.layers, *self.phantom)


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
        return text if "://" in text else cloud_path(local(text))

    layers = [
        source.model_copy(update={"image": rooted(source.image), "labels": rooted(source.labels)})
        for source in config.layers
    ]
    return config.model_copy(
        update={
            "layers": tuple(layers),
            "output": local(config.output),
            "start_from": local(config.start_from),
        }
    )
