import types

import numpy as np
import pytest
import torch
from torch import nn

from cnapse.detection import trainee, training
from cnapse.detection.settings import TrainConfig
from cnapse.detection.trainee import Trainee
from cnapse.errors import ConfigError
from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.0, 50.0)
SHAPE = (48, 48, 3)


class Small(nn.Module):
    """A network that keeps running statistics and needs random numbers of its own."""

    def __init__(self, sections):
        super().__init__()
        self.conv_in = nn.Conv2d(sections, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout2d(0.3)
        self.conv_out = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.conv_out(self.dropout(torch.relu(self.norm(self.conv_in(x)))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    box = Box.from_shape(SHAPE, NM)
    for name, kind, array in [
        ("image", "image", image),
        ("labels", "segmentation", (image > 200).astype(np.uint8)),
    ]:
        create_layer(
            str(folder / name), kind=kind, dtype=array.dtype, bounds=box, chunk_size=SHAPE
        ).write(array, box)
    return folder


def settings(folder, output, auxiliary=False, **changes):
    source = {"image": str(folder / "image"), "labels": str(folder / "labels")}
    values = {
        "output": str(output),
        "resolution": NM,
        "layers": [{**source, "auxiliary": source["labels"]} if auxiliary else source],
        "widths": (4, 4, 8, 8, 8),
        "steps": 6,
        "batch": 2,
        "patch": 32,
        "warmup_steps": 1,
        "save_every": 2,
        **changes,
    }
    return TrainConfig.from_dict(values)


def test_any_network_goes_on_as_if_it_had_not_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(trainee, "_built", lambda config: Small(config.sections))
    made = []
    monkeypatch.setattr(Trainee, "bundle", lambda self, state: types.SimpleNamespace(half=dict))
    monkeypatch.setattr(training, "save_bundle", lambda bundle, path: made.append(path))
    options = {
        "sections": 3,
        "finetune_frozen_steps": 2,
        "average": {"kind": "exponential"},
        "auxiliary": True,
    }
    states = {}
    for name, stops in [("whole", [4, None]), ("parts", [1, 3, 5, None])]:
        for stop in stops:
            training.train(settings(folder, tmp_path / name, **options), stop_after=stop)
            state = torch.load(tmp_path / name / "last.pt", weights_only=True)
            states[name, stop] = state
    whole, parts = states["whole", None], states["parts", None]
    assert made == [tmp_path / "whole", tmp_path / "parts"]
    for key in whole["network"]:
        assert torch.equal(whole["network"][key], parts["network"][key])
        assert torch.equal(whole["average"]["values"][key], parts["average"]["values"][key])
    # The statistics are fixed in the last two steps, the weights are not.
    before = states["whole", 4]["network"]
    assert torch.equal(before["norm.running_mean"], whole["network"]["norm.running_mean"])
    assert not torch.equal(before["conv_in.weight"], whole["network"]["conv_in.weight"])
    earlier = states["parts", 3]["network"]
    assert not torch.equal(before["norm.running_mean"], earlier["norm.running_mean"])


def test_a_network_without_norms_is_taken_as_it_is(folder, tmp_path):
    result = training.train(settings(folder, tmp_path, architecture="unet2d-frozen"))
    weights = torch.load(tmp_path / "last.pt", weights_only=True)["network"]
    assert result.bundle.statistics == "frozen"
    for name, value in result.bundle.weights.items():
        assert torch.equal(value, weights[name].half())


def test_the_auxiliary_output_leaves_the_other_alone(folder, tmp_path):
    plain = Trainee(settings(folder, tmp_path))
    helped = Trainee(settings(folder, tmp_path, auxiliary=True))
    image = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    first, second = plain.logits(image), helped.logits(image)
    assert first.shape == (2, 1, 32, 32)
    assert second.shape == (2, 2, 32, 32)
    torch.testing.assert_close(first[:, 0], second[:, 0])
    assert not torch.allclose(second[:, 0], second[:, 1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"architecture": "resnet"}, ConfigError, "architecture 'resnet' is not known; there"),
        ({"halo": 64}, ConfigError, "a halo of 64 px does not cover what the network sees"),
        ({"device": "abacus"}, ConfigError, "device 'abacus' cannot be used .* take \"cpu\""),
    ],
)
def test_what_is_not_there_is_one_line(folder, tmp_path, change, error, message):
    with pytest.raises(error, match=message) as caught:
        Trainee(settings(folder, tmp_path, **change))
    assert "\n" not in str(caught.value)


def test_an_auxiliary_target_needs_a_last_convolution(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(trainee, "_built", lambda config: nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(ConfigError, match="whose last layer is a convolution 'conv_out', which"):
        Trainee(settings(folder, tmp_path, auxiliary=True))
