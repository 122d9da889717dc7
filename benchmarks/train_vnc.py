"""Object F1 on real EM, cross-validated over strips: `python benchmarks/train_vnc.py --output DIR`.

The recipe `train_vnc.toml` is trained once for each strip of y that is held out, with 32 px between
it and what is learned from; the counts of all strips are pooled. Nothing is chosen on a strip. A
stopped run goes on where it was. `--folds 1` is the recipe's own split. An object that the edge of
a strip cuts counts in both strips, by the part that is in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from cnapse.analysis.matching import Score
from cnapse.detection.settings import LayerSource, TrainConfig, load_train_config
from cnapse.detection.training import train

GAP = 32
HEIGHT = 1024
RECIPE = Path(__file__).with_name("train_vnc.toml")


def folds(config: TrainConfig, count: int) -> Iterator[TrainConfig]:
    """The recipe for each strip that is held out; with one fold, as it stands."""
    if count == 1:
        yield config
        return
    learned, judged = config.layers
    for fold in range(count):
        first, last = (HEIGHT * i // count for i in (fold, fold + 1))
        parts = [(0, first - GAP), (last + GAP, HEIGHT)]
        layers = [strip(learned, *part) for part in parts if part[1] - part[0] >= config.patch]
        layers.append(strip(judged, first, last))
        yield config.model_copy(
            update={"layers": tuple(layers), "output": f"{config.output}/strip_{fold}"}
        )


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
    scores = []
    for fold in folds(config, given.folds):
        result = train(fold, progress=True)
        if result.score is not None:
            scores.append(result.score.objects)
            print(f"{fold.output}: {told(result.score.objects)}", flush=True)
    pooled = Score(
        sum(s.true_positives for s in scores),
        sum(s.false_positives for s in scores),
        sum(s.false_negatives for s in scores),
    )
    print(f"all {len(scores)}: {told(pooled)}")
    if given.json:
        counts = {"strips": [s.to_dict() for s in scores], "pooled": pooled.to_dict()}
        given.json.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def told(score: Score) -> str:
    """Counts and F1 in words."""
    return (
        f"object F1 {score.f1:.3f} ({score.true_positives} found, {score.false_positives} false, "
        f"{score.false_negatives} missed)"
    )


if __name__ == "__main__":
    main()
