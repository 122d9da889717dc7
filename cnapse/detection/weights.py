"""State dicts in checkpoint files: read without running anything, their keys checked strictly."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cnapse.detection.network import PUBLISHED_WIDTHS
from cnapse.errors import CheckpointError

__all__ = ["DAMAGED", "check_weights", "read_weights", "unet_widths"]

# What torch raises for bytes that are no checkpoint, or one with more than tensors in it.
DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    struct.error,
)
_PREFIXES = ("module.", "model.", "_orig_mod.")
_MOST_PREFIXES = 3
_WRAPPINGS = {"state_dict", "model_state_dict", "model", "network", "net"}


def read_weights(path: str | Path, expected: Collection[str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU, to be checked.

    It may be nested (``state_dict``, ``model``, ...). Its names may have the prefixes of Lightning,
    of parallel training and of compiling (``model.``, ``module.``, ``_orig_mod.``): as many are
    taken off as it takes to fit the expected names best. Nothing but tensors is unpickled.

    Raises
    ------
    CheckpointError
        If there is no such file, or it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint of weights alone: {reason}") from error
    while isinstance(state, dict) and (found := _WRAPPINGS & state.keys()):
        inner = state[min(found)]
        if not isinstance(inner, dict):
            break
        state = inner
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    return _plain(state, expected)


def _plain(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Names without as many prefixes as it takes to fit best."""
    best = tried = dict(state)
    for _ in range(_MOST_PREFIXES):
        tried = {_without_prefix(name): value for name, value in tried.items()}
        if len(tried) < len(state):
            break  # two came to have one name
        if len(tried.keys() & set(expected)) > len(best.keys() & set(expected)):
            best = tried
    return best


def _without_prefix(name: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Demand just these names and shapes.

    Raises
    ------
    CheckpointError
        With all that is missing, unexpected or of another shape, in one line.
    """
    mistakes = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    listed = [f"{kind}: {', '.join(names)}" for kind, names in mistakes.items() if names]
    if listed:
        raise CheckpointError(
            f"weights of {where} do not fit the network; {'; '.join(listed)}: give the "
            "architecture and options that they are of"
        )


def unet_widths(weights: Mapping[str, Tensor]) -> list[int]:
    """Channels per level of a U-Net, from its weights; the published ones if they do not tell."""
    names = ["conv_in.conv1.bias", *(f"dconv{level}.conv1.bias" for level in range(1, 5))]
    if not all(name in weights for name in names):
        return list(PUBLISHED_WIDTHS)  # the strict check that follows says what is missing
    return [weights[name].numel() for name in names]
