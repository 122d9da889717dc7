"""The network that is trained: what it starts from, what it is given, and the bundle it ends in.

While it is trained, the last convolution has an output more if there is an auxiliary target; the
bundle is made without it. A network whose norms take the statistics of the batch is frozen for the
bundle (`cnapse.detection.normalization`); one that keeps running statistics is taken as it is.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnapse.detection.checkpoint import ModelBundle, load_checkpoint
from cnapse.detection.datasets import AnnotatedVolume
from cnapse.detection.devices import checked_device
from cnapse.detection.network import (
    FrozenUNet,
    RunningUNet,
    Statistics,
    UNet,
)
from cnapse.detection.normalization import ImageNormalization, fold, pool_statistics
from cnapse.detection.receptive import check_halo
from cnapse.detection.registry import build_network, is_own, network_field
from cnapse.detection.samples import draw_sections
from cnapse.detection.schedule import stream
from cnapse.detection.settings import TrainConfig
from cnapse.errors import CheckpointError, ConfigError

__all__ = ["NOT_LEARNED_FROM", "Trainee", "learning_part"]

NOT_LEARNED_FROM = frozenset({"output", "device", "save_every", "tensorboard", "tile", "gap_nm"})
"""Keys of a configuration that do not make the weights what they are."""

_SECTIONS_STREAM = 1 << 40
_LAST = "conv_out"


class Trainee:
    """A network in training.

    Parameters
    ----------
    config : TrainConfig

    Raises
    ------
    CheckpointError, ConfigError
        If there is no such network, device or checkpoint to start from.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.device = checked_device(config.device)
        self.field = network_field(config.architecture, _options(config), config.sections)
        check_halo(config.halo, config.tile, self.field)
        self.normalization = ImageNormalization(**config.normalization.model_dump())
        self.levels = torch.from_numpy(self.normalization.levels()).to(self.device)
        network = _started(config)
        if config.has_auxiliary:
            _widen(network, config.seed)
        network = network.train().to(self.device)
        # torch's stubs know no memory_format beside a device.
        self.network: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.statistics: Statistics = {}
        self._norms_held = False

    @property
    def is_fixed(self) -> bool:
        """Whether the norms take fixed statistics."""
        return bool(self.statistics) or self._norms_held

    def fix_statistics(self, volumes: Sequence[AnnotatedVolume]) -> None:
        """From here on the norms take fixed statistics: pooled now, or those that they keep."""
        if isinstance(self.network, UNet):
            self.statistics = self._pooled(volumes, self.network)
        else:
            _hold_norms(self.network)
            self._norms_held = True

    def logits(self, image: np.ndarray[Any, Any]) -> Tensor:
        """Logits in float32, shape (n, outputs, y, x), of a uint8 `image` (n, sections, y, x)."""
        if isinstance(self.network, UNet):
            self.network.fix_statistics(self.statistics)
        values = self.levels[torch.from_numpy(image).to(self.device).int()]
        values = values.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits: Tensor = self.network(values)
        return logits.float()

    def weights(self) -> dict[str, Tensor]:
        """Weights and buffers, as they are: not copied."""
        state: dict[str, Tensor] = self.network.state_dict()
        return state

    def finished(
        self, weights: Mapping[str, Tensor], volumes: Sequence[AnnotatedVolume]
    ) -> dict[str, Any]:
        """All that a bundle is made of, from weights (as `weights` gives them, or an average)."""
        plain = {name: _without_auxiliary(name, value) for name, value in weights.items()}
        plain = {name: value.detach().cpu().clone() for name, value in plain.items()}
        statistics = self.statistics
        network = _built(self.config)
        if isinstance(network, UNet) and not statistics:
            network.load_state_dict(plain)
            statistics = self._pooled(volumes, network)
        return {"network": plain, "statistics": statistics}

    def bundle(self, state: Mapping[str, Any]) -> ModelBundle:
        """The bundle of what `finished` gave; its step and score go into the provenance."""
        config = self.config
        network = _built(config)
        network.load_state_dict(state["network"])
        statistics: Statistics = state["statistics"]
        ready = fold(network, statistics) if isinstance(network, UNet) else network.eval()
        own = {"architecture": config.architecture, "options": config.options}
        return ModelBundle.of(
            ready,
            **(own if is_own(config.architecture) else {}),
            sections=config.sections,
            resolution=config.resolution,
            normalization=self.normalization,
            tile=config.tile,
            halo=config.halo,
            provenance=_provenance(config, state),
        )

    def _pooled(self, volumes: Sequence[AnnotatedVolume], network: UNet) -> Statistics:
        """Statistics over sections of the training volumes, seen as inference sees them."""
        config = self.config
        margin = self.field.least_halo
        rng = stream(config.seed, _SECTIONS_STREAM)
        drawn = draw_sections(
            volumes, config.freeze_sections, config.patch, margin, rng, config.sections
        )
        scaled = [self.normalization.apply(sections).T[None].copy() for sections in drawn]
        place = next(network.parameters()).device
        return pool_statistics(network, [torch.from_numpy(s).to(place) for s in scaled], margin)

    def _autocast(self) -> AbstractContextManager[Any]:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def learning_part(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration makes the weights what they are, as JSON has it."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude=set(NOT_LEARNED_FROM))
    return values


def _options(config: TrainConfig) -> dict[str, Any]:
    own = is_own(config.architecture)
    return dict(config.options) if own else {"widths": config.widths, **config.options}


def _built(config: TrainConfig) -> nn.Module:
    return build_network(config.architecture, _options(config), config.sections)


def _started(config: TrainConfig) -> nn.Module:
    if config.start_from:
        network = load_checkpoint(config.start_from)
        if network.widths != config.widths:
            raise CheckpointError(
                f"{config.start_from} has widths {list(network.widths)}: set widths to these, not "
                f"{list(config.widths)}"
            )
        return network.requires_grad_(True)
    torch.manual_seed(config.seed)
    built = _built(config)
    if isinstance(built, UNet | RunningUNet | FrozenUNet):
        built.initialize(torch.Generator().manual_seed(config.seed))
    return built


def _widen(network: nn.Module, seed: int) -> None:
    """Give the last convolution an output for the auxiliary target."""
    plain = getattr(network, _LAST, None)
    if not isinstance(plain, nn.Conv2d):
        raise ConfigError(
            f"an auxiliary target needs a network whose last layer is a convolution {_LAST!r}, "
            f"which {type(network).__name__} has not: leave auxiliary out"
        )
    wide = nn.Conv2d(plain.in_channels, 2, plain.kernel_size, padding=plain.padding)  # type: ignore[arg-type]
    fan_in = plain.weight[0].numel()
    drawn = torch.randn(plain.weight.shape, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        wide.weight.copy_(torch.cat([plain.weight, drawn * (2.0 / fan_in) ** 0.5]))
        if plain.bias is not None and wide.bias is not None:
            wide.bias.copy_(torch.cat([plain.bias, torch.zeros(1)]))
    setattr(network, _LAST, wide)


def _without_auxiliary(name: str, value: Tensor) -> Tensor:
    return value[:1] if name.startswith(f"{_LAST}.") else value


def _hold_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _provenance(config: TrainConfig, state: Mapping[str, Any]) -> dict[str, Any]:
    import cnapse

    return {
        "made_by": "cnapse train",
        "config": learning_part(config),
        "step": state["step"],
        "score": state["score"],
        "versions": {
            "cnapse": getattr(cnapse, "__version__", ""),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
