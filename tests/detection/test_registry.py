import sys

import pytest
import torch
from torch import nn

from cnapse.detection.network import FrozenUNet, RunningUNet, UNet
from cnapse.detection.registry import (
    build_network,
    canonical_name,
    complete_options,
    network_field,
    network_state,
)
from cnapse.errors import ConfigError

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, out_channels=1, width=2, reach=1):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 1 + 2 * reach, padding=reach)
        self.last = nn.Conv2d(width, out_channels, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.last(torch.relu(self.first(x))) * self.scale

class Fixed(nn.Conv2d):
    def __init__(self):
        super().__init__(1, 1, 3, padding=1)

def broken():
    raise RuntimeError("no\\nweights")

def other():
    return 5

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(OWN)
    (tmp_path / "own_bad.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "own_worse.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_net"
    for name in ("own_net", "own_bad", "own_worse"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("detectem", UNet),
        ("unet2d", UNet),
        ("detectem-frozen", FrozenUNet),
        ("unet2d-frozen", FrozenUNet),
        ("unet", RunningUNet),
    ],
)
def test_networks_go_by_name(name, kind):
    network = build_network(name, {"widths": [4, 8]}, 3, 2)
    assert type(network) is kind
    assert network(torch.rand(2, 3, 4, 8)).shape == (2, 2, 4, 8)
    state = network_state(name, {"widths": [4, 8]}, 3, 2)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }
    assert network_field(name, {"widths": [4, 8]}, 3, 2).stride == 2


def test_at_half_the_resolution_a_network_sees_twice_as_far():
    options = {"widths": [4, 8, 8], "half": True}
    network = build_network("unet", options, 3, 2)
    assert network.options == options
    assert network(torch.rand(1, 3, 16, 24)).shape == (1, 2, 16, 24)
    wide, plain = (network_field("unet", o) for o in (options, {"widths": [4, 8, 8]}))
    assert (plain.stride, wide.stride, network.stride) == (4, 8, 8)
    assert wide.last >= 2 * plain.last


def test_a_running_norm_stands_behind_each_convolution():
    names = network_state("unet", {"widths": [4, 8]}).keys()
    norms = {name.rsplit(".", 1)[0] for name in names if "running_mean" in name}
    convolutions = {name.rsplit(".", 1)[0] for name in names if ".conv" in name}
    expected = {n.replace("conv", "norm") for n in ("conv1", "conv2", "conv3")}
    assert {norm.rsplit(".", 1)[1] for norm in norms} == expected
    assert len(norms) == 3 * 3 == len([n for n in convolutions if "upconv" not in n])


def test_widths_have_a_default():
    assert complete_options("unet", None) == {"widths": [16, 32, 64, 128, 256]}
    assert complete_options("unet", {"widths": (4, 8)}) == {"widths": [4, 8]}
    assert complete_options("own:Net", None) == {}
    assert canonical_name("own:Net") == "own:Net"


def test_a_network_of_ones_own_goes_by_import_path(own):
    network = build_network(f"{own}:Net", {"width": 5, "reach": 3}, 3, 2)
    assert isinstance(network, nn.Module)
    assert network.first.weight.shape == (5, 3, 7, 7)
    assert network.last.weight.shape == (2, 5, 1, 1)
    field = network_field(f"{own}:Net", {"reach": 3}, 3, 2)
    assert (field.before, field.after, field.stride) == (3, 3, 1)
    # What it does not ask for it is not told.
    assert network_field(f"{own}:Fixed").before == 1
    with pytest.raises(ConfigError, match="cannot be run on an image of shape"):
        network_field(f"{own}:Fixed", {}, 3, 1)


def test_nothing_is_imported_before_it_is_named(own):
    build_network("unet", {"widths": [4, 8]})
    canonical_name(f"{own}:Net")
    complete_options(f"{own}:Net", {"width": 1})
    assert own not in sys.modules
    build_network(f"{own}:Net")
    assert own in sys.modules


def test_making_a_network_leaves_the_random_numbers_alone(own):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_network(f"{own}:Net")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet3d", {}, "'unet3d' is not known; there are: detectem, detectem-frozen, unet, or"),
        ("unet", {"depth": 3}, "'unet' has no option 'depth'; it has: widths, half"),
        ("detectem", {"half": True}, "'detectem' has no option 'half'; it has: widths$"),
        ("unet", {"widths": [4]}, r"'unet': widths \[4\]: give at least two positive numbers"),
        ("unet", {"widths": "wide"}, "'unet': "),
        ("unet", {"widths": 8}, "'unet': "),
        ("nowhere_at_all:Net", {}, "no module 'nowhere_at_all'; install it, or put its folder"),
        ("own_bad:Net", {}, "no module 'nothing_of_that_name'"),
        ("own_worse:Net", {}, "importing 'own_worse' fails with ZeroDivisionError"),
        ("own_net:Nothing", {}, "module 'own_net' has no class 'Nothing'"),
        ("own_net:number", {}, "module 'own_net' has no class 'number'"),
        ("own_net:other", {}, "gives int, not a torch.nn.Module"),
        ("own_net:broken", {}, r"cannot be made with \(\): RuntimeError: no weights"),
        ("own_net:Net", {"depth": 2}, r"made with \(in_channels=1, out_channels=1, depth=2\): Typ"),
        ("own_net:", {}, "has no class ''"),
        (":Net", {}, "':Net'"),
        ("own_net:Net", {"width": torch.ones(1)}, "must be numbers, text, lists or tables"),
    ],
)
def test_mistakes_are_told_in_one_line(own, name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_network(name, options)
    assert "\n" not in str(caught.value)
