"""Object F1 on real EM, cross-validated over strips: `python benchmarks/train_vnc.py --output DIR`.

The recipe `train_vnc.toml` is trained once for each strip of y that is held out, with 32 px between
it and what is learned from. What each model says of its strip is put together to one volume, which
is compared with what was drawn once, so that no object is cut where two strips meet. Nothing is
chosen on a strip. A stopped run goes on where it was. `--folds 1` is the recipe's own split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnapse.analysis.bootstrap import f1_interval
from cnapse.analysis.matching import Score
from cnapse.detection.datasets import load_source
from cnapse.detection.settings import LayerSource, TrainConfig, load_train_config
from cnapse.detection.training import train
from cnapse.detection.validation import Criteria, compare, predict

GAP = 32
HEIGHT = 1024
RECIPE = Path(__file__).with_name("train_vnc.toml")


def folds(config: TrainConfig, count: int) -> Iterator[tuple[TrainConfig, slice]]:
    """The recipe for each strip that is held out, and its y."""
    learned, judged = config.layers
    for fold in range(count):
        first, last = (HEIGHT * i // count for i in (fold, fold + 1))
        parts = [(0, first - GAP), (last + GAP, HEIGHT)]
        layers = [strip(learned, *part) for part in parts if part[1] - part[0] >= config.patch // 2]
        layers.append(strip(judged, first, last))
        folder = f"{config.output}/strip_{fold}"
        update = {"layers": tuple(layers), "output": folder}
        yield config.model_copy(update=update), slice(first, last)


def strip(source: LayerSource, first: int, last: int) -> LayerSource:
    """A source from one y to another."""
    (x, _, z), (stop_x, _, stop_z) = source.start or (0, 0, 0), source.stop or (0, 0, 0)
    return source.model_copy(update={"start": (x, first, z), "stop": (stop_x, last, stop_z)})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output", type=Path, required=True, help="folder of the trainings")
    options.add_argument("--folds", type=int, default=3, help="number of strips")
    options.add_argument("--steps", type=int, help="instead of the recipe's")
    options.add_argument("--json", type=Path, help="write the counts here")
    given = options.parse_args()
    config = load_train_config(RECIPE).model_copy(update={"output": str(given.output.absolute())})
    if given.steps:
        every = min(config.validate_every, given.steps)
        config = config.model_copy(update={"steps": given.steps, "validate_every": every})
    scores = pooled(config, given.folds) if given.folds > 1 else alone(config)
    if given.json:
        counts = {name: score.to_dict() for name, score in scores.items()}
        given.json.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def alone(config: TrainConfig) -> dict[str, Score]:
    """The recipe's own split."""
    result = train(config, progress=True)
    if result.score is None:
        raise SystemExit("the recipe has no validation source")
    print(f"held out: {told(result.score.objects)}")
    return {"held out": result.score.objects}


def pooled(config: TrainConfig, count: int) -> dict[str, Score]:
    """Each strip alone, as its training scored it, and all of them as one volume."""
    whole = load_source(strip(config.layers[1], 0, HEIGHT), config.resolution)
    together = np.zeros(whole.image.shape, np.uint8)
    scores = {}
    for fold, rows in folds(config, count):
        result = train(fold, progress=True)
        if result.score is not None:
            scores[f"y {rows.start} to {rows.stop}"] = result.score.objects
        [found] = predict(
            result.bundle, [whole], precision=config.precision, augment=config.score_augment
        )
        together[:, rows] = found[:, rows]
    criteria = Criteria(config.threshold, config.min_voxels, config.min_iou, config.gap_nm)
    compared = compare([together], [whole], criteria, resolution=config.resolution)
    scores["all strips"] = compared.objects
    for name, score in scores.items():
        print(f"{name}: {told(score)}")
    return scores


def told(score: Score) -> str:
    """Counts and F1 in words, with a bootstrap interval over the objects."""
    tp, fp, fn = score.true_positives, score.false_positives, score.false_negatives
    kinds = np.repeat(np.eye(3, dtype=np.int64), (tp, fp, fn), axis=0)
    interval = f1_interval(*kinds.T)
    wander = f", 95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    return f"object F1 {score.f1:.3f} ({tp} found, {fp} false, {fn} missed{wander})"


if __name__ == "__main__":
    main()
