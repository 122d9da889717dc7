"""Model bundles: weights and all that is needed to run them; and checkpoints of detectEM.

A bundle is a folder with ``model.json`` and ``weights.safetensors``, local or in a bucket. Weights
may be stored as float16; they are computed with in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn

import cnapse
from cnapse.detection.devices import checked_device
from cnapse.detection.network import FrozenUNet, RunningUNet, UNet
from cnapse.detection.normalization import ImageNormalization, fold, freeze
from cnapse.detection.receptive import ReceptiveField, check_halo
from cnapse.detection.registry import (
    build_network,
    canonical_name,
    complete_options,
    is_own,
    network_field,
    network_state,
)
from cnapse.detection.weights import DAMAGED, check_weights, read_weights, unet_widths
from cnapse.errors import CheckpointError, CnapseError, ConfigError
from cnapse.geometry import Box, Resolution
from cnapse.store import Store, canonical_json

__all__ = [
    "DAMAGED",
    "ModelBundle",
    "load_bundle",
    "load_checkpoint",
    "save_bundle",
    "shipped_bundles",
]

_FORMAT = 1
_MODEL = "model.json"
_WEIGHTS = "weights.safetensors"
_ONE_CLASS = ("synapse",)
# The first networks keep the names and keys under which their bundles were written.
_FIRST_NAMES = {"tile": "unet2d", "frozen": "unet2d-frozen"}
# Statistics of a tile reach over all of it: nothing to measure, and no halo covers it.
_UNBOUNDED = ReceptiveField(first=0, last=0, before=0, after=0, stride=1)


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """Weights and all that is needed to run them.

    Parameters
    ----------
    weights : dict of Tensor
        By the names of the network's parameters and buffers; floats of any size.
    resolution : (x, y, z)
        Voxel size in nm that the model was trained at.
    architecture : str
        Name of the network: see `cnapse.detection.registry`.
    options : dict
        Of the network.
    statistics : {"frozen", "tile"}
        Statistics of the norms: frozen (and folded), or taken from each tile as published. A
        "unet" has frozen ones; "detectem" and a network of one's own may have either.
    sections : int
        Neighbouring sections that the network is shown, as channels; an odd number. It predicts
        the middle one.
    classes : tuple of str
        What the outputs are, each by itself between 0 and 1.
    normalization : ImageNormalization
    tile : (x, y)
        Pixels that are predicted at a time, multiples of the network's stride.
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
    architecture: str = "detectem"
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Literal["frozen", "tile"] = "frozen"
    sections: int = 1
    classes: tuple[str, ...] = _ONE_CLASS
    normalization: ImageNormalization = field(default_factory=ImageNormalization)
    tile: tuple[int, int] = (1024, 1024)
    halo: int = 160
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # 8 and 8.0 are one in the digest; a box refuses what is no voxel size.
        resolution = Box((0, 0, 0), (1, 1, 1), self.resolution).resolution
        object.__setattr__(self, "resolution", resolution)
        name = canonical_name(self.architecture).removesuffix("-frozen")
        object.__setattr__(self, "architecture", name)
        object.__setattr__(self, "options", complete_options(name, self.options))
        object.__setattr__(self, "classes", tuple(self.classes))
        self._check_choices()
        reach = self.receptive_field
        if self.statistics == "tile":
            # Statistics of a tile reach over all of it; no halo makes the answer local.
            reach = replace(reach, before=0, after=0)
        check_halo(self.halo, self.tile, reach)
        expected = network_state(*self._network)
        object.__setattr__(self, "weights", _with_numbers(self.weights, expected))
        check_weights(self.weights, expected, "the bundle")

    @property
    def receptive_field(self) -> ReceptiveField:
        """What an output pixel sees, measured; statistics of the tile are left aside."""
        if self.statistics == "tile" and is_own(self.architecture):
            return _UNBOUNDED
        return network_field(*self._network)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the bundle, as hexadecimal."""
        found = hashlib.sha256(canonical_json(self.to_dict()))
        found.update(self._weights_hash().encode())
        return found.hexdigest()

    @classmethod
    def of(cls, network: nn.Module, *, resolution: Resolution, **others: Any) -> Self:
        """The bundle of a network; `others` are fields of the bundle.

        Architecture, options, statistics and number of sections follow from the network, but not
        those of a network of one's own.
        """
        if isinstance(network, UNet | FrozenUNet | RunningUNet):
            others = {
                "architecture": "unet" if isinstance(network, RunningUNet) else "detectem",
                "options": network.options,
                "statistics": "tile" if isinstance(network, UNet) else "frozen",
                "sections": network.channels_in,
                **others,
            }
        weights = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        return cls(weights=weights, resolution=resolution, **others)

    def network(self) -> nn.Module:
        """A fresh network with these weights, in float32, to run: norms are folded if they can be.

        It takes (n, sections, y, x) and gives logits (n, classes, y, x).
        """
        network = build_network(*self._network)
        network.load_state_dict({k: _computed(v) for k, v in self.weights.items()}, strict=True)
        if isinstance(network, RunningUNet):
            network = fold(network, network.statistics())
        return network.eval().requires_grad_(False)

    @property
    def parameters(self) -> int:
        """Number of weights that were learned."""
        return sum(value.numel() for name, value in self.weights.items() if self._is_learned(name))

    def frozen(
        self, sections: Sequence[npt.NDArray[np.uint8]], margin: int = 0, device: str = "cpu"
    ) -> Self:
        """The bundle with its statistics frozen on sample sections.

        Parameters
        ----------
        sections : sequence of ndarray of uint8
            As for `cnapse.detection.normalization.freeze`.
        margin : int
            As there.
        device : str
            Where they are pooled, as torch names it.

        Raises
        ------
        ConfigError
            If they are frozen already.
        """
        network = self.network()
        if not isinstance(network, UNet):
            raise ConfigError("the statistics of this model are frozen already")
        frozen = freeze(network.to(checked_device(device)), sections, self.normalization, margin)
        weights = {name: value.cpu() for name, value in frozen.state_dict().items()}
        halo = max(self.halo, self.receptive_field.least_halo)
        return replace(self, weights=weights, statistics="frozen", halo=halo)

    def half(self) -> Self:
        """The bundle with weights in float16, half the size on disk.

        Running statistics stay as they are: float16 does not hold large and small variances.
        """
        learned = {k: v.half() for k, v in self.weights.items() if self._is_learned(k)}
        return replace(self, weights={**self.weights, **learned})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the weights, for JSON."""
        described: dict[str, Any] = {
            "format": _FORMAT,
            "architecture": self.architecture,
            "options": dict(self.options),
            "statistics": self.statistics,
            "normalization": self.normalization.to_dict(),
            "resolution": list(self.resolution),
            "tile": list(self.tile),
            "halo": self.halo,
            "receptive_field": asdict(self.receptive_field),
            "provenance": dict(self.provenance),
        }
        if self.architecture == "detectem":
            described["architecture"] = _FIRST_NAMES[self.statistics]
            described["widths"] = described.pop("options")["widths"]
        if self.sections != 1:
            described["sections"] = self.sections
        if self.classes != _ONE_CLASS:
            described["classes"] = list(self.classes)
        return described

    @property
    def _network(self) -> tuple[str, Mapping[str, Any], int, int]:
        """What `registry.build_network` takes."""
        folded = self.architecture == "detectem" and self.statistics == "frozen"
        name = f"{self.architecture}-frozen" if folded else self.architecture
        return name, self.options, self.sections, len(self.classes)

    @cached_property
    def _buffers(self) -> set[str]:
        return {name for name, _ in build_network(*self._network).named_buffers()}

    def _is_learned(self, name: str) -> bool:
        return name not in self._buffers

    def _check_choices(self) -> None:
        if self.statistics not in _FIRST_NAMES:
            raise ConfigError(f'statistics must be "frozen" or "tile", not {self.statistics!r}')
        if self.architecture == "unet" and self.statistics == "tile":
            raise ConfigError('architecture "unet" has running statistics: statistics is "frozen"')
        if self.sections < 1 or self.sections % 2 == 0:
            raise ConfigError(
                f"sections = {self.sections}: give an odd number, as the middle one is predicted"
            )
        names = self.classes
        if not names or "" in names or len(set(names)) < len(names):
            raise ConfigError(f"classes = {list(names)}: give each output a name of its own")

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        # The file format keeps no single number: it becomes an array of one.
        return {k: np.atleast_1d(self.weights[k].cpu().numpy()) for k in sorted(self.weights)}

    def _weights_hash(self) -> str:
        found = hashlib.sha256()
        for name, array in self._arrays().items():
            found.update(f"{name} {array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def save_bundle(bundle: ModelBundle, path: str | Path) -> None:
    """Write a bundle to a folder, local or in a bucket; the weights first.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    store = Store(path)
    store.put(_WEIGHTS, save(bundle._arrays()))
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
    content = store.get(_WEIGHTS)
    if content is None:
        raise CheckpointError(f"{store.path} is not whole: {_WEIGHTS} is missing; copy it again")
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"{store.path}/{_WEIGHTS} is damaged ({error}): copy it again"
        ) from error
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
    weights = read_weights(path, network_state("detectem").keys())
    network = UNet(unet_widths(weights))
    check_weights(weights, network.state_dict(), str(path))
    network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=True)
    return network.eval()


def _with_numbers(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Single numbers as such: a file has them as arrays of one."""
    return {
        name: value.reshape(())
        if name in expected and not expected[name].ndim and value.numel() == 1
        else value
        for name, value in weights.items()
    }


def _computed(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _models_folder() -> Path:
    return Path(cnapse.__file__).parent / "models"


def _folder_of(path_or_name: str) -> str:
    is_name = "/" not in path_or_name and not path_or_name.startswith((".", "~"))
    shipped = shipped_bundles()
    # A folder that happens to have a shipped model's name is no reason to refuse that model.
    is_other = path_or_name in shipped and not (Path(path_or_name) / _MODEL).is_file()
    if not is_name or (Path(path_or_name).is_dir() and not is_other):
        return path_or_name
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
        first = "widths" in described
        return ModelBundle(
            weights={name: torch.from_numpy(array) for name, array in arrays.items()},
            resolution=(x, y, z),
            architecture=described["architecture"],
            options={"widths": described["widths"]} if first else dict(described["options"]),
            statistics=described["statistics"],
            sections=int(described.get("sections", 1)),
            classes=tuple(described.get("classes", _ONE_CLASS)),
            normalization=ImageNormalization.from_dict(described["normalization"]),
            tile=(tile_x, tile_y),
            halo=int(described["halo"]),
            provenance=dict(described["provenance"]),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    except CnapseError:
        raise
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}/{_MODEL} is damaged: {error}") from error
