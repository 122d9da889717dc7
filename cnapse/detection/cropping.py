"""A network without the work that its halo does not need.

Of the halo of a tile the coarse levels need all, and the fine levels of the way up hardly any: the
three 3 x 3 convolutions of a level see 3 px. So the way up is run on no more than the middle needs.
What is kept comes from the same inputs as in a run of everything, hence is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cnapse.detection.network import FrozenUNet

__all__ = ["CroppedUNet"]

Span = tuple[int, int]

# What the three convolutions of a level see beyond a pixel, and the last convolution of all.
_REACH = 3
_LAST_REACH = 1


class CroppedUNet(nn.Module):
    """Logits of the middles of images.

    Parameters
    ----------
    network : FrozenUNet
    halo : int
        Pixels at each side that are read and not predicted; a multiple of the stride.
    """

    def __init__(self, network: FrozenUNet, halo: int) -> None:
        super().__init__()
        self.network = network
        self.halo = halo

    def forward(self, image: Tensor) -> Tensor:
        """Logits, shape (n, classes, y - 2 halo, x - 2 halo), of (n, sections, y, x)."""
        network, halo, reach = self.network, self.halo, _LAST_REACH
        height, width = image.shape[-2:]
        if network.is_half:  # the last convolution reaches into the next square
            image, halo, reach = nnf.pixel_unshuffle(image, 2), halo // 2, 2 * _LAST_REACH
        levels = len(network.widths) - 1
        down = [network.conv_in(image)]
        for level in range(1, levels + 1):
            down.append(getattr(network, f"dconv{level}")(down[-1]))
        rows, columns = (_steps(n, halo, reach, levels) for n in image.shape[-2:])
        x = down.pop()
        y0, x0 = 0, 0  # where the activations begin
        for row, column in zip(rows, columns, strict=True):
            block = getattr(network, f"uconv{levels - len(down) + 1}")
            x = block.upconv(_cut(x, row.coarse, column.coarse, y0, x0))
            x = _cut(x, row.read, column.read, 2 * row.coarse[0], 2 * column.coarse[0])
            x = block.convolved(torch.cat([_cut(down.pop(), row.read, column.read), x], dim=1))
            y0, x0 = row.read[0], column.read[0]
        if network.is_half:
            x, y0, x0 = nnf.pixel_shuffle(network.conv_fine(x), 2), 2 * y0, 2 * x0
        middle = (self.halo, height - self.halo), (self.halo, width - self.halo)
        return _cut(network.conv_out(x), *middle, y0, x0)


@dataclass(frozen=True, slots=True)
class _Step:
    """Which pixels of one axis a level of the way up reads, and which of the coarser level."""

    read: Span
    coarse: Span


def _steps(size: int, halo: int, reach: int, levels: int) -> list[_Step]:
    """The steps of one axis, coarsest first; `reach` is how far is seen after the finest level.

    A convolution's zeros at the rim of what is read spoil 1 px, those of `_REACH` convolutions as
    many; upsampled pixel i is made of the coarse pixels i // 2 and (i + 1) // 2. At the image's own
    rim nothing is cut, and the zeros are those of a run of everything.
    """
    steps = []
    kept = (halo - reach, size - halo + reach)
    for level in range(levels):
        pixels = size >> level
        read = (max(kept[0] - _REACH, 0), min(kept[1] + _REACH, pixels))
        coarse = (read[0] // 2, min(read[1] // 2 + 1, pixels // 2))
        steps.append(_Step(read, coarse))
        kept = coarse
    return steps[::-1]


def _cut(x: Tensor, rows: Span, columns: Span, y0: int = 0, x0: int = 0) -> Tensor:
    """Rows and columns of an image of which the first pixel is (y0, x0)."""
    return x[..., rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0]
