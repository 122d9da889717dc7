"""Training the network on annotated volumes.

The norms take the statistics of each batch, as the published network was trained; it is scored, and
later run, with statistics frozen on sample sections. The last steps may be trained with these fixed
(`finetune_frozen_steps`), so that the weights fit them.

The output folder holds ``last.pt`` (to go on from), ``best.pt``, ``log.jsonl``, and at the end the
bundle. On one processor with the same number of threads, a training that was stopped and resumed
ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from cnapse.analysis.matching import match_objects
from cnapse.detection.checkpoint import DAMAGED, ModelBundle, load_checkpoint, save_bundle
from cnapse.detection.inference import detect_whole
from cnapse.detection.network import Statistics, UNet, receptive_field
from cnapse.detection.normalization import ImageNormalization, fold, pool_statistics
from cnapse.detection.samples import (
    AnnotatedVolume,
    Sampling,
    check_volumes,
    draw_batch,
    draw_sections,
    load_source,
)
from cnapse.detection.settings import TrainConfig
from cnapse.errors import CheckpointError, RunStateError
from cnapse.synapses.components import threshold_mask

__all__ = ["ModelScore", "TrainConfig", "TrainResult", "learning_rate", "loss_of", "score", "train"]

_SECTIONS_STREAM = 1 << 40


@dataclass(frozen=True, slots=True)
class ModelScore:
    """How well a model does on annotated volumes; 0 where nothing was found."""

    voxel_f1: float
    object_f1: float

    @property
    def total(self) -> float:
        """What the best checkpoint has most of."""
        return self.voxel_f1 + self.object_f1


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The trained model, the step it is from, and its score if there was something to score on."""

    bundle: ModelBundle
    step: int
    score: ModelScore | None


def train(
    config: TrainConfig,
    *,
    redo: bool = False,
    progress: bool = False,
    stop_after: int | None = None,
) -> TrainResult:
    """Train a model and write its bundle, or go on where a training stopped.

    Parameters
    ----------
    config : TrainConfig
    redo : bool
        Start over.
    progress : bool
        Show a bar.
    stop_after : int, optional
        Stop after this step, as if interrupted; what was learned is in ``last.pt``.

    Returns
    -------
    TrainResult

    Raises
    ------
    RunStateError
        If the output folder holds a training of another configuration.
    BoundsError
        If a volume is smaller than a patch.
    FormatError
        If nothing is marked in the volumes to train on.
    """
    run = _Training(config, redo)
    last = min(config.steps, stop_after or config.steps)
    for step in _progress(run.step, last, progress):
        run.advance(step)
        if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
            run.evaluate()
            run.save()
    if last < config.steps:
        run.save()
    return run.finish(write=last == config.steps)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to 0 at the last step."""
    warmup = min(config.warmup_steps, config.steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def loss_of(logits: Tensor, label: Tensor, dice_weight: float) -> Tensor:
    """Binary cross entropy and soft Dice loss over the whole batch.

    Parameters
    ----------
    logits, label : Tensor of float, the same shape
    dice_weight : float
        Share of the Dice loss, 0 to 1.
    """
    entropy = nnf.binary_cross_entropy_with_logits(logits, label)
    p = torch.sigmoid(logits)
    dice = (2 * (p * label).sum() + 1) / (p.sum() + label.sum() + 1)
    return (1 - dice_weight) * entropy + dice_weight * (1 - dice)


def score(
    bundle: ModelBundle,
    volumes: Sequence[AnnotatedVolume],
    threshold: float = 0.5,
    min_voxels: int = 20,
) -> ModelScore:
    """Run a model on annotated volumes and compare: voxels, and objects at IoU 0.1.

    Parameters
    ----------
    bundle : ModelBundle
    volumes : sequence of AnnotatedVolume
    threshold : float
        Probability from which a voxel counts.
    min_voxels : int
        Smaller predicted objects are dropped.
    """
    voxels, objects = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for volume in volumes:
        found = threshold_mask(detect_whole(volume.image, bundle), threshold)
        truth = volume.labels > 0
        voxels += [np.sum(found & truth), np.sum(found & ~truth), np.sum(truth & ~found)]
        counts = match_objects(_objects(found, min_voxels), _true_objects(volume.labels)).score
        objects += [counts.true_positives, counts.false_positives, counts.false_negatives]
    return ModelScore(_f1(voxels), _f1(objects))


class _Training:
    """State of a training between steps."""

    def __init__(self, config: TrainConfig, redo: bool) -> None:
        self.config = config
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.normalization = ImageNormalization(**config.normalization.model_dump())
        self.levels = torch.from_numpy(self.normalization.levels())
        self.network = _start(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.sampling = Sampling(config.patch, config.batch, config.density_share, config.augment)
        self.statistics: Statistics = {}
        self.step = 0
        self.best: dict[str, Any] | None = None
        if not redo:
            self._resume()
        self._load_volumes()
        self._trim_log()

    def advance(self, step: int) -> None:
        """Learn from one batch."""
        config = self.config
        if step == config.steps - config.finetune_frozen_steps:
            self.statistics = self._pooled()
        self.network.fix_statistics(self.statistics)
        image, label = draw_batch(self.volumes, self.sampling, _stream(config, step))
        rate = learning_rate(config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self._logits(image), torch.from_numpy(label).float(), config.dice_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step = step + 1
        self._log({"step": self.step, "loss": loss.item(), "learning_rate": rate})

    def evaluate(self) -> None:
        """Score on what was held out, and remember the best."""
        if not self.held_out:
            return
        state = self._scored()
        self._log({"step": self.step, **state["score"]})
        if self.best is None or _total(state) >= _total(self.best):
            self.best = state
            _write(self.folder / "best.pt", state)

    def save(self) -> None:
        """Write what is needed to go on."""
        _write(
            self.folder / "last.pt",
            {
                "config": _learning_part(self.config),
                "step": self.step,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "statistics": self.statistics,
                "best": self.best,
            },
        )

    def finish(self, write: bool) -> TrainResult:
        """The bundle of the best checkpoint, or of the last where nothing was held out."""
        state = self.best or self._state()
        network = UNet(self.network.widths)
        network.load_state_dict(state["network"])
        bundle = self._bundle(network, state).half()
        if write:
            save_bundle(bundle, self.folder)
        found = ModelScore(**state["score"]) if state["score"] else None
        return TrainResult(bundle, state["step"], found)

    def _state(self) -> dict[str, Any]:
        weights = {
            name: value.detach().clone() for name, value in self.network.state_dict().items()
        }
        statistics = self.statistics or self._pooled()
        return {"network": weights, "statistics": statistics, "step": self.step, "score": None}

    def _scored(self) -> dict[str, Any]:
        state = self._state()
        bundle = self._bundle(self.network, state)
        found = score(bundle, self.held_out, self.config.threshold, self.config.min_voxels)
        return {**state, "score": asdict(found)}

    def _bundle(self, network: UNet, state: Mapping[str, Any]) -> ModelBundle:
        return ModelBundle.of(
            fold(network, state["statistics"]),
            resolution=self.config.resolution,
            normalization=self.normalization,
            tile=self.config.tile,
            halo=self.config.halo,
            provenance=_provenance(self.config, state),
        )

    def _logits(self, image: npt.NDArray[np.uint8]) -> Tensor:
        values = self.levels[torch.from_numpy(image).int()][:, None]
        values = values.contiguous(memory_format=torch.channels_last)
        enabled = self.config.precision == "bfloat16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits: Tensor = self.network(values)[:, 0]
        return logits.float()

    def _pooled(self) -> Statistics:
        """Statistics over sections of the training volumes, seen as inference sees them."""
        config = self.config
        field = receptive_field(len(config.widths))
        margin = -(-max(field.before, field.after) // field.stride) * field.stride
        rng = _stream(config, _SECTIONS_STREAM)
        sections = draw_sections(self.volumes, config.freeze_sections, config.patch, margin, rng)
        scaled = [self.normalization.apply(section).T[None, None].copy() for section in sections]
        return pool_statistics(self.network, [torch.from_numpy(s) for s in scaled], margin)

    def _load_volumes(self) -> None:
        loaded = [
            (s.validation, load_source(s, self.config.resolution)) for s in self.config.sources
        ]
        self.volumes = [volume for validation, volume in loaded if not validation]
        self.held_out = [volume for validation, volume in loaded if validation]
        check_volumes(self.volumes, self.config.patch)

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.is_file():
            return
        state = _read(path)
        changed = _changed(state["config"], _learning_part(self.config))
        if changed:
            raise RunStateError(
                f"{path} is of a training with other {', '.join(changed)}: take another output "
                "folder, or start over with --redo"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.statistics, self.step, self.best = (
            state[name] for name in ("statistics", "step", "best")
        )

    def _log(self, record: Mapping[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def _trim_log(self) -> None:
        """Take out what will be done again."""
        path = self.folder / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _start(config: TrainConfig) -> UNet:
    if config.start_from:
        network = load_checkpoint(config.start_from)
        if network.widths != config.widths:
            raise CheckpointError(
                f"{config.start_from} has widths {list(network.widths)}: set widths to these, not "
                f"{list(config.widths)}"
            )
        return network.train()
    network = UNet(config.widths)
    network.initialize(torch.Generator().manual_seed(config.seed))
    return network.train()


def _stream(config: TrainConfig, number: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, number])


def _progress(first: int, last: int, shown: bool) -> Iterator[int]:
    from tqdm import tqdm

    yield from tqdm(range(first, last), desc="train", disable=not shown, initial=first, total=last)


def _learning_part(config: TrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(config.model_dump_json(exclude={"output"}))
    return values


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def _total(state: Mapping[str, Any]) -> float:
    return ModelScore(**state["score"]).total


def _provenance(config: TrainConfig, state: Mapping[str, Any]) -> dict[str, Any]:
    import cnapse

    return {
        "made_by": "cnapse train",
        "config": _learning_part(config),
        "step": state["step"],
        "score": state["score"],
        "versions": {
            "cnapse": getattr(cnapse, "__version__", ""),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _write(path: Path, state: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    torch.save(dict(state), part)
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise CheckpointError(f"{path} is damaged: delete it, or start over with --redo") from error
    return state


def _f1(counts: npt.NDArray[np.int64]) -> float:
    both, extra, missed = (float(n) for n in counts)
    return 2 * both / (2 * both + extra + missed) if both else 0.0


def _objects(found: npt.NDArray[np.bool_], min_voxels: int) -> npt.NDArray[Any]:
    import cc3d

    labels: npt.NDArray[Any] = cc3d.connected_components(found, connectivity=26)
    voxels = np.bincount(labels.ravel(order="K"))
    return np.where(voxels[labels] < min_voxels, 0, labels)


def _true_objects(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Objects as drawn; those of a drawing in one value are its components."""
    import cc3d

    values = np.unique(labels)
    if len(values[values > 0]) > 1:
        return labels
    components: npt.NDArray[Any] = cc3d.connected_components(labels > 0, connectivity=26)
    return components
