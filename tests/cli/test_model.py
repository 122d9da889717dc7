"""`cnapse model`: what it prints, what it leaves, how it fails."""

import json

import numpy as np
import pytest
import tifffile
import torch

from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.network import UNet

NM = ("--resolution", 4, 4, 50)


@pytest.fixture
def checkpoint(tmp_path):
    network = UNet((4, 4, 8, 8, 8))
    network.initialize(torch.Generator().manual_seed(0))
    torch.save({f"model.{k}": v for k, v in network.state_dict().items()}, tmp_path / "m.chkpt")
    return tmp_path / "m.chkpt"


@pytest.fixture
def image(tmp_path):
    grey = np.random.default_rng(0).integers(1, 256, (5, 64, 64), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "em.tif", grey)
    return tmp_path / "em.tif"


def test_import_freezes_on_a_sample(cnapse, checkpoint, image, tmp_path):
    model = tmp_path / "model"
    sample = ("--sample", image, "--windows", 2, "--window-size", 32)
    code, out, err = cnapse("model", "import", checkpoint, "-o", model, *NM, *sample, "--half")
    assert (code, err) == (0, "")
    assert "pooled over 2 windows of" in out
    assert out.endswith(f"model written to {model}\n")
    bundle = load_bundle(model)
    assert bundle.statistics == "frozen"
    assert bundle.weights["conv_in.conv1.weight"].dtype == torch.float16
    code, _, err = cnapse("model", "import", checkpoint, "-o", model, *NM, *sample)
    assert code == 1
    assert "holds a model already: give --overwrite" in err
    again = cnapse("model", "import", checkpoint, "-o", model, *NM, *sample, "--overwrite")
    assert again[0] == 0
    assert load_bundle(model).weights["conv_in.conv1.weight"].dtype == torch.float32


def test_import_as_published(cnapse, checkpoint, tmp_path):
    model = tmp_path / "model"
    options = ("--statistics", "tile", "--name", "detectEM 206000", "--mean", 120, "--std", 30)
    code, out, _ = cnapse("model", "import", checkpoint, "-o", model, *NM, *options)
    assert code == 0
    assert "detectEM 206000" in out
    code, out, _ = cnapse("model", "info", model, "--json")
    told = json.loads(out)
    assert (told["name"], told["tile"], told["halo"]) == ("detectEM 206000", [224, 224], 16)
    assert (told["statistics"], told["receptive_field"], told["stride"]) == ("tile", None, 16)
    assert told["normalization"] == {"kind": "standard", "mean": 120.0, "std": 30.0}
    assert told["provenance"]["checkpoint"] == "m.chkpt"
    assert told["digest"] == load_bundle(model).digest


def test_info_of_the_shipped_model(cnapse):
    code, out, _ = cnapse("model", "info", "phantom")
    assert code == 0
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    told = {name: text.strip() for name, text in lines.items()}
    assert told["architecture"] == ("detectem (U-Net of detectEM: widths [8, 16, 32, 64, 128])")
    assert told["parameters"] == "731,481 (float16)"
    assert told["receptive field"] == (
        "-154 to +169 px; 141 px before and 157 px after a cell of 16 px"
    )
    assert told["tile, halo"] == "1024 x 1024 px, 160 px at each side"
    assert told["input"] == "1 section; grey / 255"
    assert told["output"] == "synapse"
    assert told["resolution"] == "4 x 4 x 50 nm"
    assert told["training data"].startswith("phantom 101, 768 x 768 x 24; phantom 102")
    assert told["training data"].endswith("phantom 201, 640 x 640 x 24 (held out)")
    assert told["score"] == "object F1 0.980, voxel F1 0.944, on what was held out"
    assert told["made by"] == "cnapse train (step 2400; cnapse 0.1.0)"
    told = json.loads(cnapse("model", "info", "phantom", "--json")[1])
    assert told["parameters"] == 731_481
    assert told["receptive_field"]["stride"] == told["stride"] == 16
    assert told["classes"] == ["synapse"]
    assert told["score"]["object_f1"] > 0.97


def test_a_network_of_ones_own(cnapse, tmp_path, monkeypatch):
    (tmp_path / "cli_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Conv2d):\n"
        "    def __init__(self, in_channels, out_channels, reach):\n"
        "        super().__init__(in_channels, out_channels, 1 + 2 * reach, padding=reach)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    weights = {"weight": torch.zeros(2, 3, 5, 5), "bias": torch.zeros(2)}
    torch.save(weights, tmp_path / "net.pt")
    arguments = ("--architecture", "cli_net:Net", "--options", '{"reach": 2}', "--sections", 3)
    classes = ("--class", "density", "--class", "vesicles")
    target = ("model", "import", tmp_path / "net.pt", "-o", tmp_path / "model", *NM)
    code, out, err = cnapse(*target, *arguments, *classes)
    assert (code, err) == (0, "")
    told = json.loads(cnapse("model", "info", tmp_path / "model", "--json")[1])
    assert (told["architecture"], told["options"]) == ("cli_net:Net", {"reach": 2})
    assert (told["sections"], told["classes"]) == (3, ["density", "vesicles"])
    assert (told["parameters"], told["stride"], told["halo"]) == (152, 1, 2)
    assert "3 sections, the middle one predicted" in out
    assert "density, vesicles" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give --sample IMAGE to freeze them on, or --statistics tile"),
        (("--statistics", "tile", "--mean", 3), "give both --mean and --std, or neither"),
        (("--statistics", "tile", "--options", "{"), "--options '{' is no JSON"),
        (("--statistics", "tile", "--options", "[]"), "--options '[]': give a table"),
        (("--statistics", "tile", "--halo", 8), "take a multiple of 16"),
        (("--architecture", "unet3d"), "'unet3d' is not known"),
        (("--architecture", "unet"), "missing: conv_in.norm1.bias"),
        (("--statistics", "tile", "--sections", 3), "instead of (4, 3, 3, 3)"),
    ],
)
def test_mistakes_are_one_line(cnapse, checkpoint, tmp_path, options, message):
    code, out, err = cnapse("model", "import", checkpoint, "-o", tmp_path / "model", *NM, *options)
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "model").exists()
