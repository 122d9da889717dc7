"""The whole run on a phantom: right, and the same whatever the blocks."""

import numpy as np
import pytest

from cnapse.config import Config
from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.inference import detect_block, read_box
from cnapse.volumes.reader import open_layer
from cnapse_cli.evaluate import evaluate_run
from cnapse_tasks.driver import Options, run_stages


def config_of(phantom, output, *, oracle=False, **changes) -> Config:
    layers = {"cells": f"file://{phantom}/cells"}
    if oracle:
        layers["probability"] = f"file://{phantom}/truth/probability"
    else:
        layers["image"] = f"file://{phantom}/image"
    values = {
        "output": f"file://{output}",
        "resolution": (4, 4, 50),
        "layers": layers,
        "detect": {"model": "phantom"},
    }
    return Config.from_dict(values | changes)


def scores(config, phantom) -> dict:
    truth = phantom / "truth"
    result = evaluate_run(
        config,
        objects=str(truth / "objects"),
        synapses=truth / "synapses.csv",
        partners=truth / "partners.csv",
    )
    return result.to_dict()


def test_from_the_true_probability_everything_is_right(phantom, tmp_path) -> None:
    config = config_of(phantom, tmp_path / "out", oracle=True)
    run_stages(config, Options(workers=2))
    found = scores(config, phantom)
    assert found["objects"]["f1"] == 1
    assert found["presynaptic_accuracy"] == 1
    assert found["partners"]["f1"] >= 0.97


@pytest.fixture(scope="module")
def detected(phantom, tmp_path_factory, fingerprint):
    """A run from the image, in blocks that cover the volume at once."""
    config = config_of(phantom, tmp_path_factory.mktemp("one") / "out", block=(512, 384, 32))
    run_stages(config, Options(workers=1))
    return config, fingerprint(config)


def test_detection_leaves_no_trace_of_blocks_workers_and_kills(
    detected, phantom, tmp_path, fingerprint, kill_in
) -> None:
    cut = {"model": "phantom", "tile": (256, 384)}
    config = config_of(phantom, tmp_path / "out", block=(256, 384, 16), detect=cut)
    not_killed = kill_in({"detect": "in_a_write"})
    run_stages(config, Options(workers=2))
    assert not_killed() == []
    assert fingerprint(config) == detected[1]


def test_the_shipped_model_finds_synapses_of_a_seed_it_never_saw(detected, phantom) -> None:
    assert scores(detected[0], phantom)["objects"]["f1"] > 0.8


def test_a_task_predicts_what_the_library_does(detected, phantom) -> None:
    """Mirrored at the rim of the volume, not of the block."""
    config, _ = detected
    model = load_bundle("phantom")
    image = open_layer(phantom / "image", mip=0)
    box = image.bounds
    wide = read_box(box, box, model)
    padding = [(a - w, v - b) for a, b, w, v in zip(box.start, box.stop, wide.start, wide.stop)]  # noqa: B905
    mirrored = np.pad(image.read(box), padding, mode="reflect")
    expected = detect_block(mirrored, box, box, model)
    found = open_layer(f"{config.output}/probability", mip=0).read(box)
    np.testing.assert_array_equal(found, expected)


def test_bounds_of_nothing_in_particular(detected, phantom, tmp_path, fingerprint) -> None:
    bounds = {"start": (1100, -431, 53), "stop": (1301, -222, 59)}
    prints = []
    for number, block in enumerate([(256, 256, 16), (384, 384, 32)]):
        config = config_of(phantom, tmp_path / str(number), bounds=bounds, block=block)
        run_stages(config, Options(workers=2))
        prints.append(fingerprint(config))
    assert prints[0] == prints[1]
    whole = open_layer(f"{detected[0].output}/probability", mip=0)
    cut = open_layer(f"{config.output}/probability", mip=0)
    region = config.bounds_box()
    np.testing.assert_array_equal(cut.read(region), whole.read(region))
    assert cut.read(cut.bounds).sum() == cut.read(region).sum()
