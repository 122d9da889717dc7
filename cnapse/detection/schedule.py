"""What follows from the number of a step: its learning rate, its random numbers."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

__all__ = ["Decay", "learning_rate", "stream"]

Decay = Literal["cosine", "linear", "constant"]


def learning_rate(
    step: int, steps: int, *, highest: float, warmup: int = 0, decay: Decay = "cosine"
) -> float:
    """Linear warm-up to `highest`, then down to 0 after the last step (or not at all).

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        How many there are.
    highest : float
    warmup : int
        Steps of the warm-up; at most half of all.
    decay : {"cosine", "linear", "constant"}
        Cosine as Loshchilov & Hutter 2017, without restarts.
    """
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return highest * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    if decay == "cosine":
        return highest * 0.5 * (1 + math.cos(math.pi * share))
    return highest * (1 - share) if decay == "linear" else highest


def stream(seed: int, number: int) -> np.random.Generator:
    """Random numbers of a step; they need no state to go on after a stop."""
    return np.random.default_rng([seed, number])
