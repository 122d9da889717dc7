"""Where networks are run."""

from __future__ import annotations

import torch

from cnapse.errors import ConfigError

__all__ = ["checked_device"]


def checked_device(name: str) -> torch.device:
    """A device by its name, as torch has it.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(f'device {name!r} cannot be used ({reason}): take "cpu"') from error
    return device
