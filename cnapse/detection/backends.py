"""How a network is run: eager or compiled, on a processor or a CUDA device, and which it was.

Compiling never fails in silence: what was asked for and cannot be had is run eagerly, and `took`
says so and why.

The CUDA part follows torch's documentation and has been read, not run: none of the machines that
cnapse was developed on has such a device.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.cropping import CroppedUNet
from cnapse.detection.devices import checked_device
from cnapse.detection.network import FrozenUNet
from cnapse.detection.tta import Augmentation, views_of
from cnapse.errors import ConfigError

__all__ = ["Engine", "Precision", "engine_of"]

Image = npt.NDArray[np.uint8]
Precision = Literal["float32", "bfloat16"]

_CACHED = 2


class Engine:
    """A model's network, ready to be run on tiles with their halo.

    Parameters
    ----------
    model : ModelBundle
    precision : {"float32", "bfloat16"}
    device : str
        As torch names it.
    compiled : bool
        Whether to try `torch.compile`.
    augmentation : {"none", "flips", "all"}
        See `cnapse.detection.tta`.

    Raises
    ------
    ConfigError
        If the device or the augmentation cannot be used.
    """

    def __init__(
        self,
        model: ModelBundle,
        precision: Precision = "float32",
        device: str = "cpu",
        *,
        compiled: bool = False,
        augmentation: Augmentation = "none",
    ) -> None:
        _limit_threads()
        self.device = checked_device(device)
        self.precision = precision
        self.views = views_of(augmentation)
        self.halo = model.halo
        network = model.network()
        self.cropped = isinstance(network, FrozenUNet)
        if isinstance(network, FrozenUNet):
            network = CroppedUNet(network, model.halo)
        # torch's stubs know no memory_format beside a device.
        self._network: nn.Module = network.to(self.device).to(
            memory_format=torch.channels_last  # type: ignore[call-overload]
        )
        # Norms that take statistics would mix the tiles of a batch; and on a processor torch picks
        # its kernels by the size of the batch, while larger batches gain nothing there.
        self.singly = self.device.type == "cpu" or model.statistics == "tile"
        self._levels = torch.from_numpy(model.normalization.levels()).to(self.device)
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._why_eager = ""
        if compiled:
            self._compile()

    @property
    def took(self) -> str:
        """Which path it takes, for people and records; final once a tile has been run."""
        path = "eager" if self._compiled is None else "compiled"
        return f"{path} {self.precision} on {self.device.type}{self._why_eager}"

    def run(self, batches: Iterable[Image]) -> Iterator[Image]:
        """``rint(255 p)`` of the middles of tiles.

        Parameters
        ----------
        batches : iterable of ndarray of uint8, shape (n, sections, y, x)
            Tiles with their halo.

        Yields
        ------
        ndarray of uint8, shape (n, classes, y - 2 halo, x - 2 halo)
            In the order of the batches.
        """
        if self.device.type == "cuda":
            yield from _double_buffered(batches, self.device, self._probability)
            return
        for inputs in batches:
            found: Image = self._probability(_tensor(inputs).to(self.device)).cpu().numpy()
            yield found

    def whole_logits(self, inputs: Image) -> Tensor:
        """Logits in float32 of images (n, sections, y, x), with those of the halo."""
        network = self._network.network if isinstance(self._network, CroppedUNet) else self._network
        with torch.inference_mode(), self._autocast():
            images = self._normalized(_tensor(inputs).to(self.device))
            return torch.cat([network(part).float() for part in self._parts(images)])

    def _probability(self, indices: Tensor) -> Tensor:
        with self._grad_mode(), self._autocast():
            images = self._normalized(indices)
            return torch.cat([self._mean(part) for part in self._parts(images)])

    def _mean(self, images: Tensor) -> Tensor:
        """``rint(255 p)``, p being the mean over the views."""
        total = None
        for view in self.views:
            seen = view.apply(images).contiguous(memory_format=torch.channels_last)
            p = view.undo(torch.sigmoid(self._middle(seen).float()))
            total = p if total is None else total + p
        if total is None:
            raise ConfigError("an augmentation needs at least one view")
        return torch.round(255.0 / len(self.views) * total).to(torch.uint8)

    def _middle(self, images: Tensor) -> Tensor:
        logits = self._forward(images)
        if self.cropped:
            return logits
        rows, columns = (slice(self.halo, n - self.halo) for n in images.shape[-2:])
        return logits[..., rows, columns]

    def _forward(self, images: Tensor) -> Tensor:
        if self._compiled is not None:
            try:
                return self._compiled(images)
            except Exception as error:  # a compiler may fail in any way
                self._fall_back(error)
        logits: Tensor = self._network(images)
        return logits

    def _compile(self) -> None:
        try:
            # Of one shape and in one graph: else parts would be run eagerly without a word.
            options: dict[str, Any] | None = None
            if self.device.type == "cpu":
                options = {"freezing": True}
            self._compiled = torch.compile(
                self._network, dynamic=False, fullgraph=True, options=options
            )
        except Exception as error:  # not on this platform, or Python
            self._fall_back(error)

    def _fall_back(self, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [""]
        self._compiled = None
        self._why_eager = f": torch.compile failed ({type(error).__name__}: {lines[0][:200]})"

    def _normalized(self, indices: Tensor) -> Tensor:
        images = self._levels[indices.int()]
        return images.contiguous(memory_format=torch.channels_last)

    def _parts(self, images: Tensor) -> list[Tensor]:
        return list(torch.split(images, 1)) if self.singly else [images]

    def _grad_mode(self) -> AbstractContextManager[Any]:
        # Weights are frozen into the code only outside of inference mode.
        return torch.inference_mode() if self._compiled is None else torch.no_grad()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def engine_of(
    model: ModelBundle,
    precision: Precision = "float32",
    device: str = "cpu",
    *,
    compiled: bool = False,
    augmentation: Augmentation = "none",
) -> Engine:
    """An engine, or the one last made for the same: a worker predicts many blocks with one model.

    Raises
    ------
    ConfigError
        As `Engine`.
    """
    key = (model.digest, precision, device, compiled, augmentation)
    if key not in _ENGINES:
        made = Engine(model, precision, device, compiled=compiled, augmentation=augmentation)
        while len(_ENGINES) >= _CACHED:
            _ENGINES.pop(next(iter(_ENGINES)))
        _ENGINES[key] = made
    return _ENGINES[key]


_ENGINES: dict[tuple[object, ...], Engine] = {}


def _double_buffered(
    batches: Iterable[Image], device: torch.device, compute: Callable[[Tensor], Tensor]
) -> Iterator[Image]:
    """Results in order; a batch is copied to the device while the one before is computed.

    Two batches are on their way at a time. Copies from and to pinned memory do not block; a result
    is waited for by its event.
    """
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    pending: deque[tuple[Tensor, Tensor, torch.cuda.Event]] = deque()
    for inputs in batches:
        pending.append(_submitted(inputs, device, compute, copying))
        if len(pending) > 1:
            yield _collected(pending.popleft())
    while pending:
        yield _collected(pending.popleft())


def _submitted(
    inputs: Image,
    device: torch.device,
    compute: Callable[[Tensor], Tensor],
    copying: torch.cuda.Stream,
) -> tuple[Tensor, Tensor, torch.cuda.Event]:
    """The pinned input (kept until it is copied), the pinned result, and when that is there."""
    pinned = _tensor(inputs).pin_memory()
    computing = torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        there = pinned.to(device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)
    levels = compute(there)
    result = torch.empty(levels.shape, dtype=levels.dtype, pin_memory=True)
    result.copy_(levels, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(computing)
    return pinned, result, done


def _collected(batch: tuple[Tensor, Tensor, torch.cuda.Event]) -> Image:
    _, result, done = batch
    done.synchronize()
    found: Image = result.numpy()
    return found


def _tensor(inputs: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(inputs))


@lru_cache(maxsize=1)
def _limit_threads() -> None:
    """As many threads as the environment says; torch takes all cores when imported by a thread."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
