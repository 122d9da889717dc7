import json
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
import torch

from cnapse.detection import recording, training
from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.datasets import AnnotatedVolume
from cnapse.detection.inference import detect_whole
from cnapse.detection.network import UNet
from cnapse.detection.settings import TrainConfig
from cnapse.detection.training import train
from cnapse.detection.validation import score
from cnapse.errors import (
    BoundsError,
    CheckpointError,
    ConfigError,
    ConvergenceError,
    FormatError,
    RunStateError,
)
from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.0, 50.0)


def spots(shape=(80, 72, 3), seed=0):
    """Three bright columns on a dark ground, each an object."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 90, shape, dtype=np.uint8)
    labels = np.zeros(shape, np.uint64)
    for z in range(shape[2]):
        for i, (x, y) in enumerate([(12, 14), (40, 50), (60, 20)]):
            shift = rng.integers(-4, 5, 2)
            part = (slice(x + shift[0], x + shift[0] + 9), slice(y + shift[1], y + shift[1] + 9), z)
            labels[part] = 1 + i
            image[part] = 200
    return image, labels


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotated")
    image, labels = spots()
    box = Box.from_shape(image.shape, NM, (8, 16, 2))
    ignore = np.zeros(labels.shape, np.uint8)
    ignore[:, :8] = 1
    drawn = [("labels", labels), ("ignore", ignore), ("edges", (labels % 2).astype(np.uint8))]
    for name, array in [("image", image), *drawn]:
        kind = "image" if name == "image" else "segmentation"
        writer = create_layer(
            str(folder / name),
            kind=kind,
            dtype=array.dtype,
            bounds=box,
            chunk_size=(80, 72, 3),
        )
        writer.write(array, box)
    return folder


def settings(folder, output, **changes):
    source = {"image": str(folder / "image"), "labels": str(folder / "labels")}
    values = {
        "output": str(output),
        "resolution": NM,
        "layers": [source, {**source, "validation": True}],
        "widths": (4, 4, 8, 8, 8),
        "steps": 8,
        "warmup_steps": 2,
        "batch": 2,
        "patch": 64,
        "tile": (96, 96),
        "freeze_sections": 1,
        "validate_every": 8,
        "finetune_frozen_steps": 3,
        **changes,
    }
    return TrainConfig.from_dict(values)


def same_weights(a, b):
    return all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


EVERYTHING = {
    "clip_norm": 1.0,
    "save_every": 2,
    "validate_every": 4,
    "augment": dict.fromkeys(("flip", "elastic", "misalignment", "noise", "blur"), 0.5),
}


@pytest.mark.parametrize("average", ["none", "exponential", "late"])
def test_an_interrupted_training_goes_on_as_if_it_had_not(
    average, layers, tmp_path, monkeypatch, one_thread
):
    source = {name: str(layers / name) for name in ("image", "labels", "ignore")}
    helped = {**source, "auxiliary": str(layers / "edges")}
    changes = {
        **EVERYTHING,
        "layers": [helped, {**source, "validation": True}],
        "average": {"kind": average, "decay": 0.9, "begin": 0.5},
    }
    whole = train(settings(layers, tmp_path / "whole", **changes))
    broken = settings(layers, tmp_path / "parts", **changes)
    backward = torch.Tensor.backward
    for fatal in (3, 2, 1):
        # In the middle of a step: after so many gradients of this try.
        left = iter(range(fatal))

        def interrupted(loss, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            backward(loss)

        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "backward", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(broken)
        assert not (tmp_path / "parts" / "model.json").exists()
    # Cut off while it was written: what is there is not touched, nor is it read.
    (tmp_path / "parts" / ".last.pt.part").write_bytes(b"half")
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    parts = train(broken)
    assert parts.bundle.digest == whole.bundle.digest
    assert parts.score == whole.score
    both = [tmp_path / name for name in ("whole", "parts")]
    states = [torch.load(folder / "last.pt", weights_only=True) for folder in both]
    equal_trees(*states)
    logs = [(folder / "log.jsonl").read_text() for folder in both]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [
        *range(1, 5),
        4,
        *range(5, 9),
        8,
    ]
    pictures = [sorted((folder / "pictures").iterdir()) for folder in both]
    assert [path.name for path in pictures[0]] == ["step_0000004.png", "step_0000008.png"]
    for a, b in zip(*pictures, strict=True):
        assert a.read_bytes() == b.read_bytes()
    other = train(settings(layers, tmp_path / "other", **changes, seed=1), stop_after=2)
    assert not same_weights(other.bundle, whole.bundle)


def test_frozen_statistics_are_part_of_the_state(layers, tmp_path, one_thread):
    whole = train(settings(layers, tmp_path / "whole"))
    for stop in (3, 6):
        train(settings(layers, tmp_path / "parts"), stop_after=stop)
    assert train(settings(layers, tmp_path / "parts")).bundle.digest == whole.bundle.digest


def equal_trees(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            equal_trees(a[key], b[key])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            equal_trees(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_what_is_ignored_teaches_nothing(layers, tmp_path):
    """Other labels where the mask is give the same weights."""
    image, labels = spots()
    box = Box.from_shape(image.shape, NM, (8, 16, 2))
    labels[:, :8] = 1 - (labels[:, :8] > 0)
    path = tmp_path / "wild"
    create_layer(
        str(path), kind="segmentation", dtype=labels.dtype, bounds=box, chunk_size=(80, 72, 3)
    ).write(labels, box)
    source = {name: str(layers / name) for name in ("image", "labels", "ignore")}
    options = {"steps": 2, "finetune_frozen_steps": 0, "validate_every": 2, "augment": {}}
    results = [
        train(settings(layers, tmp_path / name, layers=[changed], **options)).bundle
        for name, changed in [
            ("a", source),
            ("b", {**source, "labels": str(path)}),
            ("c", {**source, "labels": str(path), "ignore": ""}),
        ]
    ]
    assert same_weights(results[0], results[1])
    assert not same_weights(results[0], results[2])


def test_training_learns_and_its_bundle_says_where_it_is_from(layers, tmp_path):
    config = settings(
        layers,
        tmp_path,
        steps=60,
        learning_rate=0.01,
        finetune_frozen_steps=20,
        validate_every=60,
        augment={"flip": 1.0},
    )
    result = train(config)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert result.score.voxel_f1 > 0.5
    assert result.score.object_f1 > 0.5
    assert records[-1]["validation"] == result.score.to_dict()

    bundle = load_bundle(tmp_path)
    assert bundle.digest == result.bundle.digest
    assert bundle.statistics == "frozen"
    assert bundle.weights["conv_out.weight"].dtype == torch.float16
    assert bundle.provenance["step"] == 60
    assert bundle.provenance["config"]["seed"] == 0
    assert bundle.provenance["versions"]["torch"] == torch.__version__
    image, labels = spots()
    volume = AnnotatedVolume(image, labels)
    assert abs(score(bundle, [volume]).voxel_f1 - result.score.voxel_f1) < 0.02


def test_an_auxiliary_target_is_learned_and_left_out(layers, tmp_path):
    source = {name: str(layers / name) for name in ("image", "labels")}
    options = {"steps": 20, "finetune_frozen_steps": 0, "validate_every": 20}
    config = settings(
        layers,
        tmp_path,
        layers=[{**source, "auxiliary": str(layers / "edges")}],
        learning_rate=0.01,
        **options,
    )
    result = train(config)
    assert result.score is None
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    learned = [record["auxiliary"] for record in records]
    assert np.mean(learned[-5:]) < 0.8 * np.mean(learned[:5])
    assert load_bundle(tmp_path).weights["conv_out.weight"].shape[0] == 1
    image, _ = spots()
    assert detect_whole(image, result.bundle).shape == image.shape


def test_it_stops_when_nothing_gets_better(layers, tmp_path, monkeypatch):
    totals = iter([0.5, 0.6, 0.4, 0.6, 0.5, 0.4, 0.3, 0.2])
    options = {"patience": 2, "validate_every": 1, "finetune_frozen_steps": 0}

    def worse(found, volumes, criteria, *, resolution):
        total = next(totals)
        return types.SimpleNamespace(
            total=total, voxel_f1=total, object_f1=0.0, to_dict=lambda: scored(total).to_dict()
        )

    monkeypatch.setattr(training, "compare", worse)
    config = settings(layers, tmp_path, **options)
    result = train(config)
    # As good as the best is better: it was trained for longer.
    assert (result.step, result.stopped) == (4, 6)
    assert load_bundle(tmp_path).provenance["step"] == 4
    again = train(config)
    assert (again.step, again.stopped) == (4, 6)
    assert again.bundle.digest == result.bundle.digest


def scored(f1):
    from cnapse.analysis.matching import Score

    n = round(100 * f1)
    return training.ModelScore(Score(n, 100 - n, 100 - n), Score(0, 1, 1), 0.0)


def test_best_or_last_weights_are_kept(layers, tmp_path, monkeypatch):
    options = {"validate_every": 4, "finetune_frozen_steps": 0}
    scores = {"best": iter([scored(0.8), scored(0.2)]), "last": iter([scored(0.8), scored(0.2)])}
    kept = {}
    for keep, values in scores.items():
        monkeypatch.setattr(training, "compare", lambda *_, values=values, **__: next(values))
        kept[keep] = train(settings(layers, tmp_path / keep, keep=keep, **options))
    assert [kept[keep].step for keep in ("best", "last")] == [4, 8]
    assert [kept[keep].score.voxel_f1 for keep in ("best", "last")] == [0.8, 0.2]
    best = torch.load(tmp_path / "last" / "best.pt", weights_only=True)
    assert best["step"] == 4


def test_another_configuration_is_not_resumed(layers, tmp_path):
    quick = {"steps": 2, "finetune_frozen_steps": 0}
    train(settings(layers, tmp_path, **quick), stop_after=1)
    with pytest.raises(RunStateError, match=r"training with other learning_rate, seed: take"):
        train(settings(layers, tmp_path, **quick, seed=3, learning_rate=0.1))
    train(settings(layers, tmp_path, **quick, save_every=7), stop_after=1)
    train(settings(layers, tmp_path, **quick, seed=3), redo=True, stop_after=1)
    (tmp_path / "last.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"last.pt is damaged"):
        train(settings(layers, tmp_path, **quick, seed=3))


def test_training_goes_on_from_a_checkpoint(layers, tmp_path):
    network = UNet((4, 4, 8, 8, 8))
    torch.save(network.state_dict(), tmp_path / "a.chkpt")
    config = settings(layers, tmp_path / "out", start_from=str(tmp_path / "a.chkpt"))
    run = training._Training(config, redo=False)
    assert torch.equal(run.trainee.weights()["conv_out.weight"], network.conv_out.weight)
    assert all(parameter.requires_grad for parameter in run.trainee.network.parameters())
    wrong = settings(
        layers, tmp_path / "w", start_from=str(tmp_path / "a.chkpt"), widths=(4, 4, 8, 8, 16)
    )
    with pytest.raises(CheckpointError, match=r"has widths \[4, 4, 8, 8, 8\]: set widths"):
        train(wrong)


def test_boxes_and_patches_must_fit(layers, tmp_path):
    source = {"image": str(layers / "image"), "labels": str(layers / "labels")}
    box = {"start": (0, 16, 2), "stop": (80, 88, 4)}
    with pytest.raises(BoundsError, match="is empty or reaches out of what image and labels"):
        train(settings(layers, tmp_path, layers=[{**source, **box}]))
    with pytest.raises(BoundsError, match="less than half a patch of 192 px"):
        train(settings(layers, tmp_path, patch=192))


def test_nothing_to_learn_is_refused(tmp_path, layers):
    phantom = {"shape": (64, 64, 1), "synapse_density": 0.0, "seed": 4}
    config = settings(layers, tmp_path, layers=[], phantom=[phantom])
    with pytest.raises(FormatError, match="nothing is marked in phantom 4: there is nothing"):
        train(config)


def test_divergence_is_one_line(layers, tmp_path):
    config = settings(layers, tmp_path, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(ConvergenceError, match="set learning_rate lower, or clip_norm = 1, and"):
        train(config)


def test_gradients_are_clipped(layers, tmp_path):
    options = {"steps": 1, "finetune_frozen_steps": 0, "validate_every": 1}
    lengths = {}
    for limit in (0.0, 1e-3):
        run = training._Training(
            settings(layers, tmp_path / str(limit), clip_norm=limit, **options), redo=False
        )
        run.advance(run.draw(0))
        gradients = [parameter.grad for parameter in run.trainee.network.parameters()]
        lengths[limit] = torch.cat([g.flatten() for g in gradients]).norm().item()
    assert lengths[0.0] > 0.01
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_and_devices(layers, tmp_path):
    options = {"steps": 2, "finetune_frozen_steps": 0, "validate_every": 2}
    losses = {}
    for precision in ("bfloat16", "float32"):
        folder = tmp_path / precision
        train(settings(layers, folder, precision=precision, **options))
        losses[precision] = json.loads((folder / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    with pytest.raises(ConfigError, match="device 'cuda:99' cannot be used"):
        train(settings(layers, tmp_path / "none", device="cuda:99"))


class FakeWriter:
    made: ClassVar[list] = []

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.scalars, self.images = folder, purge_step, [], []
        self.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, step))

    def add_image(self, name, image, step, dataformats):
        assert dataformats == "HWC"
        self.images.append((step, image.shape[2]))

    def close(self):
        self.folder += " closed"


def test_tensorboard_is_optional(layers, tmp_path, monkeypatch):
    config = settings(layers, tmp_path, tensorboard=True, steps=2, finetune_frozen_steps=0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'cnapse\[train\]', or set"):
        train(config)
    fake = types.SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    FakeWriter.made = []
    train(config, stop_after=1)
    train(config)
    first, second = FakeWriter.made
    assert (first.purge_step, second.purge_step) == (1, 2)
    assert {("loss", 1), ("learning_rate", 1)} <= set(first.scalars)
    assert ("validation/object_f1", 2) in second.scalars
    assert second.images == [(2, 3)]
    assert second.folder == f"{tmp_path}/tensorboard closed"
    assert recording.Recorder(tmp_path, 2).writer is None


def test_a_bar_shows_the_losses(layers, tmp_path, capsys):
    config = settings(layers, tmp_path, steps=2, finetune_frozen_steps=0, validate_every=2)
    train(config, progress=True)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "loss=" in shown
