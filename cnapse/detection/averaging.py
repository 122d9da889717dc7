"""Averages of the weights over the steps, which do better than the last weights of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["AverageKind", "WeightAverage"]

AverageKind = Literal["none", "exponential", "late"]


@dataclass
class WeightAverage:
    """A running average of a network's weights and buffers.

    Parameters
    ----------
    kind : {"none", "exponential", "late"}
        ``"exponential"``: each step moves the average to the weights by ``1 - decay`` (Polyak &
        Juditsky 1992); in the first steps by more, ``1 - (1 + n) / (10 + n)``, so that the random
        weights of the start are soon forgotten. ``"late"``: the plain mean of all steps from
        `first` on (Izmailov et al. 2018); before that, the weights themselves.
    decay : float
    first : int
        Step from which ``"late"`` counts.
    """

    kind: AverageKind
    decay: float = 0.999
    first: int = 0
    count: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after a step (from 0)."""
        if self.kind == "none" or (self.kind == "late" and step < self.first):
            return
        if not self.values:
            self.values = {name: value.detach().clone() for name, value in weights.items()}
        share = self._share()
        for name, value in weights.items():
            if value.is_floating_point():
                self.values[name].lerp_(value.detach(), share)
            else:
                self.values[name].copy_(value)
        self.count += 1

    def of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of the average; of `weights` if there is none."""
        return {name: v.detach().clone() for name, v in (self.values or weights).items()}

    def state(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {"count": self.count, "values": self.values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.count, self.values = int(state["count"]), dict(state["values"])

    def _share(self) -> float:
        if self.kind == "late":
            return 1 / (self.count + 1)
        return 1 - min(self.decay, (1 + self.count) / (10 + self.count))
