"""Model bundles from checkpoints that were trained elsewhere.

A checkpoint of detectEM (Cnapse's own detector) has norms without running statistics. It becomes
a bundle either as published, with the statistics of each tile on a fixed grid of tiles, or frozen
on sample sections of the image that it shall be run on (`cnapse.detection.normalization`). Other
networks by name, and one's own, are taken as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

import cnapse
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.normalization import ImageNormalization
from cnapse.detection.registry import canonical_name, is_own, network_field, network_state
from cnapse.detection.sampling import SampleSpec, sample_sections
from cnapse.detection.weights import check_weights, read_weights, unet_widths
from cnapse.errors import ConfigError
from cnapse.geometry import Resolution

__all__ = ["ImportSpec", "import_checkpoint"]

# The patches of 256 px, 32 px of them shared with the next, in which detectEM runs its network.
_PUBLISHED_TILE, _PUBLISHED_HALO = (224, 224), 16
_TILE = (1024, 1024)


@dataclass(frozen=True)
class ImportSpec:
    """What a checkpoint does not tell of itself.

    Parameters
    ----------
    resolution : (x, y, z)
        Voxel size in nm that the network was trained at.
    architecture : str
        See `cnapse.detection.registry`.
    options : dict
        Of the network; the widths of a U-Net are taken from its weights.
    statistics : {"frozen", "tile"}
    sections, classes
        See `ModelBundle`.
    normalization : ImageNormalization
    tile : (x, y), optional
        Default 1024 x 1024; with statistics of the tile 224 x 224, so that tiles with their halo
        are the 256 px of the published program.
    halo : int, optional
        Default what the network sees; with statistics of the tile 16.
    name : str
        What the model is called.
    """

    resolution: Resolution
    architecture: str = "detectem"
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Literal["frozen", "tile"] = "frozen"
    sections: int = 1
    classes: tuple[str, ...] = ("synapse",)
    normalization: ImageNormalization = field(default_factory=ImageNormalization)
    tile: tuple[int, int] | None = None
    halo: int | None = None
    name: str = ""


def import_checkpoint(
    path: str | Path,
    spec: ImportSpec,
    *,
    sample: str | Path | None = None,
    sampling: SampleSpec | None = None,
    device: str = "cpu",
) -> ModelBundle:
    """Make a bundle of a checkpoint file.

    Parameters
    ----------
    path
        State dict, as `cnapse.detection.weights.read_weights` takes it.
    spec : ImportSpec
    sample
        Image to freeze the statistics of "detectem" on: a layer or a file.
    sampling : SampleSpec, optional
    device : str
        Where the statistics are pooled.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or its keys and shapes are not just those of the network.
    ConfigError
        If a choice is not possible, or statistics shall be frozen and there is no sample.
    """
    freezes = canonical_name(spec.architecture) == "detectem" and spec.statistics == "frozen"
    if freezes and sample is None:
        raise ConfigError(
            f"{path}: its norms have no statistics of their own: give --sample IMAGE to freeze "
            "them on, or --statistics tile to take those of each tile"
        )
    if not freezes and sample is not None:
        raise ConfigError(
            f"--sample {sample} is of no use here: only the statistics of detectem are frozen "
            "on a sample; leave it out"
        )
    bundle = _as_it_is(Path(path), spec)
    if sample is None:
        return bundle
    return _frozen(bundle, spec, sample, sampling or SampleSpec(), device)


def _as_it_is(path: Path, spec: ImportSpec) -> ModelBundle:
    """The bundle without freezing anything: of detectem, with statistics of the tile."""
    name, options = canonical_name(spec.architecture), dict(spec.options)
    channels = spec.sections, len(spec.classes)
    weights = read_weights(path, network_state(name, options, *channels).keys())
    if not is_own(name):
        options.setdefault("widths", unet_widths(weights))
    check_weights(weights, network_state(name, options, *channels), str(path))
    tiled = spec.statistics == "tile" or name == "detectem"
    tile, halo = _PUBLISHED_TILE, _PUBLISHED_HALO
    if not tiled:
        reach = network_field(name, options, *channels)
        tile, halo = _rounded(_TILE, reach.stride), reach.least_halo
    return ModelBundle(
        weights={k: v.float() if v.is_floating_point() else v for k, v in weights.items()},
        resolution=spec.resolution,
        architecture=name,
        options=options,
        statistics="tile" if tiled else "frozen",
        sections=spec.sections,
        classes=spec.classes,
        normalization=spec.normalization,
        tile=spec.tile or tile,
        halo=halo if spec.halo is None else spec.halo,
        provenance=_provenance(path, spec),
    )


def _frozen(
    bundle: ModelBundle, spec: ImportSpec, image: str | Path, sampling: SampleSpec, device: str
) -> ModelBundle:
    reach = bundle.receptive_field
    margin = reach.least_halo
    sample = sample_sections(
        image,
        spec.resolution,
        sampling,
        margin=margin,
        sections=spec.sections,
        stride=reach.stride,
    )
    frozen = bundle.frozen(sample.windows, margin, device)
    told = {"image": str(image), **sampling.to_dict(), "starts": [list(s) for s in sample.starts]}
    return replace(
        frozen,
        tile=spec.tile or _rounded(_TILE, reach.stride),
        halo=margin if spec.halo is None else spec.halo,
        provenance={**frozen.provenance, "statistics": told},
    )


def _rounded(tile: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-tile[0] // stride) * stride, -(-tile[1] // stride) * stride


def _provenance(path: Path, spec: ImportSpec) -> dict[str, Any]:
    return {
        "made_by": "cnapse model import",
        "name": spec.name or path.stem,
        "checkpoint": path.name,
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {"cnapse": cnapse.__version__, "torch": str(torch.__version__)},
    }
