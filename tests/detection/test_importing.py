import hashlib
import sys

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as nnf
from torch import nn

from cnapse.detection.checkpoint import load_bundle, load_checkpoint, save_bundle
from cnapse.detection.importing import ImportSpec, import_checkpoint
from cnapse.detection.inference import detect_whole
from cnapse.detection.normalization import ImageNormalization, freeze
from cnapse.detection.registry import build_network
from cnapse.detection.sampling import SampleSpec, sample_sections
from cnapse.errors import CheckpointError, ConfigError

NM = (4.0, 4.0, 50.0)
TINY = (4, 4, 8, 8, 8)
PUBLISHED = (16, 32, 64, 128, 256)


class Block(nn.Module):
    """A level of the published network: one norm without running statistics, used three times."""

    def __init__(self, before, channels, up=None):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, momentum=0.001, track_running_stats=False)
        if up:
            self.upconv = nn.Module()
            self.upconv.conv = nn.Conv2d(up, channels, 2)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = torch.relu(self.norm(conv(x)))
        return x


class Published(nn.Module):
    """The published network, stated again in plain torch; none of cnapse's code."""

    def __init__(self, widths):
        super().__init__()
        a, b, c, d, e = widths
        self.conv_in = Block(1, a)
        self.dconv1, self.dconv2 = Block(a, b), Block(b, c)
        self.dconv3, self.dconv4 = Block(c, d), Block(d, e)
        self.uconv1, self.uconv2 = Block(2 * d, d, e), Block(2 * c, c, d)
        self.uconv3, self.uconv4 = Block(2 * b, b, c), Block(2 * a, a, b)
        self.conv_out = nn.Conv2d(a, 1, 3, padding=1)

    def forward(self, x):
        skips = [self.conv_in(x)]
        for down in (self.dconv1, self.dconv2, self.dconv3, self.dconv4):
            skips.append(down(nnf.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in (self.uconv1, self.uconv2, self.uconv3, self.uconv4):
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = torch.cat([skips.pop(), up.upconv.conv(nnf.pad(x, (0, 1, 0, 1)))], dim=1)
            x = up(x)
        return self.conv_out(x)


def published(widths=TINY, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Published(widths)
        with torch.no_grad():
            for name, value in network.named_parameters():
                if "norm" in name:
                    value.add_(0.3 * torch.randn(value.shape))
                elif value.ndim > 1:  # else hardly anything but noise reaches the output
                    nn.init.kaiming_normal_(value)
    return network.eval()


@pytest.fixture
def checkpoint(tmp_path):
    def save(state, name="model206000.chkpt"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def image(tmp_path):
    made = np.random.default_rng(0).integers(1, 256, (5, 70, 100), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "em.tif", made)  # z, y, x
    return tmp_path / "em.tif"


TILED = ImportSpec(NM, statistics="tile")


@pytest.mark.parametrize(("widths", "side"), [(TINY, 96), (PUBLISHED, 64)])
def test_statistics_of_the_tile_are_what_was_published(checkpoint, widths, side):
    network = published(widths)
    model = import_checkpoint(checkpoint(network.state_dict()), TILED)
    assert model.options == {"widths": list(widths)}
    ours = model.network()
    for seed in range(3):
        tile = torch.rand(1, 1, side, 64, generator=torch.Generator().manual_seed(seed))
        last = tile.contiguous(memory_format=torch.channels_last)  # as it is run
        with torch.inference_mode():
            torch.testing.assert_close(ours(last), network(tile), rtol=1e-5, atol=1e-5)
            expected = network(tile)
            assert expected.std() > 0.01
            torch.testing.assert_close(ours(tile), expected, rtol=1e-5, atol=1e-5)
            p = torch.sigmoid(expected)
            torch.testing.assert_close(torch.sigmoid(ours(tile)), p, rtol=0, atol=1e-5)


def test_tiles_are_the_patches_of_the_published_program(checkpoint):
    """256 px, of which 16 at each side are only read; here there is no rim without prediction."""
    network = published()
    model = import_checkpoint(checkpoint(network.state_dict()), TILED)
    assert (model.tile, model.halo, model.statistics) == ((224, 224), 16, "tile")
    section = np.random.default_rng(1).integers(0, 256, (300, 260, 1), dtype=np.uint8)
    found = detect_whole(section, model, batch=2)
    padded = np.pad(section[..., 0], 16, mode="reflect")
    patch = torch.from_numpy(padded[:256, :256].T.astype(np.float32) / 255)
    with torch.inference_mode():
        p = torch.sigmoid(network(patch[None, None]))[0, 0, 16:240, 16:240]
    assert np.abs(found[:224, :224, 0] - 255 * p.numpy().T).max() <= 0.51
    assert found[-16:].any()
    assert found[:, -16:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("prefix", "keys"),
    [
        ("", ()),
        ("model.", ()),
        ("module.", ("state_dict",)),
        ("model.module.", ("model_state_dict",)),
        ("_orig_mod.", ("model",)),
        ("", ("net", "state_dict")),
    ],
)
def test_state_dicts_come_in_many_wrappings(checkpoint, prefix, keys, dtype):
    plain = {name: value.to(dtype) for name, value in published().state_dict().items()}
    state = {prefix + name: value for name, value in plain.items()}
    for key in keys:
        state = {key: state, "step": 206000}
    model = import_checkpoint(checkpoint(state), TILED)
    assert model.weights.keys() == plain.keys()
    for name, value in plain.items():
        assert torch.equal(model.weights[name], value.float())


def test_wrong_keys_and_shapes_are_listed_in_one_line(checkpoint):
    state = published().state_dict()
    del state["conv_out.bias"], state["dconv2.norm.weight"]
    state |= {
        "dconv2.norm.running_mean": torch.zeros(8),
        "conv_out.weight": torch.zeros(2, 4, 3, 3),
    }
    path = checkpoint({f"model.{name}": value for name, value in state.items()})
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, TILED)
    assert str(caught.value) == (
        f"weights of {path} do not fit the network; missing: conv_out.bias, dconv2.norm.weight; "
        "unexpected: dconv2.norm.running_mean; of another shape: conv_out.weight (2, 4, 3, 3) "
        "instead of (1, 4, 3, 3): give the architecture and options that they are of"
    )


class Evil:
    def __reduce__(self):
        return (sys.exit, ("run",))


def test_nothing_in_a_checkpoint_is_run(checkpoint):
    with pytest.raises(CheckpointError, match="is not a checkpoint of weights alone"):
        import_checkpoint(checkpoint({"conv_in.conv1.weight": Evil()}), TILED)


def test_frozen_on_a_sample(checkpoint, image, tmp_path):
    path = checkpoint(published().state_dict())
    sampling = SampleSpec(count=3, size=64, seed=2)
    model = import_checkpoint(path, ImportSpec(NM, name="ours"), sample=image, sampling=sampling)
    assert (model.statistics, model.tile, model.halo) == ("frozen", (1024, 1024), 160)
    sample = sample_sections(image, NM, sampling, margin=160)
    expected = freeze(load_checkpoint(path), [w[..., 0] for w in sample.windows], margin=160)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.weights[name], value, rtol=1e-6, atol=1e-6)
    told = model.provenance
    assert told["name"] == "ours"
    assert told["checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["statistics"]["image"] == str(image)
    assert told["statistics"]["starts"] == [list(start) for start in sample.starts]
    save_bundle(model, tmp_path / "model")
    assert load_bundle(tmp_path / "model").digest == model.digest
    again = import_checkpoint(path, ImportSpec(NM, name="ours"), sample=image, sampling=sampling)
    assert again.digest == model.digest


def test_what_does_not_go_together_is_refused(checkpoint, image):
    path = checkpoint(published().state_dict())
    with pytest.raises(ConfigError, match="give --sample IMAGE to freeze them on, or --statistics"):
        import_checkpoint(path, ImportSpec(NM))
    with pytest.raises(ConfigError, match=r"--sample .* is of no use here"):
        import_checkpoint(path, TILED, sample=image)
    with pytest.raises(ConfigError, match="device 'gpu9' cannot be used"):
        import_checkpoint(
            path, ImportSpec(NM), sample=image, sampling=SampleSpec(1, 32), device="gpu9"
        )
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        import_checkpoint("none.chkpt", TILED)


def test_a_unet_with_running_statistics_needs_no_sample(checkpoint):
    network = build_network("unet", {"widths": TINY}, 3, 2)
    spec = ImportSpec(
        NM,
        architecture="unet",
        sections=3,
        classes=("density", "vesicles"),
        normalization=ImageNormalization("standard", 128, 45),
    )
    model = import_checkpoint(checkpoint(network.state_dict()), spec)
    assert (model.architecture, model.sections, model.halo) == ("unet", 3, 160)
    assert model.options == {"widths": list(TINY)}
    assert "conv_in.norm1.running_mean" in model.weights
    with torch.inference_mode():
        image = torch.rand(1, 3, 32, 32)
        torch.testing.assert_close(
            model.network()(image), network.eval()(image), rtol=1e-4, atol=1e-4
        )


def test_a_network_of_ones_own(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "their_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, in_channels, dilation=1, norm=False):\n"
        "        super().__init__()\n"
        "        self.model = nn.Conv2d(in_channels, 1, 3, padding=dilation, dilation=dilation)\n"
        "        self.norm = nn.InstanceNorm2d(1) if norm else nn.BatchNorm2d(1)\n"
        "    def forward(self, x):\n"
        "        return self.norm(self.model(x))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = build_network("their_net:Net", {"dilation": 3}, 3)
    # A number by itself (num_batches_tracked) and a name that begins like a prefix.
    path = checkpoint(network.state_dict())
    spec = ImportSpec(NM, "their_net:Net", {"dilation": 3}, sections=3, tile=(50, 30))
    model = import_checkpoint(path, spec)
    assert (model.halo, model.tile, model.receptive_field.stride) == (3, (50, 30), 1)
    assert model.half().weights["norm.running_var"].dtype == torch.float32
    assert model.parameters == 3 * 9 + 1 + 2
    save_bundle(model, tmp_path / "theirs")
    found = load_bundle(tmp_path / "theirs")
    assert found.digest == model.digest
    assert found.weights["norm.num_batches_tracked"].ndim == 0

    volume = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    grey = torch.from_numpy(np.pad(volume, ((3, 3), (3, 3), (1, 1)), mode="reflect").T / 255.0)
    with torch.inference_mode():
        logits = torch.stack([network.double().eval()(grey[None, z : z + 3]) for z in range(3)])
    expected = 255 * torch.sigmoid(logits[:, 0, 0, 3:-3, 3:-3]).numpy().T
    assert np.abs(detect_whole(volume, found) - expected).max() <= 0.51

    own_norms = build_network("their_net:Net", {"norm": True}, 1).state_dict()
    with pytest.raises(ConfigError, match="sees all that it is given"):
        import_checkpoint(checkpoint(own_norms), ImportSpec(NM, "their_net:Net", {"norm": True}))
    tiled = ImportSpec(NM, "their_net:Net", {"norm": True}, "tile", tile=(40, 40), halo=4)
    assert import_checkpoint(checkpoint(own_norms), tiled).receptive_field.least_halo == 0
