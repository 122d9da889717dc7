import re
from pathlib import Path

import pytest

from cnapse.detection.augment import AUGMENTATIONS
from cnapse.detection.settings import (
    AverageSection,
    LayerSource,
    LossSection,
    TrainConfig,
    load_train_config,
)
from cnapse.errors import ConfigError, LayerNotFoundError

ROOT = Path(__file__).parents[2]
SOURCE = {"image": "em", "labels": "drawn"}


def made(**changes):
    values = {"output": "model", "resolution": (4, 4, 50), "layers": [SOURCE], **changes}
    return TrainConfig.from_dict(values)


def test_a_file_is_read_and_its_paths_count_from_its_folder(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text(
        'output = "model"\nresolution = [4, 4, 50]\nwidths = [4, 4, 8, 8, 8]\n'
        'start_from = "a.chkpt"\n[loss]\nbce = 1\n[average]\nkind = "late"\n'
        '[[layers]]\nimage = "em.h5:/main"\nlabels = "gs://b/l"\nignore = "mask.tif"\n'
        "[[phantom]]\nshape = [64, 64, 2]\nseed = 7\n"
    )
    config = load_train_config(path)
    assert config.output == str(tmp_path / "model")
    assert config.start_from == str(tmp_path / "a.chkpt")
    assert config.layers[0].image == f"file://{tmp_path}/em.h5:/main"
    assert config.layers[0].labels == "gs://b/l"
    assert config.layers[0].ignore == f"file://{tmp_path}/mask.tif"
    assert config.layers[0].auxiliary == ""
    assert config.phantom[0].seed == 7
    assert (config.loss.bce, config.loss.dice, config.average.kind) == (1, 0.5, "late")
    assert [type(source).__name__ for source in config.sources] == ["LayerSource", "PhantomSource"]
    with pytest.raises(LayerNotFoundError, match="no such training file"):
        load_train_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 5}, "unknown key 'step'; did you mean 'steps'?"),
        ({"layers": []}, r"give at least one \[\[layers\]\] or \[\[phantom\]\] to train on"),
        (
            {"layers": [{**SOURCE, "validation": True}]},
            r"give at least one \[\[layers\]\] or \[\[phantom\]\] to train on",
        ),
        ({"augment": {"blurr": 1}}, "augment.blurr is not known; there are: flip"),
        ({"augment": {"blur": 2}}, "augment.blur = 2: input should be less than or equal to 1"),
        ({"patch": 40}, "patch = 40"),
        ({"widths": (4, 4)}, "widths"),
        ({"finetune_frozen_steps": 5000}, "finetune_frozen_steps is more than steps"),
        ({"phantom": [{"shape": (1, 1, 1), "sed": 1}]}, "unknown key 'phantom.0.sed'"),
        ({"sections": 2}, "sections = 2: give an odd number, one in the middle"),
        ({"loss": {"bce": 0, "dice": 0}}, "loss: bce and dice are both 0: there is nothing to"),
        ({"average": {"kind": "ema"}}, "average.kind = 'ema'"),
        ({"patience": 2}, "patience needs a source with validation = true"),
        (
            {"layers": [SOURCE, {**SOURCE, "auxiliary": "m"}]},
            r"give auxiliary for all \[\[layers\]\] to train on, or for none",
        ),
        (
            {"layers": [{**SOURCE, "auxiliary_range": (9, 1)}]},
            r"auxiliary_range = \[9, 1\]: give first, last",
        ),
        ({"layers": [{**SOURCE, "start": (0, 0, 0)}]}, "give both start and stop of the box"),
    ],
)
def test_mistakes_are_one_line(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made(**change)
    assert "\n" not in str(caught.value)


def test_an_auxiliary_target_of_what_is_held_out_is_none():
    helped = {**SOURCE, "auxiliary": "m"}
    assert made(layers=[helped, {**SOURCE, "validation": True}]).has_auxiliary
    assert not made(layers=[SOURCE, {**helped, "validation": True}]).has_auxiliary


@pytest.mark.parametrize("name", ["train_phantom", "train_vnc"])
def test_the_recipes_are_valid(name):
    config = load_train_config(ROOT / "benchmarks" / f"{name}.toml")
    assert config.output == str(ROOT / "benchmarks" / ".." / "build" / name)


def test_vnc_is_split_by_y_and_judged_without_a_choice():
    config = load_train_config(ROOT / "benchmarks" / "train_vnc.toml")
    learned, judged = config.layers
    assert judged.start[1] - learned.stop[1] >= 32
    assert judged.validation
    assert config.keep == "last"


def test_the_docs_say_what_is_there(tmp_path):
    text = (ROOT / "docs" / "training.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "train.toml").write_text(example)
    assert len(load_train_config(tmp_path / "train.toml").layers) == 3
    for section in (TrainConfig, LayerSource, LossSection, AverageSection):
        for key in section.model_fields:
            assert re.search(rf"`\[*{key}\]*`|^{key} =|\b{key} = ", text, re.MULTILINE), key
    for name in AUGMENTATIONS:
        assert f"`{name}`" in text
