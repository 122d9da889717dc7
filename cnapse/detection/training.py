"""Training the network on annotated volumes.

The published norms take the statistics of each batch; such a network is scored, and later run, with
statistics frozen on sample sections. The last steps may be trained with these fixed
(`finetune_frozen_steps`), so that the weights fit them.

The output folder holds ``last.pt`` (to go on from), ``best.pt``, ``log.jsonl``, ``pictures/``, and
at the end the bundle. Each step's patches and random numbers follow from the seed and the step, the
learning rate from the step; so what was learned, the optimizer's moments and the average of the
weights are all that ``last.pt`` needs. On one processor with the same number of threads, a training
that was stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnapse.detection.averaging import WeightAverage
from cnapse.detection.checkpoint import DAMAGED, ModelBundle, save_bundle
from cnapse.detection.datasets import AnnotatedVolume, load_source
from cnapse.detection.losses import LossWeights, total_loss
from cnapse.detection.recording import Recorder, check_tensorboard, panels
from cnapse.detection.samples import Batch, Sampling, check_volumes, draw_batch
from cnapse.detection.schedule import learning_rate, stream
from cnapse.detection.settings import TrainConfig
from cnapse.detection.trainee import NOT_LEARNED_FROM, Trainee, learning_part
from cnapse.detection.validation import Criteria, ModelScore, compare, predict
from cnapse.errors import CheckpointError, ConvergenceError, RunStateError

__all__ = ["TrainConfig", "TrainResult", "train"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The trained model, the step it is from, and its score if there was something to score on.

    `stopped` is the step after which no better model was expected, if the training ended early.
    """

    bundle: ModelBundle
    step: int
    score: ModelScore | None
    stopped: int | None = None


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
        If a volume is smaller than half a patch.
    FormatError
        If nothing is marked in the volumes to train on.
    ConvergenceError
        If the loss is no number any more.
    ConfigError
        If device, network or TensorBoard are not there.
    """
    run = _Training(config, redo)
    last = min(config.steps, stop_after or config.steps)
    try:
        with _Feeder(run, last) as feeder, _Bar(run.step, config.steps, progress) as bar:
            for batch in feeder:
                bar.show(run.advance(batch))
                if run.is_due(config.validate_every):
                    bar.show(run.evaluate())
                if run.is_due(config.save_every) or run.is_due(config.validate_every):
                    run.save()
                if run.is_stale:
                    break
    finally:
        run.recorder.close()
    if run.step == last < config.steps:
        run.save()
    return run.finish(write=run.step == config.steps or run.is_stale)


class _Training:
    """State of a training between steps."""

    def __init__(self, config: TrainConfig, redo: bool) -> None:
        if config.tensorboard:
            check_tensorboard()
        self.config = config
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trainee = Trainee(config)
        self.optimizer = torch.optim.AdamW(
            self.trainee.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        average = config.average
        first = int(average.begin * config.steps)
        self.average = WeightAverage(average.kind, average.decay, first)
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.latest: dict[str, Any] | None = None
        if not redo:
            self._resume()
        self._load_volumes()
        self.recorder = Recorder(self.folder, self.step, config.tensorboard)

    @property
    def is_stale(self) -> bool:
        """Whether the last validations brought nothing better."""
        if not (self.config.patience and self.best and self.latest):
            return False
        waited = int(self.latest["step"]) - int(self.best["step"])
        return waited >= self.config.patience * self.config.validate_every

    def is_due(self, every: int) -> bool:
        """Whether something is to be done after the present step."""
        return self.step % every == 0 or self.step == self.config.steps

    def draw(self, step: int) -> Batch:
        """The patches of a step."""
        config = self.config
        sampling = Sampling(
            config.patch,
            config.batch,
            config.density_share,
            config.augment,
            config.sections,
            config.border,
        )
        rng = stream(config.seed, step)
        return draw_batch(self.volumes, sampling, rng, step * config.batch)

    def advance(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch; its losses."""
        config, step, network = self.config, self.step, self.trainee.network
        if step >= config.steps - config.finetune_frozen_steps and not self.trainee.is_fixed:
            self.trainee.fix_statistics(self.volumes)
        torch.manual_seed(int(stream(config.seed, step).integers(1 << 62)))
        rate = learning_rate(
            step,
            config.steps,
            highest=config.learning_rate,
            warmup=config.warmup_steps,
            decay=config.decay,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss, parts = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        longest = config.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), longest).item()
        losses = {"loss": loss.item(), **parts}
        if not all(torch.isfinite(torch.tensor([*losses.values(), norm]))):
            raise ConvergenceError(
                f"step {step + 1} of the training has loss {loss.item()} and gradient {norm}: set "
                "learning_rate lower, or clip_norm = 1, and start over with --redo"
            )
        self.optimizer.step()
        self.average.update(self.trainee.weights(), step)
        self.step = step + 1
        self.recorder.log(self.step, {**losses, "gradient": norm, "learning_rate": rate})
        return losses

    def evaluate(self) -> dict[str, float]:
        """Score on what was held out, and remember the best."""
        if not self.held_out:
            return {}
        state = self._state()
        found = predict(
            self.trainee.bundle({**state, "score": None}),
            self.held_out,
            precision=self.config.precision,
            device=self.config.device,
            augment=self.config.score_augment,
        )
        scored = compare(found, self.held_out, self._criteria(), resolution=self.config.resolution)
        state["score"] = scored.to_dict()
        self.recorder.log(self.step, {"validation": scored.to_dict()})
        self.recorder.picture(self.step, panels(self.held_out, found))
        self.latest = state
        if self.best is None or scored.total >= ModelScore.from_dict(self.best["score"]).total:
            self.best = state
            _write(self.folder / "best.pt", state)
        return {"voxel F1": scored.voxel_f1, "object F1": scored.object_f1}

    def save(self) -> None:
        """Write what is needed to go on."""
        _write(
            self.folder / "last.pt",
            {
                "config": learning_part(self.config),
                "step": self.step,
                "network": self.trainee.weights(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state(),
                "statistics": self.trainee.statistics,
                "best": self.best,
                "latest": self.latest,
            },
        )

    def finish(self, write: bool) -> TrainResult:
        """The bundle of the best checkpoint or of the last, as the configuration says."""
        state = self.best if self.config.keep == "best" else None
        if state is None:
            # What was scored last is what there is now, unless steps have followed.
            current = self.latest and self.latest["step"] == self.step
            state = self.latest if current and self.latest else {**self._state(), "score": None}
        bundle = self.trainee.bundle(state).half()
        if write:
            save_bundle(bundle, self.folder)
        found = ModelScore.from_dict(state["score"]) if state["score"] else None
        stopped = self.step if write and self.step < self.config.steps else None
        return TrainResult(bundle, state["step"], found, stopped)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        device = self.trainee.device
        logits = self.trainee.logits(batch.image)
        label, counts = (torch.from_numpy(a).to(device) for a in (batch.label, batch.counts))
        auxiliary = batch.auxiliary
        return total_loss(
            logits,
            label,
            counts,
            None if auxiliary is None else torch.from_numpy(auxiliary).to(device),
            LossWeights(**self.config.loss.model_dump()),
        )

    def _state(self) -> dict[str, Any]:
        weights = self.average.of(self.trainee.weights())
        return {**self.trainee.finished(weights, self.volumes), "step": self.step}

    def _criteria(self) -> Criteria:
        config = self.config
        return Criteria(config.threshold, config.min_voxels, config.min_iou, config.gap_nm)

    def _load_volumes(self) -> None:
        loaded = [
            (s.validation, load_source(s, self.config.resolution)) for s in self.config.sources
        ]
        self.volumes: list[AnnotatedVolume] = [v for validation, v in loaded if not validation]
        self.held_out: list[AnnotatedVolume] = [v for validation, v in loaded if validation]
        check_volumes(self.volumes, self.config.patch)

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.is_file():
            return
        state = _read(path)
        changed = _changed(state["config"], learning_part(self.config))
        if changed:
            raise RunStateError(
                f"{path} is of a training with other {', '.join(changed)}: take another output "
                "folder, or start over with --redo"
            )
        self.trainee.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        self.trainee.statistics = state["statistics"]
        self.step, self.best, self.latest = (state[name] for name in ("step", "best", "latest"))


class _Feeder:
    """Draws the patches of the next step while the present one is computed."""

    def __init__(self, run: _Training, last: int) -> None:
        self.run, self.last = run, last
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches")

    def __enter__(self) -> Iterator[Batch]:
        return self._batches()

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def _batches(self) -> Iterator[Batch]:
        steps = range(self.run.step, self.last)
        if not steps or self.run.is_stale:
            return
        ahead: Future[Batch] = self.pool.submit(self.run.draw, steps[0])
        for step in steps:
            batch = ahead.result()
            if step + 1 < self.last:
                ahead = self.pool.submit(self.run.draw, step + 1)
            yield batch


class _Bar:
    """A progress bar that shows the losses and the last score."""

    def __init__(self, first: int, last: int, shown: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(desc="train", disable=not shown, initial=first, total=last, unit="step")
        self.values: dict[str, str] = {}

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, values: Mapping[str, float]) -> None:
        """Show numbers by name; a loss ends a step."""
        self.values |= {name: f"{value:.3f}" for name, value in values.items()}
        self.bar.set_postfix(self.values, refresh=False)
        self.bar.update("loss" in values)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = {*old, *new} - NOT_LEARNED_FROM
    return sorted(key for key in keys if old.get(key) != new.get(key))


def _write(path: Path, state: Mapping[str, Any]) -> None:
    """Write all of it, or leave what is there."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise CheckpointError(f"{path} is damaged: delete it, or start over with --redo") from error
    return state
