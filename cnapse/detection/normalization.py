"""What is done to grey values before the network, and to the statistics inside it.

The published norms take their statistics from whatever is predicted together, so that a voxel's
answer depends on its whole tile. Freezing (1) pools mean and variance per channel over a sample of
sections, at each of the 27 places where a norm stands and in their order, with those before it
already frozen, and (2) folds them into the convolutions in front. What is left is local.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnapse.detection.network import (
    Convolutions,
    FrozenUNet,
    RunningUNet,
    Statistics,
    UNet,
)
from cnapse.errors import CheckpointError, ConfigError, FormatError

__all__ = ["ImageNormalization", "fold", "freeze", "pool_statistics"]

Image = npt.NDArray[np.uint8]
Moments = tuple[int, Tensor, Tensor]

# The published widths need about 0.4 kB a pixel.
_PIXELS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class ImageNormalization:
    """How grey values 0..255 become the network's input; declared, never taken from a tile.

    Parameters
    ----------
    kind : {"scale", "standard"}
        ``"scale"`` divides by 255, as published; ``"standard"`` takes `mean` off and divides by
        `std`.
    mean, std : float
        In grey values; used by ``"standard"`` alone.
    """

    kind: Literal["scale", "standard"] = "scale"
    mean: float = 0.0
    std: float = 255.0

    def __post_init__(self) -> None:
        if self.kind not in ("scale", "standard"):
            raise ConfigError(f'normalisation must be "scale" or "standard", not {self.kind!r}')
        object.__setattr__(self, "mean", float(self.mean))
        object.__setattr__(self, "std", float(self.std))
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ConfigError(
                f"normalisation with mean {self.mean} and std {self.std}: std must be above 0"
            )

    def levels(self) -> npt.NDArray[np.float32]:
        """The network's input for each grey value, shape (256,)."""
        grey = np.arange(256, dtype=np.float64)
        scaled = grey / 255 if self.kind == "scale" else (grey - self.mean) / self.std
        return scaled.astype(np.float32)

    def apply(self, image: Image) -> npt.NDArray[np.float32]:
        """The network's input for an image, of the same shape.

        Raises
        ------
        FormatError
            If the image is not uint8.
        """
        if image.dtype != np.uint8:
            raise FormatError(f"an image for detection must be uint8, not {image.dtype}")
        values: npt.NDArray[np.float32] = np.take(self.levels(), image)
        return values

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_dict` wrote."""
        return cls(**values)


def freeze(
    network: UNet,
    sections: Sequence[Image],
    normalization: ImageNormalization | None = None,
    margin: int = 0,
) -> FrozenUNet:
    """Freeze the statistics of a network on a sample of sections and fold them.

    Parameters
    ----------
    network : UNet
    sections : sequence of ndarray of uint8, shape (x, y) or (x, y, sections)
        Sample of the images to predict, with the neighbouring sections if the network is shown
        them; x and y multiples of 16.
    normalization : ImageNormalization, optional
        As used in training; divides by 255 if not given.
    margin : int
        Pixels at each side that are run but not counted: what is near an edge sees zeros there.

    Returns
    -------
    FrozenUNet
    """
    scale = normalization or ImageNormalization()
    device = next(network.parameters()).device
    inputs = [
        torch.from_numpy(scale.apply(np.atleast_3d(section)).T[None].copy()).to(device)
        for section in sections
    ]
    return fold(network, pool_statistics(network, inputs, margin))


def pool_statistics(network: UNet, inputs: Sequence[Tensor], margin: int = 0) -> Statistics:
    """Mean and variance in front of each norm, the earlier ones already fixed.

    Parameters
    ----------
    network : UNet
        Left without fixed statistics.
    inputs : sequence of Tensor, shape (n, sections, y, x)
        Normalised images; all their pixels count the same.
    margin : int
        Pixels of the image at each side that do not count.

    Returns
    -------
    dict of (Tensor, Tensor), float32, shape (channels,)
        By name of the convolution in front of the norm.

    Raises
    ------
    FormatError
        If there are no inputs, or one is not larger than its margins.
    """
    _check_inputs(inputs, margin, network.stride)
    try:
        with torch.inference_mode():
            if _fit_together(inputs):
                found = _pooled_in_one_run(network, torch.cat(list(inputs)), margin)
            else:
                found = _pooled_site_by_site(network, inputs, margin)
    finally:
        network.fix_statistics({})
    return {site: (mean.clone(), var.clone()) for site, (mean, var) in found.items()}


def fold(network: UNet | RunningUNet, statistics: Statistics) -> FrozenUNet:
    """Fold fixed statistics and the norms' own scale and shift into the convolutions.

    Computed in float64, stored in the type of the network's weights.

    Raises
    ------
    CheckpointError
        If statistics of a norm are missing.
    """
    missing = sorted(set(network.sites()) - set(statistics))
    if missing:
        raise CheckpointError(f"no statistics for {', '.join(missing)}: pool them first")
    weights = {
        name: value.detach().clone()
        for name, value in network.state_dict().items()
        if ".norm" not in name
    }
    for name, block in network.blocks():
        for conv in ("conv1", "conv2", "conv3"):
            site = f"{name}.{conv}"
            weights.update(_folded(site, block, conv, *statistics[site]))
    frozen = FrozenUNet(network.widths, network.channels_in, network.channels_out, network.is_half)
    frozen.to(next(network.parameters()).dtype)
    frozen.load_state_dict(weights, strict=True)
    return frozen.eval()


def _folded(
    site: str, block: Convolutions, conv: str, mean: Tensor, var: Tensor
) -> dict[str, Tensor]:
    layer = getattr(block, conv)
    norm = block.norm_of(conv)
    gain = norm.weight.detach().double() / torch.sqrt(var.double() + norm.eps)
    weight = layer.weight.detach().double() * gain[:, None, None, None]
    bias = (layer.bias.detach().double() - mean.double()) * gain + norm.bias.detach().double()
    kind = layer.weight.dtype
    return {f"{site}.weight": weight.to(kind), f"{site}.bias": bias.to(kind)}


def _fit_together(inputs: Sequence[Tensor]) -> bool:
    one_shape = len({image.shape[1:] for image in inputs}) == 1
    return one_shape and sum(image.numel() for image in inputs) <= _PIXELS_AT_ONCE


def _pooled_in_one_run(network: UNet, images: Tensor, margin: int) -> Statistics:
    """All images at once: each site is fixed when it is reached, before its norm is applied."""
    found: Statistics = {}

    def fix(site: str, activations: Tensor) -> None:
        _, mean, var = _moments(activations, margin * activations.shape[-1] // images.shape[-1])
        found[site] = (mean.float(), var.float())
        network.fix_statistics(found)

    with _observed(network, fix):
        network(images)
    return found


class _SiteReached(Exception):  # noqa: N818 - no error: what comes after the site is not needed
    pass


def _pooled_site_by_site(network: UNet, inputs: Sequence[Tensor], margin: int) -> Statistics:
    """Image by image, as far as the site, for each site in turn."""
    found: Statistics = {}
    for site in network.sites():
        network.fix_statistics(found)
        found[site] = _merged([_moments_at(network, site, image, margin) for image in inputs])
    return found


def _moments_at(network: UNet, site: str, image: Tensor, margin: int) -> Moments:
    moments: list[Moments] = []

    def observe(name: str, activations: Tensor) -> None:
        if name == site:
            shrunk = margin * activations.shape[-1] // image.shape[-1]
            moments.append(_moments(activations, shrunk))
            raise _SiteReached

    with _observed(network, observe), suppress(_SiteReached):
        network(image)
    return moments[0]


@contextmanager
def _observed(network: UNet, observer: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Show what stands in front of each norm to `observer`, by name of the site."""
    for name, block in network.blocks():
        block.observer = partial(_named, observer, name)
    try:
        yield
    finally:
        for _, block in network.blocks():
            block.observer = None


def _named(observer: Callable[[str, Tensor], None], block: str, conv: str, x: Tensor) -> None:
    observer(f"{block}.{conv}", x)


def _moments(activations: Tensor, margin: int) -> Moments:
    rows, columns = (slice(margin, n - margin) for n in activations.shape[-2:])
    inner = activations[..., rows, columns].double()
    var, mean = torch.var_mean(inner, dim=(0, 2, 3), correction=0)
    return inner.numel() // inner.shape[1], mean, var


def _merged(moments: Sequence[Moments]) -> tuple[Tensor, Tensor]:
    """Mean and variance over all parts (Chan et al. 1979)."""
    weights = torch.tensor([count for count, _, _ in moments], dtype=torch.float64)
    weights = (weights / weights.sum())[:, None]
    means = torch.stack([mean for _, mean, _ in moments])
    within = torch.stack([var for _, _, var in moments])
    mean = (weights * means).sum(dim=0)
    var = (weights * (within + (means - mean) ** 2)).sum(dim=0)
    return mean.float(), var.float()


def _check_inputs(inputs: Sequence[Tensor], margin: int, stride: int) -> None:
    if not inputs:
        raise FormatError("statistics need at least one sample section")
    for image in inputs:
        height, width = image.shape[-2:]
        if height % stride or width % stride or min(height, width) <= 2 * margin:
            raise FormatError(
                f"a sample section of {width} x {height} px must be a multiple of {stride} px and "
                f"larger than two margins of {margin} px"
            )
