import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnapse.detection.network import RunningUNet
from cnapse.detection.receptive import ReceptiveField, measure_field
from cnapse.errors import ConfigError


def conv(kernel=3, dilation=1, channels_in=1, channels_out=1):
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation)


class Pooled(nn.Module):
    """Strided, with a skip connection; grey values of an image with y and x of any size."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride
        self.coarse, self.fine = conv(), conv()

    def forward(self, x):
        coarse = self.coarse(nnf.max_pool2d(x, self.stride))
        return self.fine(x) + nnf.interpolate(coarse, scale_factor=self.stride, mode="nearest")


@settings(max_examples=10, deadline=None)
@given(layers=st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 4)), min_size=1))
def test_convolutions_see_the_sum_of_their_reaches(layers):
    reach = sum(dilation * (kernel - 1) // 2 for kernel, dilation in layers)
    network = nn.Sequential(*(m for layer in layers for m in (conv(*layer), nn.ReLU())))
    expected = ReceptiveField(-reach, reach, reach, reach, 1)
    assert measure_field(network, 1, 1) == expected
    assert expected.least_halo == reach


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_pooling_makes_a_stride(stride):
    # A cell sees itself and its two neighbours.
    field = measure_field(Pooled(stride), 1, 1)
    assert field == ReceptiveField(1 - 2 * stride, 2 * stride - 1, stride, stride, stride)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), stride=st.sampled_from([2, 4]), dilation=st.integers(1, 3))
def test_changes_reach_no_farther_than_measured(seed, stride, dilation):
    """Another way to measure: change a pixel, look which outputs change."""
    torch.manual_seed(seed)
    network = nn.Sequential(conv(3, dilation), nn.GELU(), Pooled(stride)).double()
    field = measure_field(network, 1, 1)
    first, last = 999, -999
    with torch.inference_mode():
        for pixel in range(64, 64 + stride):
            for _ in range(8):
                image = torch.rand(1, 1, 16, 128, dtype=torch.float64)
                changed = image.clone()
                changed[..., 8, pixel] += 100
                seen = torch.nonzero((network(image) != network(changed)).any(dim=2)[0, 0])
                first = min(first, pixel - int(seen.max()))
                last = max(last, pixel - int(seen.min()))
    assert (first, last) == (field.first, field.last)


def test_the_wider_axis_counts():
    wide = nn.Conv2d(1, 1, (5, 3), padding=(2, 1))
    assert measure_field(wide, 1, 1).before == 2
    assert measure_field(nn.Conv2d(1, 1, (3, 5), padding=(1, 2)), 1, 1).before == 2


def test_any_section_and_any_class_counts():
    """The first of three sections is seen from farther away, by the second of two classes."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.near, self.far = conv(3), conv(9)

        def forward(self, x):
            return torch.cat([self.near(x[:, 1:2]), self.far(x[:, :1])], dim=1)

    assert measure_field(Network(), 3, 2).before == 4


def test_running_statistics_are_local_and_the_network_stays_as_it_was():
    network = RunningUNet([4, 4], 3, 2).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert measure_field(network, 3, 2).least_halo == 16
    assert network.training
    for name, value in network.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(conv(), nn.InstanceNorm2d(1)), 'sees all .* set statistics to "tile"'),
        (nn.Conv2d(1, 1, 3), r"gives \(1, 1, 62, 510\) .* not logits of shape \(1, 1, 64, 512\)"),
        (nn.Conv2d(1, 2, 1), r"gives \(1, 2, 64, 512\)"),
        (nn.Conv2d(3, 1, 1), r"cannot be run on an image of shape \(1, 1, 64, 512\) in float64: G"),
        (nn.Sequential(nn.Upsample(scale_factor=3), nn.MaxPool2d(2)), "gives "),
    ],
)
def test_networks_that_cannot_be_tiled_are_refused(network, message):
    with pytest.raises(ConfigError, match=message) as caught:
        measure_field(network, 1, 1)
    assert "\n" not in str(caught.value)


class Scaled(nn.Module):
    """Its coarse grid is fitted to the image: every place has a phase of its own."""

    def forward(self, x):
        coarse = nnf.max_pool2d(x, 2)
        return nnf.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=True)


class Placed(nn.Module):
    """Is told where it is."""

    def forward(self, x):
        return x + torch.arange(x.shape[3], dtype=x.dtype)


class Coarse(nn.Module):
    """Columns of 128 px."""

    def forward(self, x):
        return nnf.interpolate(nnf.max_pool2d(x, (1, 128)), scale_factor=(1, 128))


class Other(nn.Module):
    def forward(self, x):
        return x * 0 + 1 if x.shape[2] > 64 else {"logits": x}


class Blind(nn.Module):
    def forward(self, x):
        return torch.ones_like(x)


def test_networks_that_depend_on_the_place_are_refused():
    with pytest.raises(ConfigError, match="depends on where in the image it lies"):
        measure_field(Scaled(), 1, 1)
    with pytest.raises(ConfigError, match="depends on where in the image it lies"):
        measure_field(Placed(), 1, 1)
    with pytest.raises(ConfigError, match="no stride of 64 px or less"):
        measure_field(Coarse(), 1, 1)
    with pytest.raises(ConfigError, match="do not depend on the pixel at their place"):
        measure_field(Blind(), 1, 1)
    with pytest.raises(ConfigError, match="gives dict for an image"):
        measure_field(Other(), 1, 1)
