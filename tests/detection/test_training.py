import json

import numpy as np
import pytest
import torch

from cnapse.detection import training
from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.inference import detect_whole
from cnapse.detection.network import UNet
from cnapse.detection.samples import AnnotatedVolume, Sampling, draw_batch, draw_sections
from cnapse.detection.settings import TrainConfig, load_train_config
from cnapse.detection.training import learning_rate, loss_of, score, train
from cnapse.errors import BoundsError, CheckpointError, ConfigError, FormatError, RunStateError
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
    for name, kind, array in [("image", "image", image), ("labels", "segmentation", labels)]:
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
        "tile": (32, 32),
        "freeze_sections": 1,
        "validate_every": 8,
        "finetune_frozen_steps": 3,
        **changes,
    }
    return TrainConfig.from_dict(values)


def same_weights(a, b):
    return all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_a_stopped_training_goes_on_as_if_it_had_not(layers, tmp_path):
    whole = train(settings(layers, tmp_path / "whole"))
    for stop in (3, 6):
        train(settings(layers, tmp_path / "parts"), stop_after=stop)
        assert not (tmp_path / "parts" / "model.json").exists()
    parts = train(settings(layers, tmp_path / "parts"))
    assert parts.bundle.digest == whole.bundle.digest
    assert parts.score == whole.score
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [*range(1, 9), 8]

    other = train(settings(layers, tmp_path / "other", seed=1), stop_after=2)
    assert not same_weights(other.bundle, whole.bundle)


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


def test_another_configuration_is_not_resumed(layers, tmp_path):
    quick = {"steps": 2, "finetune_frozen_steps": 0}
    train(settings(layers, tmp_path, **quick), stop_after=1)
    with pytest.raises(RunStateError, match=r"training with other learning_rate, seed: take"):
        train(settings(layers, tmp_path, **quick, seed=3, learning_rate=0.1))
    train(settings(layers, tmp_path, **quick, seed=3), redo=True, stop_after=1)
    (tmp_path / "last.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"last.pt is damaged"):
        train(settings(layers, tmp_path, **quick, seed=3))


def test_training_goes_on_from_a_checkpoint(layers, tmp_path):
    network = UNet((4, 4, 8, 8, 8))
    torch.save(network.state_dict(), tmp_path / "a.chkpt")
    config = settings(layers, tmp_path / "out", start_from=str(tmp_path / "a.chkpt"))
    run = training._Training(config, redo=False)
    assert torch.equal(run.network.conv_out.weight, network.conv_out.weight)
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
    with pytest.raises(BoundsError, match="smaller than a patch of 80 px"):
        train(settings(layers, tmp_path, patch=80))


def test_nothing_to_learn_is_refused(tmp_path, layers):
    phantom = {"shape": (64, 64, 1), "synapse_density": 0.0, "seed": 4}
    config = settings(layers, tmp_path, layers=[], phantom=[phantom])
    with pytest.raises(FormatError, match="nothing is marked in phantom 4: there is nothing"):
        train(config)


def test_patches_show_what_they_mark():
    image, labels = spots()
    empty = AnnotatedVolume(np.full((64, 64, 1), 70, np.uint8), np.zeros((64, 64, 1), np.uint64))
    volumes = [AnnotatedVolume(image, labels), empty]
    sampling = Sampling(patch=48, batch=12, density_share=1.0, augment={"flip": 1, "rotate90": 1})
    patches, marked = draw_batch(volumes, sampling, np.random.default_rng(0))
    assert patches.shape == marked.shape == (12, 48, 48)
    np.testing.assert_array_equal(patches == 200, marked)
    again, _ = draw_batch(volumes, sampling, np.random.default_rng(0))
    np.testing.assert_array_equal(patches, again)


def test_patches_lie_y_x():
    image = np.zeros((64, 64, 1), np.uint8)
    image[:, 10] = 200
    volume = AnnotatedVolume(image, image.astype(np.uint64))
    patches, _ = draw_batch([volume], Sampling(64, 1, 1.0, {}), np.random.default_rng(0))
    assert (patches[0, 10] == 200).all()


def test_sections_have_a_mirrored_margin():
    image, labels = spots()
    rng = np.random.default_rng(0)
    [section] = draw_sections(
        [AnnotatedVolume(image[:64, :64, :1], labels[:64, :64, :1])], 1, 64, 160, rng
    )
    np.testing.assert_array_equal(section, np.pad(image[:64, :64, 0], 160, mode="reflect"))


def test_learning_rate_and_loss(layers, tmp_path):
    config = settings(layers, tmp_path, steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 0.001
    label = torch.tensor([[0.0, 1.0]])
    entropy = loss_of(torch.zeros(1, 2), label, 0.0)
    torch.testing.assert_close(entropy, torch.tensor(np.log(2), dtype=torch.float32))
    dice = loss_of(torch.zeros(1, 2), label, 1.0)
    torch.testing.assert_close(dice, torch.tensor(1 - (2 * 0.5 + 1) / (1 + 1 + 1)))
    assert loss_of(torch.tensor([[-20.0, 20.0]]), label, 0.5) < 1e-6


def test_a_training_file(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text(
        'output = "model"\nresolution = [4, 4, 50]\nwidths = [4, 4, 8, 8, 8]\n'
        '[[layers]]\nimage = "em"\nlabels = "gs://b/l"\n[[phantom]]\n'
        "shape = [64, 64, 2]\nseed = 7\n"
    )
    config = load_train_config(path)
    assert config.output == str(tmp_path / "model")
    assert config.layers[0].image == f"file://{tmp_path}/em"
    assert config.layers[0].labels == "gs://b/l"
    assert config.phantom[0].seed == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 5}, "unknown key 'step'; did you mean 'steps'?"),
        ({"layers": []}, r"give at least one \[\[layers\]\] or \[\[phantom\]\] to train on"),
        ({"augment": {"blur": 1}}, "augment.blur is not known; there are: flip"),
        ({"patch": 40}, "patch = 40"),
        ({"widths": (4, 4)}, "widths"),
        ({"finetune_frozen_steps": 9}, "finetune_frozen_steps is more than steps"),
        ({"phantom": [{"shape": (1, 1, 1), "sed": 1}]}, "unknown key 'phantom.0.sed'"),
    ],
)
def test_mistakes_are_one_line(layers, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        settings(layers, tmp_path, **change)
    assert "\n" not in str(caught.value)


def test_phantoms_are_rendered(tmp_path):
    pytest.importorskip("cnapse.phantom")
    from cnapse.detection.samples import load_source
    from cnapse.detection.settings import PhantomSource

    volume = load_source(PhantomSource(shape=(64, 64, 1), seed=3), NM)
    assert volume.image.shape == volume.labels.shape == (64, 64, 1)
    assert volume.image.std() > 0


def test_score_counts_voxels_and_objects(layers, tmp_path, monkeypatch):
    image, labels = spots(shape=(80, 72, 1))
    found = np.where(labels > 0, 255, 0).astype(np.uint8)
    found[labels == 2] = 0
    found[70, 70, 0] = 255  # dust
    monkeypatch.setattr(training, "detect_whole", lambda image, bundle: found)
    counted = score(None, [AnnotatedVolume(image, labels)], min_voxels=5)
    assert counted.object_f1 == pytest.approx(2 * 2 / (2 * 2 + 1))
    n, hit = int((labels > 0).sum()), int(((found > 0) & (labels > 0)).sum())
    assert counted.voxel_f1 == pytest.approx(2 * hit / (2 * hit + 1 + n - hit))
    assert detect_whole is not training.detect_whole
