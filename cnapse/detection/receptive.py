"""What an output pixel of a network sees, measured from the network itself.

A pixel is set to NaN, and the outputs that become NaN are those that depend on it: what a network
computes from NaN is NaN, whatever the weights are. So the measure holds for any network, without
its having to be declared. One pixel after another shows how far is seen, and after how many pixels
the pattern repeats itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnapse.errors import ConfigError

__all__ = ["ReceptiveField", "check_halo", "measure_field"]

_STRIDES = (1, 2, 4, 8, 16, 32, 64)
# Sides in pixels: across, a size that all strides divide; along, longer until the ends are clear.
_ACROSS = 64
_ALONG = (512, 1024, 2048)
# Differences of float64 that mean nothing.
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Which pixels of one axis an output depends on.

    Attributes
    ----------
    first, last : int
        Offsets from an output pixel to the first and last pixel that any output pixel sees.
    before, after : int
        How far the outputs of one cell of `stride` pixels see beyond that cell.
    stride : int
        Moving the image by this many pixels moves the output by as many; by less, it need not.
    """

    first: int
    last: int
    before: int
    after: int
    stride: int

    @property
    def least_halo(self) -> int:
        """The smallest halo that covers what a cell sees, a multiple of the stride."""
        return -(-max(self.before, self.after, 0) // self.stride) * self.stride


def measure_field(network: nn.Module, channels_in: int, channels_out: int) -> ReceptiveField:
    """Measure what an output pixel sees; of x and y, the wider counts.

    Parameters
    ----------
    network : Module
        Takes (n, channels_in, y, x) and gives logits (n, channels_out, y, x). A copy is run, on
        the processor, in evaluation mode.
    channels_in, channels_out : int
        A pixel is seen if any output depends on any input channel of it.

    Raises
    ------
    ConfigError
        If the network cannot be run, changes the size, or sees all that it is given.
    """
    # In float64 torch has no fast convolutions (Winograd), which carry NaN to what lies beside.
    network = copy.deepcopy(network).cpu().double().eval()
    fields = [_measured(network, channels_in, channels_out, axis) for axis in ("x", "y")]
    if fields[0].stride != fields[1].stride:
        raise ConfigError(
            f"network {type(network).__name__} has strides {fields[0].stride} in x and "
            f"{fields[1].stride} in y: cnapse runs networks whose strides are the same"
        )
    return ReceptiveField(
        first=min(field.first for field in fields),
        last=max(field.last for field in fields),
        before=max(field.before for field in fields),
        after=max(field.after for field in fields),
        stride=fields[0].stride,
    )


def check_halo(halo: int, tile: Sequence[int], field: ReceptiveField) -> None:
    """Refuse a halo or tile with which tiles would differ from the whole section.

    Raises
    ------
    ConfigError
        If the halo is smaller than what a cell sees, or either is off the grid of the stride.
    """
    if halo < field.least_halo or halo % field.stride:
        raise ConfigError(
            f"a halo of {halo} px does not cover what the network sees ({field.before} px before "
            f"and {field.after} px after a cell of {field.stride} px): take a multiple of "
            f"{field.stride} from {field.least_halo} on"
        )
    if any(n < 1 or n % field.stride for n in tile):
        raise ConfigError(
            f"a tile of {tuple(tile)} px must be a multiple of {field.stride} px in x and y"
        )


def _measured(network: nn.Module, channels_in: int, channels_out: int, axis: str) -> ReceptiveField:
    probe = _Probe(network, channels_in, channels_out, axis)
    for length in _ALONG:
        probe.length = length
        first, last = probe.reach(length // 2)
        if first >= _ACROSS and last < length - _ACROSS:
            return _field_of(probe)
    raise ConfigError(
        f"network {type(network).__name__} sees all that it is given, as with norms that take the "
        'statistics of the tile: set statistics to "tile", which runs it on a fixed grid of tiles'
    )


def _field_of(probe: _Probe) -> ReceptiveField:
    """The field from pixel after pixel, until the pattern of what sees them repeats itself."""
    middle = probe.length // 2
    seen: list[tuple[int, int]] = []
    for stride in _STRIDES:
        while len(seen) < 2 * stride:
            first, last = probe.reach(middle + len(seen))
            seen.append((first - len(seen), last - len(seen)))
        if seen[:stride] == seen[stride : 2 * stride]:
            break
    else:
        raise ConfigError(f"network {probe.name} has no stride of {_STRIDES[-1]} px or less")
    # Outputs from `first` to `last` see pixel `middle + i`; of their cells, the whole counts.
    shifted = [(middle + i, a + i, b + i) for i, (a, b) in enumerate(seen[:stride])]
    field = ReceptiveField(
        first=min(pixel - last for pixel, _, last in shifted),
        last=max(pixel - first for pixel, first, _ in shifted),
        before=max(last // stride * stride - pixel for pixel, _, last in shifted),
        after=max(pixel - (first // stride * stride + stride - 1) for pixel, first, _ in shifted),
        stride=stride,
    )
    probe.check_moved(field)
    return field


class _Probe:
    """Runs a network on images in which one pixel is NaN."""

    def __init__(self, network: nn.Module, channels_in: int, channels_out: int, axis: str) -> None:
        self.network, self.axis = network, axis
        self.channels_in, self.channels_out = channels_in, channels_out
        self.name = type(network).__name__
        self.length = _ALONG[0]

    def reach(self, pixel: int) -> tuple[int, int]:
        """First and last output along the axis that depend on a pixel."""
        shape = (1, self.channels_in, _ACROSS, self.length)
        image = torch.zeros(shape, dtype=torch.float64)
        image[..., _ACROSS // 2, pixel] = torch.nan
        logits = self._logits(image)
        places = torch.nonzero(logits.isnan().any(dim=2).any(dim=1)[0])
        if not len(places):
            raise ConfigError(
                f"network {self.name} has outputs that do not depend on the pixel at their place"
            )
        return int(places.min()), int(places.max())

    def check_moved(self, field: ReceptiveField) -> None:
        """Refuse a network that says something else of a place if the image begins elsewhere."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.channels_in, _ACROSS, self.length)
        image = torch.rand(shape, generator=generator, dtype=torch.float64)
        moved = self._logits(image[..., field.stride :])
        inner = slice(field.least_halo, self.length - field.least_halo - field.stride)
        first = self._logits(image)[..., field.stride :][..., inner]
        if not torch.allclose(first, moved[..., inner], rtol=_SAME, atol=_SAME):
            raise ConfigError(
                f"what network {self.name} says of a place depends on where in the image it lies, "
                "so tiles cannot equal the whole (as with align_corners, or coordinates as input)"
            )

    def _logits(self, image: Tensor) -> Tensor:
        """Logits with the axis as the last one, of an image as well."""
        if self.axis == "x":
            return self._run(image.contiguous())
        return self._run(image.mT.contiguous()).mT

    def _run(self, image: Tensor) -> Tensor:
        expected = (1, self.channels_out, *image.shape[2:])
        with torch.inference_mode():
            try:
                logits = self.network(image)
            except Exception as error:
                raise ConfigError(
                    f"network {self.name} cannot be run on an image of shape "
                    f"{tuple(image.shape)} in float64: {' '.join(str(error).split())}"
                ) from error
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"network {self.name} gives {found} for an image of shape {tuple(image.shape)}, "
                f"not logits of shape {expected} (classes and size as they are)"
            )
        return logits
