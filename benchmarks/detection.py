"""Speed of detection, from file to layer, on this machine's processor.

The peer is detectEM's own way: one patch of 256 x 256 px at a time, eagerly, in float32, its norms
taking the statistics of the patch; of each patch the 224 x 224 px count that are kept with its
overlap of 32. It is run on a network of the same widths, and with the memory settings of
`cnapse detect`, which help it, too. Figures are the best of some rounds, in which all take their
turn. Compiling is done before, and not counted; ``--quick`` leaves it out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from _rows import Row, absent, parser, report

from cnapse_cli.detect import _prepare_process

_prepare_process()  # before torch is imported

import torch  # noqa: E402
from torch import nn  # noqa: E402

from cnapse.detection.backends import Engine, engine_of  # noqa: E402
from cnapse.detection.checkpoint import ModelBundle, load_bundle  # noqa: E402
from cnapse.detection.inference import fitting_tile, with_tile  # noqa: E402
from cnapse.detection.network import UNet  # noqa: E402
from cnapse.detection.outputs import open_output  # noqa: E402
from cnapse.detection.volume import Options, detect_volume  # noqa: E402
from cnapse.geometry import Box  # noqa: E402
from cnapse.volumes.sources import open_source  # noqa: E402

if TYPE_CHECKING:
    from cnapse.detection.backends import Precision

_PATCH, _KEPT = 256, 224
_MATRICES = (512, 1024, 2048)


@dataclass(frozen=True)
class Way:
    """A way to run the network."""

    precision: Precision
    compiled: bool

    @property
    def name(self) -> str:
        return f"{'compiled' if self.compiled else 'eager'} {self.precision}"


def main() -> None:
    options = parser(__doc__ or "", {}).parse_args()
    size, sections, rounds = (1536, 1, 2) if options.quick else (3072, 3, 4)
    rows = []
    peak = {dtype: _peak(getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}
    for dtype, rate in peak.items():
        rows.append(Row(f"matrix product, {dtype}", rate, "GMAC/s"))
    ways = [Way("float32", False), Way("bfloat16", False)]
    if not options.quick:
        ways += [Way("bfloat16", True)]
    model = load_bundle("phantom")
    image = np.random.default_rng(0).integers(0, 256, (size, size, sections), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        rows += _compared(model, image, ways, rounds, peak, Path(folder))
    report(rows, options.json)


def _compared(
    model: ModelBundle,
    image: npt.NDArray[np.uint8],
    ways: Sequence[Way],
    rounds: int,
    peak: dict[str, float],
    folder: Path,
) -> list[Row]:
    bounds = Box.from_shape(image.shape, model.resolution)
    source = _written(image, folder)
    tiled = with_tile(model, fitting_tile(model, bounds))
    tile = tiled.tile
    count = -(-bounds.shape[0] // tile[0]) * -(-bounds.shape[1] // tile[1])
    inputs = np.random.default_rng(1).integers(
        0, 256, (1, 1, tile[1] + 2 * model.halo, tile[0] + 2 * model.halo), dtype=np.uint8
    )
    engines = {way: engine_of(tiled, way.precision, compiled=way.compiled) for way in ways}
    for way, engine in list(engines.items()):
        list(engine.run([inputs]))
        if way.compiled and not engine.took.startswith("compiled"):
            absent(way.name, engine.took)
            del engines[way]
    seed = _seed(model.options["widths"])
    works: dict[str, Callable[[], object]] = {"seed": seed}
    for way, engine in engines.items():
        works[f"bare {way.name}"] = lambda engine=engine: list(engine.run([inputs] * count))
        works[f"detect {way.name}"] = lambda way=way: _detect(source, bounds, tiled, way, folder)
    seconds = _best(works, rounds)

    seed_rate = _SEED_PATCHES * _KEPT**2 / seconds["seed"] / 1e6
    macs, least, uncropped = _macs(tiled)
    rows = [
        Row(
            f"halo of {model.halo} px around tiles of {tile[0]} x {tile[1]}",
            macs / least,
            "work/useful work",
            "a halo run through the whole network",
            uncropped / least,
            "MACs; aim 1.35",
        )
    ]
    for way in engines:
        whole, bare = seconds[f"detect {way.name}"], seconds[f"bare {way.name}"] * image.shape[2]
        rate = count * image.shape[2] * macs / whole / 1e9
        rows += [
            Row(
                f"TIFF to layer, {way.name}",
                bounds.voxels / whole / 1e6,
                "Mvox/s",
                "detectEM, useful pixels",
                seed_rate,
                f"{rate:.1f} GMAC/s, {rate / peak[way.precision]:.0%} of the matrix product; aim 4",
            ),
            Row(
                f"TIFF to layer, {way.name}",
                whole,
                "s",
                "its forward alone, same tiles",
                bare,
                "aim 0.8 (1.25 times as long)",
            ),
        ]
    return rows


_SEED_PATCHES = 24


def _seed(widths: Sequence[int]) -> Callable[[], object]:
    network = UNet(widths)
    network.initialize(torch.Generator().manual_seed(0))
    network.eval()
    patches = torch.rand(_SEED_PATCHES, 1, 1, _PATCH, _PATCH)

    def run() -> None:
        with torch.no_grad():
            for patch in patches:
                (torch.sigmoid(network(patch)) * 255).to(torch.uint8).numpy()

    return run


def _detect(source: Path, bounds: Box, model: ModelBundle, way: Way, folder: Path) -> None:
    options = Options(precision=way.precision, compiled=way.compiled)
    place = folder / f"layer{time.monotonic_ns()}"
    with open_output(place, bounds, model.classes) as output:
        detect_volume(open_source(source), bounds, model, output, options, tile=model.tile)


def _written(image: npt.NDArray[np.uint8], folder: Path) -> Path:
    import tifffile

    path = folder / "image.tif"
    tifffile.imwrite(path, image.T, photometric="minisblack")
    return path


def _best(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of some rounds."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _peak(dtype: torch.dtype) -> float:
    """What a matrix product reaches at the size that suits it best, GMAC/s."""
    rates = []
    for size in _MATRICES:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        seconds = _best({"product": lambda a=a, b=b: a @ b}, 10)["product"]  # type: ignore[misc]
        rates.append(size**3 / seconds / 1e9)
    return max(rates)


def _macs(model: ModelBundle) -> tuple[float, float, float]:
    """Multiplications of a tile: as run, without any halo, and with the halo run through all."""
    engine = Engine(model)
    wide = [1, model.sections, *(n + 2 * model.halo for n in reversed(model.tile))]
    narrow = [1, model.sections, *reversed(model.tile)]
    whole = model.network()
    return (
        _counted(engine._network, wide),
        _counted(whole, narrow),
        _counted(whole, wide),
    )


def _counted(network: nn.Module, shape: Sequence[int]) -> float:
    total = 0

    def add(module: nn.Module, _inputs: object, made: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += made[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        network(torch.zeros(*shape))
    for hook in hooks:
        hook.remove()
    return float(total)


if __name__ == "__main__":
    sys.exit(main())
