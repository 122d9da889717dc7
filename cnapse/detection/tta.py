"""Test-time augmentation: the mean over flipped and turned images, turned back.

Tiles and halos are multiples of the network's stride and the halo is the same on all sides, so that
a flipped tile lies on the grid of the flipped section: tiles equal the whole here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cnapse.errors import ConfigError

__all__ = ["Augmentation", "View", "check_augmentation", "views_of"]

Augmentation = Literal["none", "flips", "all"]

_SAME = 1e-3


@dataclass(frozen=True, slots=True)
class View:
    """A way to look at an image: mirrored in x or not, then turned.

    Parameters
    ----------
    mirrored : bool
    turns : int
        Quarter turns, 0..3.
    """

    mirrored: bool = False
    turns: int = 0

    def apply(self, image: Tensor) -> Tensor:
        """The image, shape (..., y, x), as this view shows it."""
        flipped = image.flip(-1) if self.mirrored else image
        return torch.rot90(flipped, self.turns, (-2, -1)) if self.turns else flipped

    def undo(self, image: Tensor) -> Tensor:
        """The image of which `apply` makes this one."""
        turned = torch.rot90(image, -self.turns, (-2, -1)) if self.turns else image
        return turned.flip(-1) if self.mirrored else turned


_FLIPS = tuple(View(mirrored, turns) for turns in (0, 2) for mirrored in (False, True))
_VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(),),
    "flips": _FLIPS,
    "all": _FLIPS + tuple(View(mirrored, turns) for turns in (1, 3) for mirrored in (False, True)),
}


def views_of(augmentation: Augmentation) -> tuple[View, ...]:
    """One view, or the 4 of flips in x and y, or all 8 with quarter turns.

    Raises
    ------
    ConfigError
        If there is no such augmentation.
    """
    if augmentation not in _VIEWS:
        raise ConfigError(f'augment must be "none", "flips" or "all", not {augmentation!r}')
    return _VIEWS[augmentation]


def check_augmentation(augmentation: Augmentation, resolution: Sequence[float]) -> None:
    """Refuse quarter turns where voxels are not as long in x as in y.

    Raises
    ------
    ConfigError
    """
    x, y = resolution[:2]
    turned = any(view.turns % 2 for view in views_of(augmentation))
    if turned and abs(x - y) > _SAME * max(x, y):
        raise ConfigError(
            f'augment = "all" turns images, but voxels of {x:g} x {y:g} nm are not square: '
            'take "flips"'
        )
