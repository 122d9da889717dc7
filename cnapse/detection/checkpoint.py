"""Model bundles: weights and all that is needed to run them; and checkpoints of detectEM.

A bundle is a folder with ``model.json`` and ``weights.safetensors``, local or in a bucket. Weights
may be stored as float16; they are computed with in float32.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import cnapse
from cnapse.detection.network import (
    PUBLISHED_WIDTHS,
    FrozenUNet,
    ReceptiveField,
    UNet,
    build_network,
    check_halo,
    receptive_field,
)
from cnapse.detection.normalization import ImageNormalization, freeze
from cnapse.errors import CheckpointError, ConfigError
from cnapse.geometry import Box, Resolution
from cnapse.store import Store, canonical_json

__all__ = ["ModelBundle", "load_bundle", "load_checkpoint", "save_bundle", "shipped_bundles"]

_FORMAT = 1
_MODEL = "model.json"
_WEIGHTS = "weights.safetensors"
_ARCHITECTURE_OF = {"frozen": "unet2d-frozen", "tile": "unet2d"}
# What torch raises for bytes that are no checkpoint, or one with more than tensors in it.
DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)
_PREFIXES = ("module.", "model.")


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """Weights and all that is needed to run them.

    Parameters
    ----------
    weights : dict of Tensor
        By the names of the architecture's parameters; floats of any size.
    resolution : (x, y, z)
        Voxel size in nm that the model was trained at.
    statistics : {"frozen", "tile"}
        Statistics of the norms: frozen and folded, or taken from each tile as published.
    widths : tuple of int
        Channels per level.
    normalization : ImageNormalization
    tile : (x, y)
        Pixels that are predicted at a time, multiples of 16.
    halo : int
        Pixels around a tile that are read but not predicted.
    provenance : dict
        Where the weights come from; any JSON.

    Raises
    ------
    ConfigError
        If halo, tile or statistics cannot be used.
    CheckpointError
        If the weights are not those of the architecture.
    """

    weights: Mapping[str, Tensor] = field(repr=False)
    resolution: Resolution
    statistics: Literal["frozen", "tile"] = "frozen"
    widths: tuple[int, ...] = PUBLISHED_WIDTHS
    normalization: ImageNormalization = field(default_factory=ImageNormalization)
    tile: tuple[int, int] = (512, 512)
    halo: int = 160
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.statistics not in _ARCHITECTURE_OF:
            raise ConfigError(f'statistics must be "frozen" or "tile", not {self.statistics!r}')
        # 8 and 8.0 are one in the digest; a box refuses what is no voxel size.
        resolution = Box((0, 0, 0), (1, 1, 1), self.resolution).resolution
        object.__setattr__(self, "resolution", resolution)
        reach = self.receptive_field
        if self.statistics == "tile":
            # Statistics of a tile reach over all of it; no halo makes the answer local.
            reach = replace(reach, before=0, after=0)
        check_halo(self.halo, self.tile, reach)
        with torch.device("meta"):
            expected = build_network(self.architecture, self.widths).state_dict()
        _check_weights(self.weights, expected, "the bundle")

    @property
    def architecture(self) -> str:
        """Name of the network in `cnapse.detection.network.ARCHITECTURES`."""
        return _ARCHITECTURE_OF[self.statistics]

    @property
    def receptive_field(self) -> ReceptiveField:
        """What an output pixel sees, measured."""
        return receptive_field(len(self.widths))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the bundle, as hexadecimal."""
        found = hashlib.sha256(canonical_json(self.to_dict()))
        found.update(self._weights_hash().encode())
        return found.hexdigest()

    @classmethod
    def of(cls, network: UNet | FrozenUNet, *, resolution: Resolution, **others: Any) -> Self:
        """The bundle of a network; `others` are fields of the bundle."""
        return cls(
            weights={k: v.detach().clone() for k, v in network.state_dict().items()},
            resolution=resolution,
            statistics="frozen" if isinstance(network, FrozenUNet) else "tile",
            widths=network.widths,
            **others,
        )

    def network(self) -> UNet | FrozenUNet:
        """A fresh network with these weights, in float32, to run."""
        network = build_network(self.architecture, self.widths)
        network.load_state_dict({k: v.float() for k, v in self.weights.items()}, strict=True)
        return network.eval().requires_grad_(False)

    def frozen(self, sections: Sequence[npt.NDArray[np.uint8]], margin: int = 0) -> Self:
        """The bundle with its statistics frozen on sample sections: see `normalization.freeze`.

        Raises
        ------
        ConfigError
            If they are frozen already.
        """
        network = self.network()
        if not isinstance(network, UNet):
            raise ConfigError("the statistics of this model are frozen already")
        weights = freeze(network, sections, self.normalization, margin).state_dict()
        halo = max(self.halo, self.receptive_field.least_halo)
        return replace(self, weights=weights, statistics="frozen", halo=halo)

    def half(self) -> Self:
        """The bundle with weights in float16, half the size on disk."""
        return replace(self, weights={k: v.half() for k, v in self.weights.items()})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the weights, for JSON."""
        return {
            "format": _FORMAT,
            "architecture": self.architecture,
            "widths": list(self.widths),
            "statistics": self.statistics,
            "normalization": self.normalization.to_dict(),
            "resolution": list(self.resolution),
            "tile": list(self.tile),
            "halo": self.halo,
            "receptive_field": asdict(self.receptive_field),
            "provenance": dict(self.provenance),
        }

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: self.weights[name].cpu().numpy() for name in sorted(self.weights)}

    def _weights_hash(self) -> str:
        found = hashlib.sha256()
        for name, array in self._arrays().items():
            found.update(f"{name} {array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def save_bundle(bundle: ModelBundle, path: str | Path) -> None:
    """Write a bundle to a folder, local or in a bucket; the weights first."""
    store = Store(path)
    store.put_arrays(_WEIGHTS, bundle._arrays())
    store.put_json(_MODEL, {**bundle.to_dict(), "digest": bundle.digest})


def shipped_bundles() -> list[str]:
    """Names of the bundles that come with cnapse."""
    return sorted(path.parent.name for path in _models_folder().glob(f"*/{_MODEL}"))


def load_bundle(path_or_name: str | Path) -> ModelBundle:
    """Load a bundle from its folder (local or in a bucket), or a shipped one by name.

    Raises
    ------
    CheckpointError
        If there is none, if it is not whole, or if the weights do not fit.
    """
    store = Store(_folder_of(str(path_or_name)))
    described = store.get_json(_MODEL)
    if described is None:
        raise CheckpointError(
            f"{store.path} is not a model bundle (it has no {_MODEL}): give the folder that "
            "`cnapse train` wrote, or the name of a shipped model"
        )
    arrays = store.get_arrays(_WEIGHTS)
    if arrays is None:
        raise CheckpointError(f"{store.path} is not whole: {_WEIGHTS} is missing; copy it again")
    bundle = _from_dict(described, arrays, store.path)
    if described.get("digest") != bundle.digest:
        raise CheckpointError(
            f"{store.path}: {_MODEL} and {_WEIGHTS} do not belong together, or were edited; "
            "copy the bundle again"
        )
    return bundle


def load_checkpoint(path: str | Path) -> UNet:
    """Load a checkpoint of detectEM (``.chkpt``): a state dict of its network, float16 or 32.

    The channels per level are taken from the weights. Nothing but tensors is unpickled.

    Returns
    -------
    UNet
        On the CPU, in float32.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or its keys and shapes are not just those of the network.
    """
    path = Path(path)
    weights = {_plain(name): value for name, value in _read_state(path).items()}
    network = UNet(_widths_of(weights))
    _check_weights(weights, network.state_dict(), str(path))
    network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=True)
    return network.eval()


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint of weights alone: {reason}") from error
    for wrapped in ("state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapped), dict):
            state = state[wrapped]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    return state


def _plain(name: str) -> str:
    for prefix in _PREFIXES * 2:
        name = name.removeprefix(prefix)
    return name


def _widths_of(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    names = ["conv_in.conv1.bias", *(f"dconv{level}.conv1.bias" for level in range(1, 5))]
    if not all(name in weights for name in names):
        return PUBLISHED_WIDTHS  # the strict check that follows says what is missing
    return tuple(weights[name].numel() for name in names)


def _check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Demand just these names and shapes."""
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
        raise CheckpointError(f"weights of {where} do not fit the network; {'; '.join(listed)}")


def _models_folder() -> Path:
    return Path(cnapse.__file__).parent / "models"


def _folder_of(path_or_name: str) -> str:
    is_name = "/" not in path_or_name and not path_or_name.startswith((".", "~"))
    if not is_name or Path(path_or_name).is_dir():
        return path_or_name
    shipped = shipped_bundles()
    if path_or_name not in shipped:
        raise CheckpointError(
            f"model {path_or_name!r} is neither a folder nor shipped with cnapse; shipped: "
            f"{', '.join(shipped) or 'none'}"
        )
    return str(_models_folder() / path_or_name)


def _from_dict(
    described: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], where: str
) -> ModelBundle:
    if described.get("format") != _FORMAT:
        raise CheckpointError(
            f"{where}: format {described.get('format')!r} of a bundle is not known (this cnapse "
            f"reads {_FORMAT}): use the cnapse that wrote it"
        )
    try:
        x, y, z = (float(v) for v in described["resolution"])
        tile_x, tile_y = (int(v) for v in described["tile"])
        return ModelBundle(
            weights={name: torch.from_numpy(array) for name, array in arrays.items()},
            resolution=(x, y, z),
            statistics=described["statistics"],
            widths=tuple(int(v) for v in described["widths"]),
            normalization=ImageNormalization.from_dict(described["normalization"]),
            tile=(tile_x, tile_y),
            halo=int(described["halo"]),
            provenance=described["provenance"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{where}/{_MODEL} is damaged: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
