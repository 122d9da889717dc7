import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.network import (
    FrozenUNet,
    RunningUNet,
    UNet,
    receptive_field,
)
from cnapse.detection.receptive import check_halo
from cnapse.errors import CheckpointError, ConfigError

TINY = (4, 4, 8, 8, 8)


def drawn(widths=TINY, seed=0):
    network = UNet(widths)
    generator = torch.Generator().manual_seed(seed)
    network.initialize(generator)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return network


def restated(w, x):
    """The published network in its own words: functions of a state dict, whole-batch norms."""

    def three(level, x):
        for conv in ("conv1", "conv2", "conv3"):
            x = nnf.conv2d(x, w[f"{level}.{conv}.weight"], w[f"{level}.{conv}.bias"], padding=1)
            mean = x.mean((0, 2, 3), keepdim=True)
            var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
            gain = w[f"{level}.norm.weight"][:, None, None]
            x = (x - mean) / (var + 1e-5).sqrt() * gain + w[f"{level}.norm.bias"][:, None, None]
            x = x.clamp(min=0)
        return x

    kept = [three("conv_in", x)]
    for level in range(1, 5):
        n, c, h, v = kept[-1].shape
        pooled = kept[-1].reshape(n, c, h // 2, 2, v // 2, 2).amax((3, 5))
        kept.append(three(f"dconv{level}", pooled))
    x = kept.pop()
    for level in range(1, 5):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        n, c, h, v = x.shape
        wide = x.new_zeros(n, c, h + 1, v + 1)
        wide[:, :, :h, :v] = x
        name = f"uconv{level}.upconv.conv"
        x = nnf.conv2d(wide, w[f"{name}.weight"], w[f"{name}.bias"])
        x = three(f"uconv{level}", torch.cat([kept.pop(), x], 1))
    return nnf.conv2d(x, w["conv_out.weight"], w["conv_out.bias"], padding=1)


def test_the_published_network_has_its_parameters_and_names():
    network = UNet()
    assert sum(p.numel() for p in network.parameters()) == 2_924_657
    levels = ["conv_in", *(f"{way}conv{i}" for way in "du" for i in range(1, 5))]
    expected = {
        f"{level}.{part}.{kind}"
        for level in levels
        for part in ("conv1", "conv2", "conv3", "norm")
        for kind in ("weight", "bias")
    }
    expected |= {f"uconv{i}.upconv.conv.{kind}" for i in range(1, 5) for kind in ("weight", "bias")}
    expected |= {"conv_out.weight", "conv_out.bias"}
    assert set(network.state_dict()) == expected
    assert network.uconv1.upconv.conv.weight.shape == (128, 256, 2, 2)


def test_there_are_9_norms_at_27_places():
    network = UNet(TINY)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == 9
    assert len(network.sites()) == 27
    assert network.sites()[0] == "conv_in.conv1"
    assert network.sites()[-1] == "uconv4.conv3"
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in FrozenUNet(TINY).modules())


@settings(max_examples=6, deadline=None)
@given(
    n=st.integers(1, 2), rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_it_computes_what_was_published(n, rows, columns, seed):
    if n * rows * columns == 1:
        rows = 2  # a norm over one value has no variance: torch refuses it
    network = drawn(seed=seed).double()
    image = torch.rand(
        n, 1, 16 * rows, 16 * columns, generator=torch.Generator().manual_seed(seed)
    ).double()
    with torch.inference_mode():
        torch.testing.assert_close(
            network(image), restated(network.state_dict(), image), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("axis", [2, 3])
def test_the_receptive_field_is_what_gradients_show(axis):
    """Another way to measure: which pixels a cell's logits have a gradient at."""
    network = FrozenUNet(TINY).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0 if parameter.ndim == 1 else 1 / parameter[0].numel())
    shape = [1, 1, 16, 16]
    shape[axis] = 480
    first, last = 1000, -1000
    for seed in range(6):  # maximum pooling shows one of its pixels at a time
        image = torch.rand(
            shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        ).requires_grad_()
        network(image).narrow(axis, 224, 16).sum().backward()
        seen = torch.nonzero(image.grad.amax((0, 1, 5 - axis)) > 0)
        first, last = min(first, int(seen.min())), max(last, int(seen.max()))
    field = receptive_field()
    assert (field.before, field.after, field.stride) == (141, 157, 16)
    assert 0 <= first - (224 - field.before) <= 16
    assert 0 <= 239 + field.after - last <= 16


def test_a_halo_that_is_too_small_is_refused():
    check_halo(160, (512, 512), receptive_field())
    for halo in (144, 157, 158, 161):
        with pytest.raises(ConfigError, match=rf"a halo of {halo} px .* multiple of 16 from 160"):
            check_halo(halo, (512, 512), receptive_field())
    with pytest.raises(ConfigError, match="multiple of 16 px in x and y"):
        check_halo(160, (512, 500), receptive_field())


def test_running_norms_learn_their_statistics_and_use_them():
    network = RunningUNet(TINY, channels_in=3, channels_out=2)
    assert len(network.statistics()) == 27
    image = 5 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0  # what was seen last
    network.train()(image)
    first = network.conv_in.conv1(image)
    mean, var = network.statistics()["conv_in.conv1"]
    torch.testing.assert_close(mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(var, first.var((0, 2, 3)))
    with torch.inference_mode():
        alone = torch.cat([network.eval()(part[None]) for part in image])
        torch.testing.assert_close(alone, network(image), rtol=1e-4, atol=1e-4)


def test_statistics_of_the_tile_are_exact_in_the_layout_that_is_run():
    """Torch's own, with channels last, are a hundred times as far off."""
    network = drawn(seed=3).eval()
    image = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = restated(
            {k: v.double() for k, v in network.state_dict().items()}, image.double()
        )
        last = image.contiguous(memory_format=torch.channels_last)
        found = network.to(memory_format=torch.channels_last)(last)
    assert (found - expected).abs().max() < 1e-3


def test_widths_that_are_no_levels_are_refused():
    for widths in ([], [4], [4, 0]):
        with pytest.raises(CheckpointError, match="give at least two positive numbers"):
            UNet(widths)
