"""A small input on which all stages have something to do, and quickly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnapse.detection.checkpoint import ModelBundle, save_bundle
from cnapse.detection.network import FrozenUNet
from cnapse.phantom import Phantom, PhantomSpec
from cnapse.volumes.writer import create_layer

__all__ = ["Tissue"]


@dataclass(frozen=True, slots=True)
class Tissue:
    """The input: a phantom's cells, and an image in which densities are plain.

    Parameters
    ----------
    shape, chunk, block : (x, y, z)
    densities : int
    detect : bool
        Begin with detection; else with the probability that it gives, about.
    """

    shape: tuple[int, int, int] = (128, 112, 20)
    chunk: tuple[int, int, int] = (64, 64, 8)
    block: tuple[int, int, int] = (64, 64, 8)
    densities: int = 30
    detect: bool = True

    def write(self, folder: Path) -> None:
        """Write the layers ``image``, ``probability`` and ``cells``, and the bundle ``model``."""
        spec = PhantomSpec(self.shape, voxel_offset=(1003, -501, 7), seed=3, neurite_nm=150)
        cells = Phantom(spec).render(spec.bounds)["cells"]
        image = self._image(cells)
        probability = np.rint(255 / (1 + np.exp(16 * (image / 255 - 0.5)))).astype(np.uint8)
        layers: tuple[tuple[Any, str, npt.NDArray[Any]], ...] = (
            ("image", "image", image),
            ("image", "probability", probability),
            ("segmentation", "cells", cells),
        )
        for kind, name, array in layers:
            writer = create_layer(
                folder / name,
                kind=kind,
                dtype=array.dtype,
                bounds=spec.bounds,
                chunk_size=self.chunk,
            )
            writer.write(array, spec.bounds)
        save_bundle(_darkness(), folder / "model")

    def _image(self, cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
        rng = np.random.default_rng(5)
        density = np.zeros(cells.shape, bool)
        inside = np.argwhere(cells > 0)
        for x, y, z in inside[rng.integers(0, len(inside), self.densities)]:
            reach = (slice(max(0, n - r), n + r + 1) for n, r in zip((x, y, z), (5, 5, 1)))  # noqa: B905
            part = tuple(reach)
            density[part] |= cells[part] == cells[x, y, z]
        noise = rng.integers(0, 50, cells.shape, np.uint8)
        return np.asfortranarray(np.where(density, 30, 180).astype(np.uint8) + noise)

    def config(self, inputs: str, output: str) -> str:
        """A ``cnapse.toml``: all stages, short leases."""
        begin = "image" if self.detect else "probability"
        return f"""\
output = "{output}"
resolution = [4, 4, 50]
block = {list(self.block)}

[layers]
{begin} = "{inputs}/{begin}"
cells = "{inputs}/cells"

[detect]
model = "{inputs}/model"

[label]
min_voxels = 20

[assign]
method = "both"

[tasks]
lease_seconds = 10
"""


def _darkness() -> ModelBundle:
    """A U-Net of one channel that says how dark a pixel is: quick, and its answer is known."""
    network = FrozenUNet([1, 1])
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.zero_()
            if name.startswith(("conv_in.", "uconv1.conv")) and name.endswith("weight"):
                value[0, 0, 1, 1] = 1
        # 1 - image; then a logit of 16 a unit from 0.5 on.
        state = network.state_dict()
        state["conv_in.conv1.weight"].neg_()
        state["conv_in.conv1.bias"].fill_(1)
        state["conv_out.weight"][0, 0, 1, 1] = 16
        state["conv_out.bias"].fill_(-8)
    return ModelBundle.of(network, resolution=(4, 4, 50), tile=(64, 64), halo=16)
