import numpy as np
import pytest
import torch

from cnapse.detection import normalization
from cnapse.detection.network import RunningUNet, UNet
from cnapse.detection.normalization import ImageNormalization, fold, freeze, pool_statistics
from cnapse.errors import CheckpointError, ConfigError, FormatError

TINY = (4, 4, 8, 8, 8)


@pytest.fixture
def network():
    made = UNet(TINY)
    generator = torch.Generator().manual_seed(3)
    made.initialize(generator)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return made


def images(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 1, *shape, generator=generator) for shape in shapes]


def test_folded_equals_the_norms_with_the_same_statistics(network):
    statistics = pool_statistics(network, images((64, 96), (48, 32)))
    frozen = fold(network, statistics)
    network.fix_statistics(statistics)
    [image] = images((80, 64), seed=9)
    with torch.inference_mode():
        torch.testing.assert_close(frozen(image), network(image), rtol=1e-4, atol=1e-4)


def test_statistics_of_one_image_are_those_its_batch_norm_took(network):
    """Frozen on an image, the network says of it what the published one says."""
    [image] = images((64, 96))
    with torch.inference_mode():
        published = network(image)
        frozen = fold(network, pool_statistics(network, [image]))(image)
    torch.testing.assert_close(frozen, published, rtol=1e-3, atol=1e-3)


def test_two_ways_to_pool_agree(network, monkeypatch):
    sections = images((96, 64), (96, 64), (96, 64))
    at_once = pool_statistics(network, sections, margin=16)
    monkeypatch.setattr(normalization, "_PIXELS_AT_ONCE", 0)
    one_by_one = pool_statistics(network, sections, margin=16)
    assert list(at_once) == network.sites()
    for site, (mean, var) in at_once.items():
        torch.testing.assert_close(one_by_one[site][0], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one_by_one[site][1], var, rtol=1e-4, atol=1e-5)


def test_all_pixels_count_the_same_whatever_the_shapes(network):
    statistics = pool_statistics(network, images((32, 32), (64, 96)))
    conv = network.conv_in.conv1
    with torch.inference_mode():
        values = [conv(image)[0].flatten(1) for image in images((32, 32), (64, 96))]
    pooled = torch.cat(values, 1)
    torch.testing.assert_close(statistics["conv_in.conv1"][0], pooled.mean(1))
    torch.testing.assert_close(statistics["conv_in.conv1"][1], pooled.var(1, correction=0))


def test_the_margin_does_not_count(network):
    [image] = images((96, 96))
    statistics = pool_statistics(network, [image], margin=32)
    with torch.inference_mode():
        inner = network.conv_in.conv1(image)[..., 32:64, 32:64]
    torch.testing.assert_close(statistics["conv_in.conv1"][0], inner.mean((0, 2, 3)))


def test_pooling_leaves_the_network_as_published(network):
    [image] = images((64, 64))
    with torch.inference_mode():
        before = network(image)
        pool_statistics(network, images((32, 32), seed=5))
        assert torch.equal(network(image), before)


def test_freeze_takes_images_in_x_and_y(network):
    rng = np.random.default_rng(0)
    section = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    frozen = freeze(network, [section])
    tensor = torch.from_numpy(section.T.astype(np.float32) / 255)[None, None]
    expected = fold(network, pool_statistics(network, [tensor]))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(frozen.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_bad_samples_are_refused(network):
    with pytest.raises(FormatError, match="at least one sample section"):
        pool_statistics(network, [])
    with pytest.raises(FormatError, match="section of 60 x 64 px must be a multiple of 16"):
        pool_statistics(network, images((64, 60)))
    with pytest.raises(FormatError, match="larger than two margins of 32 px"):
        pool_statistics(network, images((64, 64)), margin=32)
    with pytest.raises(CheckpointError, match=r"no statistics for conv_in.conv1, "):
        fold(network, {})


def test_image_normalization():
    image = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(ImageNormalization().apply(image), [[0, 0.2, 1]], rtol=1e-6)
    standard = ImageNormalization("standard", mean=51, std=102)
    np.testing.assert_allclose(standard.apply(image), [[-0.5, 0, 2]], rtol=1e-6)
    assert ImageNormalization.from_dict(standard.to_dict()) == standard
    with pytest.raises(FormatError, match="must be uint8, not float64"):
        standard.apply(image.astype(float))
    with pytest.raises(ConfigError, match="std must be above 0"):
        ImageNormalization("standard", std=0)
    with pytest.raises(ConfigError, match='"scale" or "standard", not \'histogram\''):
        ImageNormalization("histogram")


@pytest.mark.parametrize("half", [False, True])
def test_running_statistics_fold_away(half):
    network = RunningUNet(TINY, channels_in=3, channels_out=2, half=half)
    generator = torch.Generator().manual_seed(1)
    network.initialize(generator)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name:
                value.copy_(0.1 + torch.rand(value.shape, generator=generator))
            elif "norm" in name and "num" not in name:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    image = torch.rand(2, 3, 64, 32, generator=generator)
    with torch.inference_mode():
        single = fold(network, network.statistics())(image)
        exact = network.eval().double()
        expected = exact(image.double())
        largest = float(expected.abs().max())
        folded = fold(exact, exact.statistics())(image.double())
        torch.testing.assert_close(folded, expected, rtol=0, atol=1e-12 * largest)
        # What float32 makes of it is rounding: 27 convolutions, of which each has its 6e-8.
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4 * largest)


def test_sections_are_frozen_with_their_neighbours():
    network = UNet(TINY, channels_in=3)
    windows = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    inputs = [torch.from_numpy(w.T[None].astype(np.float32) / 255) for w in windows]
    expected = fold(network, pool_statistics(network, inputs)).state_dict()
    for name, value in freeze(network, list(windows)).state_dict().items():
        torch.testing.assert_close(value, expected[name])
