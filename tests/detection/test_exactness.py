"""A network with running statistics: tiles, offsets, blocks and batches leave no trace."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import detect_block, read_box
from cnapse.detection.registry import build_network
from cnapse.geometry import Box, Grid

NM = (4.0, 4.0, 50.0)
# Narrow and wide: tiles fall on both sides of the 20,480 numbers at which torch changes kernels.
WIDTHS = st.sampled_from([[16, 32, 64], [4, 8, 8], [5, 3, 7]])
RIM = 208
CLASSES = ("density", "vesicles")


def random_unet(seed, widths, sections, classes, half):
    """A network whose weights, norms and running statistics are all drawn."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network("unet", {"widths": widths, "half": half}, sections, classes)
    network.initialize(generator)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            drawn = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(0.2 + drawn.abs())
            elif "norm" in name and not name.endswith("num_batches_tracked"):
                value.add_(0.3 * drawn)
    return network.eval()


def mirrored(image, box, bounds):
    axes = []
    for a, b, low, high in zip(box.start, box.stop, bounds.start, bounds.stop, strict=True):
        n = high - low
        place = (np.arange(a, b) - low) % max(1, 2 * (n - 1))
        axes.append(np.where(place < n, place, 2 * (n - 1) - place))
    return image[np.ix_(*axes)]


def whole(image, network, bounds, sections):
    """Probability (x, y, z, class) of each section from one forward of all of it, mirrored."""
    nx, ny, nz = image.shape
    grown = bounds.grown((RIM, RIM, sections // 2), (-nx % 8 + RIM, -ny % 8 + RIM, sections // 2))
    volume = torch.from_numpy(mirrored(image, grown, bounds).T.astype(np.float32) / np.float32(255))
    out = np.empty((nx, ny, nz, network.channels_out), np.uint8)
    for z in range(nz):
        with torch.inference_mode():
            shown = volume[None, z : z + sections].contiguous(memory_format=torch.channels_last)
            inner = network(shown)[0, :, RIM : RIM + ny, RIM : RIM + nx]
        out[:, :, z] = torch.round(255 * torch.sigmoid(inner)).to(torch.uint8).numpy().T
    return out


@settings(max_examples=20, deadline=None)
@given(
    widths=WIDTHS,
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 3)),
    tile=st.tuples(st.sampled_from([4, 28, 64, 96]), st.sampled_from([4, 12, 72])),
    halo=st.sampled_from([40, 44]),
    offset=st.tuples(st.integers(-40, 40), st.integers(-40, 40), st.integers(-3, 3)),
    block=st.tuples(st.integers(30, 90), st.integers(30, 90), st.integers(1, 2)),
    batch=st.integers(1, 4),
    sections=st.sampled_from([1, 3]),
    classes=st.integers(1, 2),
    half=st.booleans(),
    seed=st.integers(0, 999),
)
def test_tiles_equal_one_forward_of_the_whole_section(
    widths, shape, tile, halo, offset, block, batch, sections, classes, half, seed
):
    if half:  # it sees twice as far
        tile, halo = (2 * tile[0], 2 * tile[1]), 2 * halo
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    bounds = Box.from_shape(shape, NM, offset)
    network = random_unet(seed, widths, sections, classes, half)
    model = ModelBundle.of(network, resolution=NM, tile=tile, halo=halo, classes=CLASSES[:classes])
    found = np.zeros((*shape, classes), np.uint8)
    for part in Grid(bounds, block):
        read = mirrored(image, read_box(part.write, bounds, model), bounds)
        made = detect_block(read, part.write, bounds, model, batch=batch)
        found[part.write.slices(bounds)] = made.reshape(*part.write.shape, classes)
    np.testing.assert_array_equal(found, whole(image, model.network(), bounds, sections))
    # Folding the norms rounds otherwise, by a level at most.
    unfolded = whole(image, network, bounds, sections)
    assert np.abs(found.astype(int) - unfolded.astype(int)).max() <= 1
