"""Networks by name, and a user's own by import path.

===================  ===============================================================================
``detectem``         the published U-Net: shared norms that take the statistics of the tile
``detectem-frozen``  the same without norms: their statistics are folded into the convolutions
``unet``             the same with a norm for each convolution, and running statistics
``module:Class``     a ``torch.nn.Module`` of one's own; its options are keyword arguments
===================  ===============================================================================

Option of the first three: ``widths``, the channels per level, finest first; of ``unet``: ``half``,
to work at half the resolution. A network of one's own
takes (n, sections, y, x) and gives logits (n, classes, y, x). If its constructor has parameters
``in_channels`` and ``out_channels``, it is told the number of sections and of classes.

Naming a network of one's own runs its code. Nothing is imported that was not named.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from cnapse.detection.network import (
    PUBLISHED_WIDTHS,
    FrozenUNet,
    RunningUNet,
    UNet,
    receptive_field,
)
from cnapse.detection.receptive import ReceptiveField, measure_field
from cnapse.errors import CheckpointError, ConfigError

__all__ = [
    "NETWORKS",
    "build_network",
    "canonical_name",
    "complete_options",
    "is_own",
    "network_field",
    "network_state",
]

Options = Mapping[str, Any]

NETWORKS: dict[str, type[UNet] | type[FrozenUNet] | type[RunningUNet]] = {
    "detectem": UNet,
    "detectem-frozen": FrozenUNet,
    "unet": RunningUNet,
}
# As model.json has them since the first bundles.
_ALIASES = {"unet2d": "detectem", "unet2d-frozen": "detectem-frozen"}


def build_network(
    name: str, options: Options | None = None, in_channels: int = 1, out_channels: int = 1
) -> nn.Module:
    """A fresh network by name.

    Parameters
    ----------
    name : str
        One of `NETWORKS`, or ``module:Class``, whose module is then imported.
    options : dict, optional
        Keyword arguments of the network.
    in_channels, out_channels : int
        Sections that the network is shown, and classes that it tells apart.

    Raises
    ------
    ConfigError
        If there is no such network, or it does not take the options.
    """
    name, options = canonical_name(name), complete_options(name, options)
    if is_own(name):
        return _own_network(name, options, in_channels, out_channels)
    try:
        return NETWORKS[name](channels_in=in_channels, channels_out=out_channels, **options)
    except (CheckpointError, TypeError, ValueError) as error:
        raise ConfigError(f"architecture {name!r}: {error}") from error


def is_own(name: str) -> bool:
    """Whether this is a network of the user's own, by import path."""
    return ":" in name


def canonical_name(name: str) -> str:
    """The one name of a network that may have had others.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    found = _ALIASES.get(name, name)
    if found not in NETWORKS and not is_own(found):
        raise ConfigError(
            f"architecture {name!r} is not known; there are: {', '.join(sorted(NETWORKS))}, or "
            "your own by import path (module:Class)"
        )
    return found


def complete_options(name: str, options: Options | None) -> dict[str, Any]:
    """Options with the defaults filled in, as JSON has them.

    Raises
    ------
    ConfigError
        If one is not known, or JSON cannot have it.
    """
    given = dict(options or {})
    if not is_own(name):
        known = ["widths", "half"] if NETWORKS[canonical_name(name)] is RunningUNet else ["widths"]
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise ConfigError(
                f"architecture {name!r} has no option {unknown[0]!r}; it has: {', '.join(known)}"
            )
        given.setdefault("widths", list(PUBLISHED_WIDTHS))
    try:
        completed: dict[str, Any] = json.loads(json.dumps(given))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"options of architecture {name!r} must be numbers, text, lists or tables: {error}"
        ) from error
    return completed


def network_field(
    name: str, options: Options | None = None, in_channels: int = 1, out_channels: int = 1
) -> ReceptiveField:
    """What an output pixel of a network sees, measured.

    Raises
    ------
    ConfigError
        If there is no such network, it cannot be run, or sees all that it is given.
    """
    return _field(*_key(name, options), in_channels, out_channels)


def network_state(
    name: str, options: Options | None = None, in_channels: int = 1, out_channels: int = 1
) -> Mapping[str, Tensor]:
    """Weights and buffers of a network by name: shapes and dtypes, no values."""
    return _state(*_key(name, options), in_channels, out_channels)


def _key(name: str, options: Options | None) -> tuple[str, str]:
    return canonical_name(name), json.dumps(complete_options(name, options), sort_keys=True)


@lru_cache(maxsize=16)
def _field(name: str, options: str, in_channels: int, out_channels: int) -> ReceptiveField:
    given = json.loads(options)
    if not is_own(name):
        return receptive_field(len(given["widths"]), bool(given.get("half")))
    network = build_network(name, given, in_channels, out_channels)
    return measure_field(network, in_channels, out_channels)


@lru_cache(maxsize=16)
def _state(name: str, options: str, in_channels: int, out_channels: int) -> Mapping[str, Tensor]:
    given = json.loads(options)
    if is_own(name):
        state = build_network(name, given, in_channels, out_channels).state_dict()
    else:
        with torch.device("meta"):
            state = build_network(name, given, in_channels, out_channels).state_dict()
    return {key: value.to("meta") for key, value in state.items()}


def _own_network(name: str, options: Options, in_channels: int, out_channels: int) -> nn.Module:
    made = _own_class(name)
    channels = {"in_channels": in_channels, "out_channels": out_channels}
    taken = inspect.signature(made).parameters
    arguments = {key: n for key, n in channels.items() if key in taken} | dict(options)
    try:
        # A fresh network must not change what is drawn after it.
        with torch.random.fork_rng(devices=[]):
            network = made(**arguments)
    except Exception as error:
        told = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"architecture {name!r} cannot be made with ({told}): {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"architecture {name!r} gives {type(network).__name__}, not a torch.nn.Module"
        )
    return network


def _own_class(name: str) -> Callable[..., object]:
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"architecture {name!r}: no module {error.name!r}; install it, or put its folder into "
            "PYTHONPATH"
        ) from error
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            f"architecture {name!r}: importing {module!r} fails with {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
    made: object = getattr(found, attribute, None)
    if not callable(made):
        raise ConfigError(f"architecture {name!r}: module {module!r} has no class {attribute!r}")
    return made
