"""What a training minimises: cross entropy and Dice loss of the densities, and of what helps them.

Voxels that do not count take no part: neither their loss nor any gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

__all__ = ["LossWeights", "cross_entropy", "dice_loss", "total_loss"]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Shares of the parts of the loss.

    Parameters
    ----------
    bce, dice : float
        Of the binary cross entropy and of the Dice loss of the densities.
    auxiliary : float
        Of the cross entropy of the auxiliary target.
    background, density : float
        Of a voxel of either class in the cross entropy of the densities.
    hardest : float
        Share of the background in it: the voxels that are taken most for a density.
    """

    bce: float = 0.5
    dice: float = 0.5
    auxiliary: float = 0.2
    background: float = 1.0
    density: float = 1.0
    hardest: float = 1.0


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    counts: Tensor,
    classes: tuple[float, float] = (1.0, 1.0),
    hardest: float = 1.0,
) -> Tensor:
    """Binary cross entropy: the weighted mean over the voxels that count, 0 if none does.

    Nearly all of an image is background that is easily told: where only its hardest part counts
    (Shrivastava et al. 2016), what is found where nothing is weighs more than its few voxels.

    Parameters
    ----------
    logits : Tensor of float
    target, counts : Tensor of bool, the same shape
    classes : (float, float)
        Weight of a voxel that is False in the target, and of one that is True.
    hardest : float
        Share of the voxels that count and are False in the target; of those alike, all.
    """
    background, density = classes
    if hardest < 1:
        counts = counts & (target | _hardest(logits.detach(), counts & ~target, hardest))
    logits = logits.masked_fill(~counts, 0.0)
    each = nnf.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    weight = torch.where(target, density, background) * counts
    return (each * weight).sum() / weight.sum().clamp_min(torch.finfo(each.dtype).tiny)


def _hardest(logits: Tensor, among: Tensor, share: float) -> Tensor:
    """Voxels of the largest logits."""
    found = logits[among]
    if not len(found):
        return among
    least = found.kthvalue(len(found) - int(share * (len(found) - 1))).values
    return among & (logits >= least)


def dice_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Soft Dice loss over the voxels of the whole batch that count (Milletari et al. 2016).

    One minus ``(2 sum(p t) + 1) / (sum(p) + sum(t) + 1)``. Parameters as in `cross_entropy`.
    """
    # Masked before and after: what does not count may be no number, and is not 1/2 either.
    p = torch.sigmoid(logits.masked_fill(~counts, 0.0)) * counts
    t = (target & counts).float()
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def total_loss(
    logits: Tensor,
    label: Tensor,
    counts: Tensor,
    auxiliary: Tensor | None,
    weights: LossWeights,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and its parts by name, unweighted.

    Parameters
    ----------
    logits : Tensor of float, shape (n, 1, y, x), or (n, 2, y, x) with an auxiliary target
    label, counts : Tensor of bool, shape (n, y, x)
    auxiliary : Tensor of bool, shape (n, y, x), optional
    weights : LossWeights
    """
    classes = (weights.background, weights.density)
    parts = {
        "bce": (weights.bce, cross_entropy(logits[:, 0], label, counts, classes, weights.hardest)),
        "dice": (weights.dice, dice_loss(logits[:, 0], label, counts)),
    }
    if auxiliary is not None:
        parts["auxiliary"] = (weights.auxiliary, cross_entropy(logits[:, 1], auxiliary, counts))
    # A weight of 0 switches a part off, whatever its value.
    total = sum((w * part for w, part in parts.values() if w), torch.zeros(()).to(logits))
    return total, {name: part.item() for name, (_, part) in parts.items()}
