"""What is written while a training runs: a log, pictures, and both for TensorBoard if wanted."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.detection.datasets import AnnotatedVolume
from cnapse.errors import ConfigError

__all__ = ["Recorder", "check_tensorboard", "panels"]

Image = npt.NDArray[np.uint8]

_PANEL_PX = 384
_TRUE = (0.10, 0.75, 1.00)
_FOUND = (1.00, 0.55, 0.10)


class Recorder:
    """The files of a training besides its checkpoints.

    ``log.jsonl`` has one record a line; ``pictures/`` what the model found in the held-out volumes;
    ``tensorboard/`` both, where that is wanted.

    Parameters
    ----------
    folder : Path
    step : int
        Steps that are done; what was recorded after them is taken out, as it will be done again.
    tensorboard : bool
        See `check_tensorboard`.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False) -> None:
        self.log_path = folder / "log.jsonl"
        self.pictures = folder / "pictures"
        self.writer: Any = _writer(folder / "tensorboard", step) if tensorboard else None
        self._trim(step)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one record; its numbers become curves."""
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **values}) + "\n")
        if self.writer is not None:
            for name, value in _flat(values):
                self.writer.add_scalar(name, value, step)

    def picture(self, step: int, image: Image) -> None:
        """Keep a picture, shape (y, x, 3)."""
        from PIL import Image as Pillow

        self.pictures.mkdir(exist_ok=True)
        Pillow.fromarray(image).save(self.pictures / f"step_{step:07d}.png")
        if self.writer is not None:
            self.writer.add_image("held out", image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        if self.writer is not None:
            self.writer.close()

    def _trim(self, step: int) -> None:
        text = self.log_path.read_text(encoding="utf-8") if self.log_path.is_file() else ""
        kept = [line for line in text.splitlines() if 0 < _step(line) <= step]
        self.log_path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        for path in self.pictures.glob("step_*.png"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()


def check_tensorboard() -> None:
    """Refuse to go on without TensorBoard.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ConfigError(
            "tensorboard = true, but TensorBoard is not installed: pip install 'cnapse[train]', or "
            "set it to false (log.jsonl and pictures/ have the same)"
        ) from error


def panels(
    volumes: Sequence[AnnotatedVolume], probability: Sequence[Image], most: int = 3
) -> Image:
    """A picture of what was found: a row a volume; image, truth and probability.

    Parameters
    ----------
    volumes : sequence of AnnotatedVolume
    probability : sequence of ndarray of uint8, shape (x, y, z)
    most : int
        Volumes that are shown.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        The section with most that is true, around most of it. Truth is blue, what was found is
        orange, as far as it is probable.
    """
    rows = [
        _row(volume, values)
        for volume, values in zip(volumes[:most], probability[:most], strict=True)
    ]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    )[:-4]


def _row(volume: AnnotatedVolume, values: Image) -> Image:
    # By the truth, so that the pictures of all steps show the same, unless there is none.
    shown = (volume.objects > 0) + values * np.float32(1e-9)
    z = int(np.argmax(shown.sum(axis=(0, 1))))
    x, y = (_window(shown[..., z].sum(axis=1 - axis)) for axis in (0, 1))
    grey = volume.image[x, y, z].T
    truth = (volume.objects[x, y, z].T > 0).astype(np.float32)
    found = values[x, y, z].T / np.float32(255)
    parts = [_tinted(grey, 0 * truth, _TRUE), _tinted(grey, truth, _TRUE)]
    parts.append(_tinted(grey, found, _FOUND))
    gap = np.zeros((grey.shape[0], 4, 3), np.uint8)
    return np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)


def _window(weights: npt.NDArray[np.floating[Any]]) -> slice:
    """The stretch of one axis with most in it."""
    size = min(_PANEL_PX, len(weights))
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    first = int(np.argmax(sums[size:] - sums[: len(sums) - size]))
    return slice(first, first + size)


def _tinted(grey: Image, share: npt.NDArray[Any], color: tuple[float, float, float]) -> Image:
    strength = 0.55 * share[..., None]
    mixed = (1 - strength) * grey[..., None] + strength * 255 * np.array(color)
    tinted: Image = np.rint(mixed).astype(np.uint8)
    return tinted


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name, those of a record in a record by both names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _step(line: str) -> int:
    """Step of a record; 0 for one that was cut off in writing."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0


def _writer(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
