import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnapse.detection import checkpoint
from cnapse.detection.checkpoint import ModelBundle, load_bundle, load_checkpoint, save_bundle
from cnapse.detection.network import UNet
from cnapse.detection.normalization import ImageNormalization
from cnapse.detection.registry import build_network
from cnapse.errors import CheckpointError, ConfigError

TINY = (4, 4, 8, 8, 8)


@pytest.fixture
def network():
    made = UNet(TINY)
    made.initialize(torch.Generator().manual_seed(1))
    return made


@pytest.fixture
def bundle(network):
    sample = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    tile = ModelBundle.of(
        network,
        resolution=(4, 4, 50),
        normalization=ImageNormalization("standard", 120, 30),
        tile=(64, 32),
        provenance={"from": "a test"},
    )
    return tile.frozen([sample])


@pytest.mark.parametrize("half", [False, True])
def test_a_bundle_comes_back_as_it_was(bundle, tmp_path, half):
    bundle = bundle.half() if half else bundle
    save_bundle(bundle, tmp_path / "model")
    found = load_bundle(f"file://{tmp_path}/model")
    assert found.digest == bundle.digest
    assert found.to_dict() == bundle.to_dict()
    assert found.weights["conv_in.conv1.weight"].dtype == (torch.float16 if half else torch.float32)
    for name, value in found.network().state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, bundle.weights[name].float())


def test_the_digest_changes_with_everything(bundle):
    nudged = {k: v.clone() for k, v in bundle.weights.items()}
    nudged["conv_out.bias"] += 1
    others = [
        replace(bundle, weights=nudged),
        replace(bundle, resolution=(4, 4, 40)),
        replace(bundle, tile=(32, 64)),
        replace(bundle, halo=176),
        replace(bundle, normalization=ImageNormalization()),
        replace(bundle, provenance={}),
        bundle.half(),
    ]
    assert len({bundle.digest, *(other.digest for other in others)}) == len(others) + 1
    assert replace(bundle).digest == bundle.digest


@pytest.mark.parametrize("name", ["detectem", "detectem-frozen", "unet"])
@pytest.mark.parametrize(("sections", "classes"), [(1, ("synapse",)), (3, ("cleft", "vesicles"))])
def test_networks_of_all_kinds_come_back(name, sections, classes, tmp_path):
    network = build_network(name, {"widths": [4, 8, 8]}, sections, len(classes))
    network.initialize(torch.Generator().manual_seed(2))
    made = ModelBundle.of(network, resolution=(4, 4, 50), classes=classes, tile=(64, 32))
    save_bundle(made, tmp_path / "model")
    found = load_bundle(tmp_path / "model")
    assert (found.sections, found.classes) == (sections, classes)
    assert found.options == {"widths": [4, 8, 8]}
    assert (found.statistics, found.receptive_field.stride) == (made.statistics, 4)
    assert found.digest == made.digest
    image = torch.rand(1, sections, 16, 24)
    with torch.inference_mode():
        logits = found.network()(image)
        assert logits.shape == (1, len(classes), 16, 24)
        torch.testing.assert_close(logits, network.eval()(image), rtol=1e-4, atol=1e-4)


def test_a_bundle_of_the_first_kind_stays_as_it_was_written():
    """Its keys and its digest: what was not there before is not there now."""
    phantom = load_bundle("phantom")
    assert set(phantom.to_dict()) == {
        "architecture", "format", "halo", "normalization", "provenance", "receptive_field",
        "resolution", "statistics", "tile", "widths",
    }  # fmt: skip
    assert phantom.to_dict()["architecture"] == "unet2d-frozen"
    assert phantom.digest == "d765f637bf3ea2764ed41758ed614ec268e8eb3d0237e1bb10dd33e1a1d7a38f"
    assert (phantom.architecture, phantom.sections, phantom.classes) == (
        "detectem",
        1,
        ("synapse",),
    )


def test_running_statistics_stay_exact_in_a_bundle_of_half_the_size():
    network = build_network("unet", {"widths": [4, 8]})
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.fill_(1e-9)
        if name.endswith("running_mean"):
            value.fill_(1e9)
    half = ModelBundle.of(network, resolution=(4, 4, 50)).half()
    assert half.weights["conv_in.conv1.weight"].dtype == torch.float16
    assert half.weights["conv_in.norm1.weight"].dtype == torch.float16
    for name in ("running_var", "running_mean", "num_batches_tracked"):
        key = f"conv_in.norm1.{name}"
        assert torch.equal(half.weights[key], network.state_dict()[key])


def test_damaged_bundles_are_refused(bundle, tmp_path):
    save_bundle(bundle, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**described, "halo": 176}))
    with pytest.raises(CheckpointError, match="do not belong together, or were edited"):
        load_bundle(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**described, "format": 9}))
    with pytest.raises(CheckpointError, match=r"format 9 of a bundle is not known"):
        load_bundle(tmp_path)
    del described["tile"]
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"model.json is damaged: 'tile'"):
        load_bundle(tmp_path)
    (tmp_path / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"is not a model bundle \(it has no model.json\)"):
        load_bundle(tmp_path)


def test_a_bundle_without_weights_is_not_whole(bundle, tmp_path):
    save_bundle(bundle, tmp_path)
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"weights.safetensors is damaged \(.*copy it again"):
        load_bundle(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not whole: weights.safetensors is missing"):
        load_bundle(tmp_path)


def test_shipped_models_go_by_name(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_models_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match=r"'phantom' is neither .* shipped: none"):
        load_bundle("phantom")
    save_bundle(bundle, tmp_path / "phantom")
    assert load_bundle("phantom").digest == bundle.digest
    with pytest.raises(CheckpointError, match=r"'fantom' .* shipped: phantom$"):
        load_bundle("fantom")


def test_bundles_that_cannot_be_run_are_refused(bundle, network):
    with pytest.raises(ConfigError, match="a halo of 144 px does not cover"):
        replace(bundle, halo=144)
    with pytest.raises(ConfigError, match="multiple of 16 px"):
        replace(bundle, tile=(40, 32))
    with pytest.raises(ConfigError, match='"frozen" or "tile", not \'batch\''):
        replace(bundle, statistics="batch")
    with pytest.raises(ConfigError, match="frozen already"):
        bundle.frozen([])
    for change, message in [
        ({"sections": 2}, "sections = 2: give an odd number"),
        ({"classes": ()}, r"classes = \[\]: give each output a name of its own"),
        ({"classes": ("a", "a")}, "give each output a name of its own"),
        ({"architecture": "unet3d"}, "'unet3d' is not known"),
        ({"architecture": "unet", "statistics": "tile"}, "has running statistics"),
        ({"options": {"depth": 5}}, "has no option 'depth'; it has: widths"),
    ]:
        with pytest.raises(ConfigError, match=message):
            replace(bundle, **change)
    for change in ({"sections": 3}, {"classes": ("density", "vesicles")}, {"architecture": "unet"}):
        with pytest.raises(CheckpointError, match="do not fit the network; "):
            replace(bundle, **change)
    # Statistics of a tile reach over all of it: any halo will do.
    ModelBundle.of(network, resolution=(4, 4, 50), halo=32)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.module."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_checkpoints_of_detectem_are_loaded(network, tmp_path, prefix, dtype):
    state = {prefix + name: value.to(dtype) for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "model.chkpt")
    found = load_checkpoint(tmp_path / "model.chkpt")
    assert found.widths == TINY
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value.to(dtype).float())


def test_wrong_keys_are_all_named_in_one_line(network, tmp_path):
    state = network.state_dict()
    del state["uconv2.norm.bias"], state["conv_out.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["conv_out.weight"] = torch.zeros(2, 4, 3, 3)
    torch.save(state, tmp_path / "model.chkpt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "model.chkpt")
    message = str(caught.value)
    assert "missing: conv_out.bias, uconv2.norm.bias; unexpected: extra.weight" in message
    assert "conv_out.weight (2, 4, 3, 3) instead of (1, 4, 3, 3)" in message
    assert "\n" not in message


class _Evil:
    def __reduce__(self):
        return (eval, ("1 + 1",))


def test_nothing_but_tensors_is_unpickled(tmp_path):
    path = tmp_path / "model.chkpt"
    torch.save({"conv_in.conv1.weight": _Evil()}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint of weights alone"):
        load_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is not a checkpoint of weights alone"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds no state dict of tensors"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        load_checkpoint(tmp_path / "none.chkpt")


def test_a_folder_of_another_kind_does_not_hide_a_shipped_model(tmp_path, monkeypatch) -> None:
    (tmp_path / "phantom").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_bundle("phantom").digest
    (tmp_path / "phantom" / "model.json").write_text("{}")
    with pytest.raises(CheckpointError):
        load_bundle("phantom")
