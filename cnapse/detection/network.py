"""The network of detectEM: a 2D U-Net, as published, with proper norms, and with norms folded away.

Each level has three 3 x 3 convolutions, each followed by a batch norm and a ReLU; maximum pooling
by 2 leads down; nearest upsampling, one row and column of zeros at the right and bottom, and a
2 x 2 convolution lead up. The output is a logit for each class. As published (`UNet`), a level has
one norm for its three convolutions, without running statistics; `RunningUNet` has one for each,
with running statistics; `FrozenUNet` has none. Neighbouring sections may come in as channels.

The latter two may work at half the resolution, in which they see twice as far for a quarter of the
work: the four pixels of a square come in as channels (the way back of Shi et al. 2016), and a
convolution ``conv_fine`` and the way forth bring the features to the pixels in front of the last.

The parameters carry the names of the published checkpoints: ``conv_in``, ``dconv1..4``,
``uconv1..4``, ``conv_out``. What a pixel sees is measured from the network, never typed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cnapse.detection.receptive import ReceptiveField, measure_field
from cnapse.errors import CheckpointError

__all__ = [
    "PUBLISHED_WIDTHS",
    "Convolutions",
    "FrozenUNet",
    "RunningUNet",
    "Statistics",
    "UNet",
    "receptive_field",
]

PUBLISHED_WIDTHS = (16, 32, 64, 128, 256)

_CONVOLUTIONS = ("conv1", "conv2", "conv3")

Norms = Literal["shared", "running", "none"]

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and (biased) variance per channel in front of each norm, by name of the convolution."""

Observer = Callable[[str, Tensor], None]

_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Convolutions(nn.Module):
    """Three 3 x 3 convolutions, each followed by a norm (if any) and a ReLU.

    Parameters
    ----------
    channels_in, channels_out : int
        Number of channels.
    norms : {"shared", "running", "none"}
        One norm for all three, with the statistics of what it is given at each of its call sites;
        or one for each, with running statistics; or none.
    """

    def __init__(self, channels_in: int, channels_out: int, norms: Norms) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out, norms)
        self.conv2 = _conv(channels_out, channels_out, norms)
        self.conv3 = _conv(channels_out, channels_out, norms)
        if norms == "shared":
            self.norm = nn.BatchNorm2d(channels_out, track_running_stats=False)
        if norms == "running":
            for name in _CONVOLUTIONS:
                self.add_module(_own_norm(name), nn.BatchNorm2d(channels_out))
        self.norms = norms
        self.fixed: Statistics = {}
        self.observer: Observer | None = None

    def convolved(self, x: Tensor) -> Tensor:
        """Activations, shape (n, channels_out, height, width)."""
        for name in _CONVOLUTIONS:
            x = getattr(self, name)(x)
            if self.observer is not None:
                self.observer(name, x)
            x = nnf.relu_(x) if self.norms == "none" else nnf.relu(self._normalized(name, x))
        return x

    def norm_of(self, conv: str) -> nn.BatchNorm2d:
        """The norm that follows a convolution."""
        norm = getattr(self, "norm" if self.norms == "shared" else _own_norm(conv))
        return cast(nn.BatchNorm2d, norm)

    def _normalized(self, name: str, x: Tensor) -> Tensor:
        norm = self.norm_of(name)
        if name not in self.fixed:
            # With channels last, torch takes statistics from sums of squares in float32: a hundred
            # times as far from the exact ones. Training gains more from the layout.
            shared = self.norms == "shared" and not self.training
            normalized: Tensor = norm(x.contiguous() if shared else x)
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


class _SteadyConv2d(nn.Conv2d):
    """A convolution that rounds alike at every size, in float32 on a processor and not compiled.

    Torch leaves inputs of 20,480 numbers or less to other kernels than larger ones; oneDNN, which
    it takes for these, is called here for all.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Conv2d`."""
        plain = x.is_cpu and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")
        if not plain or torch.is_grad_enabled() or torch.compiler.is_compiling() or not _ONEDNN:
            return super().forward(x)
        found: Tensor = torch.mkldnn_convolution(
            x,
            self.weight,
            self.bias,
            cast("tuple[int, ...]", self.padding),
            self.stride,
            self.dilation,
            self.groups,
        )
        return found


class UpConv(nn.Module):
    """Nearest upsampling by 2, then a 2 x 2 convolution that reaches right and down."""

    def __init__(self, channels_in: int, channels_out: int, norms: Norms) -> None:
        super().__init__()
        self.conv = _conv(channels_in, channels_out, norms, size=2)

    def forward(self, x: Tensor) -> Tensor:
        """Activations at twice the size."""
        x = nnf.interpolate(x, scale_factor=2.0, mode="nearest")
        upsampled: Tensor = self.conv(nnf.pad(x, (0, 1, 0, 1)))
        return upsampled


class UpBlock(Convolutions):
    """Upsampling, the activations of the way down beside it, then the convolutions."""

    def __init__(self, channels_in: int, channels_out: int, norms: Norms) -> None:
        super().__init__(2 * channels_out, channels_out, norms)
        self.upconv = UpConv(channels_in, channels_out, norms)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Activations of the size of `skip`."""
        return self.convolved(torch.cat([skip, self.upconv(x)], dim=1))


class _UNet(nn.Module):
    norms: Norms

    def __init__(
        self,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        channels_in: int = 1,
        channels_out: int = 1,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.widths = _checked_widths(widths)
        self.channels_in, self.channels_out = channels_in, channels_out
        self.is_half = half
        self.conv_in = InBlock(channels_in * 4 if half else channels_in, self.widths[0], self.norms)
        for level, (upper, lower) in enumerate(pairwise(self.widths), start=1):
            self.add_module(f"dconv{level}", DownBlock(upper, lower, self.norms))
        for level, (lower, upper) in enumerate(pairwise(self.widths[::-1]), start=1):
            self.add_module(f"uconv{level}", UpBlock(lower, upper, self.norms))
        fine = self.widths[0]
        if half:
            fine = max(1, self.widths[0] // 2)
            self.conv_fine = _conv(self.widths[0], 4 * fine, self.norms)
        self.conv_out = _conv(fine, channels_out, self.norms)

    @property
    def stride(self) -> int:
        """What y and x of an image must be multiples of."""
        return int(2 ** (len(self.widths) - 1 + self.is_half))

    @property
    def options(self) -> dict[str, Any]:
        """What `cnapse.detection.registry` makes it of."""
        return {"widths": list(self.widths), **({"half": True} if self.is_half else {})}

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image.

        Parameters
        ----------
        image : Tensor, shape (n, channels_in, y, x)
            Normalised image; y and x are multiples of `stride`.

        Returns
        -------
        Tensor, shape (n, channels_out, y, x)
        """
        levels = len(self.widths) - 1
        if self.is_half:
            image = nnf.pixel_unshuffle(image, 2)
        down = [self.conv_in(image)]
        for level in range(1, levels + 1):
            down.append(getattr(self, f"dconv{level}")(down[-1]))
        x = down.pop()
        for level in range(1, levels + 1):
            x = getattr(self, f"uconv{level}")(down.pop(), x)
        if self.is_half:
            x = nnf.pixel_shuffle(self.conv_fine(x), 2)
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

    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights: normal with variance 2 / fan-in (He et al. 2015), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                with torch.no_grad():
                    module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()


class UNet(_UNet):
    """The network as published: batch norms that take the statistics of what they are given.

    Parameters
    ----------
    widths : sequence of int
        Channels of the five levels, finest first.
    channels_in, channels_out : int
        Sections and classes.
    half : bool
        Work at half the resolution.
    """

    norms = "shared"

    def fix_statistics(self, statistics: Statistics) -> None:
        """Let these stand for the statistics of the batch; an empty dict undoes it."""
        for name, block in self.blocks():
            block.fixed = {
                conv: statistics[f"{name}.{conv}"]
                for conv in _CONVOLUTIONS
                if f"{name}.{conv}" in statistics
            }


class RunningUNet(_UNet):
    """The network with a norm of its own after each convolution, which keeps running statistics.

    Parameters
    ----------
    widths : sequence of int
        Channels of the five levels, finest first.
    channels_in, channels_out : int
        Sections and classes.
    half : bool
        Work at half the resolution.
    """

    norms = "running"

    def statistics(self) -> Statistics:
        """The running statistics, as `cnapse.detection.normalization.fold` takes them."""
        found: Statistics = {}
        for name, block in self.blocks():
            for conv in _CONVOLUTIONS:
                norm = block.norm_of(conv)
                mean, var = norm.running_mean, norm.running_var
                if mean is not None and var is not None:
                    found[f"{name}.{conv}"] = (mean, var)
        return found


class FrozenUNet(_UNet):
    """The same network without norms: their statistics are folded into the convolutions.

    Parameters
    ----------
    widths : sequence of int
        Channels of the five levels, finest first.
    channels_in, channels_out : int
        Sections and classes.
    half : bool
        Work at half the resolution.
    """

    norms = "none"


@lru_cache(maxsize=8)
def receptive_field(levels: int = 5, half: bool = False) -> ReceptiveField:
    """What an output pixel of the network sees, measured; the number of channels is the same."""
    return measure_field(FrozenUNet([1] * levels, half=half), 1, 1)


def _own_norm(conv: str) -> str:
    return conv.replace("conv", "norm")


def _conv(channels_in: int, channels_out: int, norms: Norms, size: int = 3) -> nn.Conv2d:
    # Statistics of the image enlarge the last bits: with norms, they are to be those of torch.
    kind = _SteadyConv2d if norms == "none" else nn.Conv2d
    return kind(channels_in, channels_out, kernel_size=size, padding=size // 2 if size % 2 else 0)


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(int(width) for width in widths)
    if len(checked) < 2 or min(checked) < 1:
        raise CheckpointError(f"widths {list(widths)}: give at least two positive numbers")
    return checked
