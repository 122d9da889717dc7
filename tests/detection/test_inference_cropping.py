"""Cropping gives the very logits of a run of everything, and does less work."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.cropping import CroppedUNet
from cnapse.detection.network import FrozenUNet

HALO = 160


def network_of(widths, channels=(1, 1)):
    network = FrozenUNet(widths, *channels)
    network.initialize(torch.Generator().manual_seed(3))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


SMALL = network_of((8, 8, 8, 16, 16))


@settings(max_examples=15, deadline=None)
@given(tile=st.tuples(st.integers(1, 20), st.integers(1, 20)), seed=st.integers(0, 99))
def test_the_middle_is_that_of_a_run_of_everything(tile, seed):
    y, x = (16 * n + 2 * HALO for n in tile)
    image = torch.rand(1, 1, y, x, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        whole = SMALL(image)[..., HALO:-HALO, HALO:-HALO]
        found = CroppedUNet(SMALL, HALO)(image)
    assert torch.equal(found, whole)


@pytest.mark.parametrize(("half", "halo"), [(False, 48), (True, 96)])
def test_channels_levels_and_half_the_resolution(half, halo):
    network = network_of((8, 8, 16), channels=(3, 2, half))
    image = torch.rand(2, 3, 304, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network(image)[..., halo:-halo, halo:-halo]
        found = CroppedUNet(network, halo)(image)
    assert found.shape == (2, 2, 304 - 2 * halo, 256 - 2 * halo)
    assert torch.equal(found, whole)


def test_less_is_computed():
    pixels = []
    hook = SMALL.uconv4.conv2.register_forward_hook(
        lambda _module, _inputs, made: pixels.append(made.shape[-1] * made.shape[-2])
    )
    image = torch.zeros(1, 1, 96 + 2 * HALO, 96 + 2 * HALO)
    try:
        CroppedUNet(SMALL, HALO)(image)
    finally:
        hook.remove()
    # The middle, and 1 + 3 px at each side for the convolutions to come.
    assert pixels == [104**2]
