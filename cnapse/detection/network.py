"""The network of detectEM: a 2D U-Net, as published and with its norms folded into convolutions.

Each level has three 3 x 3 convolutions, each followed by one shared batch norm without running
statistics and a ReLU; maximum pooling by 2 leads down; nearest upsampling, one row and column of
zeros at the right and bottom, and a 2 x 2 convolution lead up. The output is a logit.

The parameters carry the names of the published checkpoints: ``conv_in``, ``dconv1..4``,
``uconv1..4``, ``conv_out``. What a pixel sees is measured from the network, never typed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cnapse.errors import CheckpointError, ConfigError

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED_WIDTHS",
    "Convolutions",
    "FrozenUNet",
    "ReceptiveField",
    "Statistics",
    "UNet",
    "build_network",
    "check_halo",
    "receptive_field",
]

PUBLISHED_WIDTHS = (16, 32, 64, 128, 256)

_CONVOLUTIONS = ("conv1", "conv2", "conv3")

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and (biased) variance per channel in front of each norm, by name of the convolution."""

Observer = Callable[[str, Tensor], None]


class Convolutions(nn.Module):
    """Three 3 x 3 convolutions, each followed by the block's one norm (if any) and a ReLU.

    Parameters
    ----------
    channels_in, channels_out : int
        Number of channels.
    normed : bool
        Whether there is a norm; it has statistics of its own at each of its three call sites.
    """

    def __init__(self, channels_in: int, channels_out: int, normed: bool) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out)
        self.conv2 = _conv(channels_out, channels_out)
        self.conv3 = _conv(channels_out, channels_out)
        if normed:
            self.norm = nn.BatchNorm2d(channels_out, track_running_stats=False)
        self.normed = normed
        self.fixed: Statistics = {}
        self.observer: Observer | None = None

    def convolved(self, x: Tensor) -> Tensor:
        """Activations, shape (n, channels_out, height, width)."""
        for name in _CONVOLUTIONS:
            x = getattr(self, name)(x)
            if self.observer is not None:
                self.observer(name, x)
            x = nnf.relu(self._normalized(name, x)) if self.normed else nnf.relu_(x)
        return x

    def _normalized(self, name: str, x: Tensor) -> Tensor:
        norm = self.norm
        if name not in self.fixed:
            normalized: Tensor = norm(x)
            return normalized
        mean, var = self.fixed[name]
        return nnf.batch_norm(x, mean, var, norm.weight, norm.bias, training=False, eps=norm.eps)


class InBlock(Convolutions):
    """The convolutions of the finest level."""

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the size of the image."""
        return self.convolved(x)


class DownBlock(Convolutions):
    """Maximum pooling, then the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Activations at half the size."""
        return self.convolved(nnf.max_pool2d(x, 2))


class UpConv(nn.Module):
    """Nearest upsampling by 2, then a 2 x 2 convolution that reaches right and down."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=2)

    def forward(self, x: Tensor) -> Tensor:
        """Activations at twice the size."""
        x = nnf.interpolate(x, scale_factor=2.0, mode="nearest")
        upsampled: Tensor = self.conv(nnf.pad(x, (0, 1, 0, 1)))
        return upsampled


class UpBlock(Convolutions):
    """Upsampling, the activations of the way down beside it, then the convolutions."""

    def __init__(self, channels_in: int, channels_out: int, normed: bool) -> None:
        super().__init__(2 * channels_out, channels_out, normed)
        self.upconv = UpConv(channels_in, channels_out)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Activations of the size of `skip`."""
        return self.convolved(torch.cat([skip, self.upconv(x)], dim=1))


class _UNet(nn.Module):
    normed: bool

    def __init__(self, widths: Sequence[int] = PUBLISHED_WIDTHS) -> None:
        super().__init__()
        self.widths = _checked_widths(widths)
        self.conv_in = InBlock(1, self.widths[0], self.normed)
        for level, (upper, lower) in enumerate(pairwise(self.widths), start=1):
            self.add_module(f"dconv{level}", DownBlock(upper, lower, self.normed))
        for level, (lower, upper) in enumerate(pairwise(self.widths[::-1]), start=1):
            self.add_module(f"uconv{level}", UpBlock(lower, upper, self.normed))
        self.conv_out = _conv(self.widths[0], 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image.

        Parameters
        ----------
        image : Tensor, shape (n, 1, y, x)
            Normalised image; y and x are multiples of 16.

        Returns
        -------
        Tensor, shape (n, 1, y, x)
        """
        levels = len(self.widths) - 1
        down = [self.conv_in(image)]
        for level in range(1, levels + 1):
            down.append(getattr(self, f"dconv{level}")(down[-1]))
        x = down.pop()
        for level in range(1, levels + 1):
            x = getattr(self, f"uconv{level}")(down.pop(), x)
        logits: Tensor = self.conv_out(x)
        return logits

    def blocks(self) -> Iterator[tuple[str, Convolutions]]:
        """The nine blocks of convolutions by name, in the order in which they are run."""
        for name, child in self.named_children():
            if isinstance(child, Convolutions):
                yield name, child

    def sites(self) -> list[str]:
        """Names of the 27 convolutions that a norm follows, in the order in which they are run."""
        return [f"{block}.{conv}" for block, _ in self.blocks() for conv in _CONVOLUTIONS]


class UNet(_UNet):
    """The network as published: batch norms that take the statistics of what they are given.

    Parameters
    ----------
    widths : sequence of int
        Channels of the five levels, finest first.
    """

    normed = True

    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights: normal with variance 2 / fan-in (He et al. 2015), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                with torch.no_grad():
                    module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()

    def fix_statistics(self, statistics: Statistics) -> None:
        """Let these stand for the statistics of the batch; an empty dict undoes it."""
        for name, block in self.blocks():
            block.fixed = {
                conv: statistics[f"{name}.{conv}"]
                for conv in _CONVOLUTIONS
                if f"{name}.{conv}" in statistics
            }


class FrozenUNet(_UNet):
    """The same network without norms: their statistics are folded into the convolutions.

    Parameters
    ----------
    widths : sequence of int
        Channels of the five levels, finest first.
    """

    normed = False


ARCHITECTURES: dict[str, type[UNet] | type[FrozenUNet]] = {
    "unet2d": UNet,
    "unet2d-frozen": FrozenUNet,
}


def build_network(architecture: str, widths: Sequence[int] = PUBLISHED_WIDTHS) -> UNet | FrozenUNet:
    """A network by the name of its architecture.

    Raises
    ------
    CheckpointError
        If there is none of that name.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise CheckpointError(f"architecture {architecture!r} is not known; there are: {known}")
    return ARCHITECTURES[architecture](widths)


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
        return -(-max(self.before, self.after) // self.stride) * self.stride


@lru_cache(maxsize=8)
def receptive_field(levels: int = 5) -> ReceptiveField:
    """Measure what an output pixel sees, from impulses through a network of positive weights.

    With positive weights and no bias nothing cancels: an output is positive just where it depends
    on the impulse. One impulse for each phase of the stride shows all there is.
    """
    stride = 2 ** (levels - 1)
    network = FrozenUNet([1] * levels).double()
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.fill_(0.0 if parameter.ndim == 1 else 1.0 / parameter[0].numel())
        middle = 24 * stride
        images = torch.zeros(stride, 1, stride, 2 * middle, dtype=torch.float64)
        images[torch.arange(stride), 0, 0, middle + torch.arange(stride)] = 1.0
        seen = network(images)[:, 0].amax(dim=1) > 0
    phase, output = torch.nonzero(seen, as_tuple=True)
    pixel = middle + phase
    cell = output // stride * stride
    return ReceptiveField(
        first=int((pixel - output).min()),
        last=int((pixel - output).max()),
        before=int((cell - pixel).max()),
        after=int((pixel - (cell + stride - 1)).max()),
        stride=stride,
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


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(int(width) for width in widths)
    if len(checked) < 2 or min(checked) < 1:
        raise CheckpointError(f"widths {list(widths)}: give at least two positive numbers")
    return checked
