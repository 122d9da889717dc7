"""cnapse.toml: what is read, and one line for each mistake."""

import pytest

from cnapse.config import load_config
from cnapse.errors import CnapseError, ConfigError, LayerNotFoundError

GOOD = """
output = "out"
resolution = [4.6, 4.6, 50]
[layers]
image = "data/image"
cells = { path = "gs://bucket/cells", version = "2", fill_missing = true }
[detect]
model = "phantom"
"""


def write(tmp_path, text):
    path = tmp_path / "cnapse.toml"
    path.write_text(text)
    return path


def test_paths_count_from_the_folder_of_the_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    config = load_config(write(tmp_path, GOOD))
    assert config.output == f"file://{tmp_path}/out"
    assert config.layers.image is not None
    assert config.layers.image.path == f"file://{tmp_path}/data/image"
    assert config.layers.cells is not None
    assert config.layers.cells.path == "gs://bucket/cells"
    assert config.layers.cells.fill_missing
    assert config.resolution == (4.6, 4.6, 50)
    assert config.detect.model == "phantom"
    assert config.names == ""


def test_a_model_beside_the_file_is_a_folder(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    config = load_config(write(tmp_path, GOOD.replace('"phantom"', '"mine"')))
    assert config.detect.model == f"file://{tmp_path}/mine"


def test_a_stage_has_its_own_block_or_the_common_one(tmp_path) -> None:
    text = GOOD.replace("[layers]", "block = [64, 64, 8]\n[layers]") + "block = [32, 32, 8]\n"
    config = load_config(write(tmp_path, text))
    assert config.block_of("detect") == (32, 32, 8)
    assert config.block_of("label") == (64, 64, 8)


def test_a_mask_goes_with_an_image(tmp_path) -> None:
    text = GOOD.replace('image = "data/image"', 'image = "i"\nmask = "m"')
    mask = load_config(write(tmp_path, text)).layers.mask
    assert mask is not None
    assert mask.path.endswith("/m")


def test_a_configuration_survives_json(tmp_path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert type(config).from_dict(config.model_dump(mode="json")) == config


MISTAKES = {
    "unknown key": (("[detect]", "[detect]\nmodle = 'x'"), "unknown key 'detect.modle'.*'model'"),
    "unknown section": (("[detect]", "[detct]"), "unknown key 'detct'; did you mean 'detect'"),
    "micrometres": (
        ("[4.6, 4.6, 50]", "[0.0046, 0.0046, 0.05]"),
        r"resolution: \[0.0046, 0.0046, 0.05\] looks like micrometres: give nm, \[4.6, 4.6, 50\]",
    ),
    "negative size": (("[4.6, 4.6, 50]", "[4, 4, -50]"), "must be positive"),
    "no size": (("[4.6, 4.6, 50]", "[4, 0, 50]"), r"must be positive, not \[4.0, 0.0, 50.0\]"),
    "a mask of no image": (
        ('image = "data/image"', 'mask = "m"\nprobability = "p"'),
        "layers.mask tells where an image is searched",
    ),
    "a mask and labels": (
        ('image = "data/image"', 'image = "i"\nmask = "m"\nsynapses = "s"'),
        "layers.mask tells where an image is searched",
    ),
    "vesicles for nothing": (
        ('image = "data/image"', 'image = "i"\nvesicles = "v"'),
        "layers.vesicles and layers.direction tell the presynaptic side",
    ),
    "two numbers": (("[4.6, 4.6, 50]", "[4, 4]"), "resolution"),
    "no output": (('output = "out"', ""), "key 'output' is missing"),
    "no model": (('model = "phantom"', ""), "detect.model is missing.*phantom.*layers.probability"),
    "no layer": (('image = "data/image"', ""), "at least one of image, probability and synapses"),
    "wrong connectivity": (("[detect]", "[label]\nconnectivity = 8\n[detect]"), "connectivity = 8"),
    "threshold": (("[detect]", "[label]\nthreshold = 128\n[detect]"), "threshold = 128"),
    "bounds": (
        ("[layers]", "bounds = { start = [0, 0, 9], stop = [5, 5, 5] }\n[layers]"),
        "bounds: start .* must be below stop",
    ),
    "not TOML": (("[layers]", "[layers"), "not valid TOML"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(tmp_path, change, message) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_such_file(tmp_path) -> None:
    with pytest.raises(LayerNotFoundError, match="no such configuration file") as caught:
        load_config(tmp_path / "cnapse.toml")
    assert isinstance(caught.value, CnapseError)
    assert isinstance(caught.value, FileNotFoundError)
