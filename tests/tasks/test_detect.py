"""The stage `detect`: masks, several classes and tiles; results do not know the blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnapse.config import Config
from cnapse.detection.checkpoint import ModelBundle, save_bundle
from cnapse.detection.inference import detect_whole, shared_tile
from cnapse.detection.registry import build_network
from cnapse.errors import BoundsError, ConfigError, FormatError, LayerExistsError
from cnapse.geometry import Box
from cnapse.runs import open_run
from cnapse.store import Store
from cnapse.tables import read_table
from cnapse.volumes.channels import ChannelsWriter, build_channels, channel_names, create_channels
from cnapse.volumes.reader import Layer, open_layer
from cnapse.volumes.writer import commit_info, create_layer
from cnapse_tasks import detect, label
from cnapse_tasks.run import Run
from cnapse_tasks.stages import components_of, stages_of

NM = (4.0, 4.0, 50.0)
SHAPE = (53, 42, 5)
BOX = Box.from_shape(SHAPE, NM, (13, -21, 4))
CHUNK = (16, 16, 2)
CLASSES = ("vesicles", "density")
BLOCKS = st.sampled_from([(16, 16, 4), (32, 48, 2), (96, 16, 6)])
SLOW = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


def random_model(classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    network = build_network("unet", {"widths": [8, 16]}, 1, len(classes))
    network.initialize(generator)
    with torch.no_grad():
        network.conv_out.weight.mul_(20)
    return ModelBundle.of(network.eval(), resolution=NM, tile=(32, 32), halo=40, classes=classes)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """An image, and models of one and of two classes."""
    folder = tmp_path_factory.mktemp("volume")
    image = np.random.default_rng(3).integers(0, 256, SHAPE, dtype=np.uint8)
    layer = folder / "image"
    create_layer(layer, kind="image", dtype="uint8", bounds=BOX, chunk_size=CHUNK).write(image, BOX)
    for name, classes in (("one", ("synapse",)), ("two", CLASSES)):
        save_bundle(random_model(classes), folder / name)
    return folder, image


def config_of(volume, output, *, model="one", layers=None, detect=None, **changes):
    folder = volume[0]
    values = {
        "output": f"file://{output}",
        "resolution": NM,
        "layers": {"image": f"file://{folder}/image"} | (layers or {}),
        "detect": {"model": f"file://{folder}/{model}"} | (detect or {}),
        "pyramid": {"levels": 1},
    }
    return Config.from_dict(values | changes)


def test_an_image_of_16_bits_is_refused_before_any_task(volume, tmp_path):
    create_layer(
        tmp_path / "deep", kind="image", dtype="uint16", bounds=BOX, chunk_size=CHUNK
    ).write(np.ones(SHAPE, np.uint16), BOX)
    config = config_of(volume, tmp_path / "out", layers={"image": f"file://{tmp_path}/deep"})
    with pytest.raises(FormatError, match=r"deep has pixels of uint16, .* --auto-range`, and give"):
        detect.prepare(Run(config))
    assert not (tmp_path / "out" / "probability").exists()


def detected(config):
    """The stage alone, in this process; shape (x, y, z), or (x, y, z, classes)."""
    run = Run(config)
    detect.prepare(run)
    for index in detect.indices(run):
        detect.execute(run, index)
    classes = len(run.model.classes)
    found = [
        open_layer(f"{config.output}/probability", channel=c).read(BOX) for c in range(classes)
    ]
    return found[0] if classes == 1 else np.stack(found, -1)


@pytest.fixture(scope="module")
def expected(volume):
    """Of each model, from the library."""
    return {
        name: detect_whole(volume[1], random_model(classes))
        for name, classes in (("one", ("synapse",)), ("two", CLASSES))
    }


# --- masks ------------------------------------------------------------------------------------


def inside_of(values, box):
    """Where a mask counts, by votes of voxels that nest in all: the plain way."""
    fine = (2.0, 4.0, 25.0)
    indices, there = [], []
    for axis in range(3):
        parts = round(NM[axis] / fine[axis])
        places = np.arange(BOX.start[axis] * parts, BOX.stop[axis] * parts)
        index = np.floor((places + 0.5) * fine[axis] / box.resolution[axis]).astype(int)
        index -= box.start[axis]
        there.append((index >= 0) & (index < box.shape[axis]))
        indices.append(np.clip(index, 0, box.shape[axis] - 1))
    covered = there[0][:, None, None] & there[1][:, None] & there[2]
    votes = (values[np.ix_(*indices)] != 0) & covered
    nx, ny, nz = SHAPE
    return votes.reshape(nx, 2, ny, 1, nz, 2).mean((1, 3, 5)) > 0.5


def run_here(config):
    """All stages, in this process."""
    run = Run(config)
    for stage in stages_of(run):
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)


@settings(max_examples=12, deadline=None, suppress_health_check=SLOW)
@given(
    resolution=st.sampled_from([(4, 4, 50), (8, 8, 50), (16, 32, 100), (2, 4, 50), (2, 8, 25)]),
    kind=st.sampled_from(["image", "segmentation"]),
    block=BLOCKS,
    tile=st.sampled_from([None, (16, 16), (48, 32)]),
    bounds=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_outside_of_a_mask_there_is_nothing(
    volume, expected, tmp_path_factory, resolution, kind, block, tile, bounds, seed
):
    """The rest is as it was, whatever the blocks, tiles, and voxels of the mask."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("mask")
    # Smaller than the image on one side, larger on the other.
    box = Box((20, -50, 4), (60, 30, 30), NM).at(resolution)
    coarse = rng.random([-(-n // 9) for n in box.shape]) < 0.3
    values = np.kron(coarse, np.ones((9, 9, 9)))[tuple(map(slice, box.shape))].astype(np.uint8)
    values[values > 0] = rng.integers(1, 256, int(values.sum()))
    writer = create_layer(
        folder / "mask", kind=kind, dtype="uint8", bounds=box, chunk_size=(32, 32, 8)
    )
    writer.write(values, box)
    region = {"start": (17, -3, 5), "stop": (60, 14, 8)} if bounds else None
    config = config_of(
        volume,
        folder / "out",
        layers={"mask": str(folder / "mask")},
        detect={"block": block, "tile": tile},
        bounds=region,
    )
    counted = inside_of(values, box)
    if bounds:
        within = np.zeros(SHAPE, bool)
        within[config.bounds_box().slices(BOX)] = True
        counted &= within
    np.testing.assert_array_equal(detected(config), np.where(counted, expected["one"], 0))


def test_what_lies_outside_of_the_mask_is_neither_read_nor_predicted(volume, tmp_path, monkeypatch):
    box = Box.from_shape((32, 32, 2), NM, BOX.start)
    writer = create_layer(
        tmp_path / "mask", kind="segmentation", dtype="uint8", bounds=box, chunk_size=(32, 32, 2)
    )
    writer.write(np.ones(box.shape, np.uint8), box)
    config = config_of(
        volume,
        tmp_path / "out",
        layers={"mask": str(tmp_path / "mask")},
        detect={"block": (32, 32, 2), "tile": (32, 32)},
    )
    read = []
    run = Run(config)
    layer = run.layer("image")
    whole = Layer.read

    def counting(self, box, **options):
        read.append(self.path)
        return whole(self, box, **options)

    monkeypatch.setattr(Layer, "read", counting)
    detect.prepare(run)
    for index in detect.indices(run):
        detect.execute(run, index)
    assert read.count(layer.path) == 1


def test_a_mask_is_part_of_the_record(volume, tmp_path):
    writer = create_layer(
        tmp_path / "mask", kind="image", dtype="uint8", bounds=BOX, chunk_size=CHUNK
    )
    writer.write(np.ones(SHAPE, np.uint8), BOX)

    def key(**mask):
        layers = {"mask": {"path": str(tmp_path / "mask")} | mask} if mask else {}
        return components_of(Run(config_of(volume, tmp_path / "out", layers=layers)))["detect"]

    assert "mask" not in key()
    assert key(version="1")["mask"] != key(version="2")["mask"]


def test_a_mask_elsewhere_is_refused(volume, tmp_path):
    box = Box.from_shape((16, 16, 2), NM, (900, 900, 4))
    create_layer(tmp_path / "mask", kind="image", dtype="uint8", bounds=box, chunk_size=CHUNK)
    config = config_of(volume, tmp_path / "out", layers={"mask": str(tmp_path / "mask")})
    with pytest.raises(BoundsError, match="layers do not overlap: mask"):
        open_run(config).check_overlap()
    given = {"mask": "m", "probability": "p"}
    with pytest.raises(ConfigError, match=r"layers\.mask tells where an image is searched"):
        config_of(volume, tmp_path / "out", layers=given)


# --- several classes --------------------------------------------------------------------------


@settings(max_examples=4, deadline=None, suppress_health_check=SLOW)
@given(
    block=BLOCKS,
    tile=st.sampled_from([None, (16, 16), (48, 32)]),
)  # fmt: skip
def test_classes_are_channels_whatever_the_blocks(volume, expected, tmp_path_factory, block, tile):
    output = tmp_path_factory.mktemp("two") / "out"
    config = config_of(volume, output, model="two", detect={"block": block, "tile": tile})
    np.testing.assert_array_equal(detected(config), expected["two"])
    info = Store(f"{config.output}/probability").get_json("info")
    assert channel_names(info) == CLASSES
    assert info["num_channels"] == 2


@pytest.fixture(scope="module")
def two(volume, tmp_path_factory, fingerprint):
    """A whole run with two classes."""
    config = config_of(volume, tmp_path_factory.mktemp("run") / "out", model="two")
    run_here(config)
    return config, fingerprint(config)


def test_a_run_makes_objects_of_one_class(volume, expected, two, tmp_path, fingerprint):
    """By name or number; of the density if nothing is said."""
    found = open_layer(f"{two[0].output}/synapses", mip=0).read(BOX)
    np.testing.assert_array_equal(found > 0, expected["two"][..., 1] >= 128)
    for number, channel in enumerate(("vesicles", 0)):
        own = config_of(
            volume, tmp_path / str(number), model="two", label={"channel": channel},
            detect={"block": (32, 16, 2)},
        )  # fmt: skip
        run_here(own)
        found = open_layer(f"{own.output}/synapses", mip=0).read(BOX)
        np.testing.assert_array_equal(found > 0, expected["two"][..., 0] >= 128)
        maps = {k: v for k, v in fingerprint(own).items() if k.startswith("probability/")}
        assert maps == {k: v for k, v in two[1].items() if k.startswith("probability/")}


def test_coarser_scales_keep_the_channels(two, expected):
    for channel in range(2):
        half = open_layer(f"{two[0].output}/probability", mip=1, channel=channel)
        values = half.read(Box((6, -11, 4), (22, 5, 9), half.resolution)).astype(float)
        whole = expected["two"][:32, :32, :, channel].astype(float)
        mean = whole.reshape(16, 2, 16, 2, 5).mean((1, 3))
        assert np.abs(values - mean).max() <= 1


def test_the_class_is_part_of_the_records_of_label_and_not_of_detect(volume, tmp_path):
    def keys(**label):
        return components_of(Run(config_of(volume, tmp_path / "out", model="two", label=label)))

    first, other = keys(), keys(channel="vesicles")
    assert first["detect"] == other["detect"]
    assert first["label"]["probability"] == {"channel": 1}
    assert other["label"]["probability"] == {"channel": 0}
    assert keys(channel=1) == first


def test_a_map_of_several_classes_made_elsewhere(volume, expected, tmp_path):
    """With names the density is taken; without, one must be told."""
    for names in (CLASSES, ()):
        path = tmp_path / f"map{len(names)}"
        info = build_channels(BOX, CHUNK, names or ("a", "b"))
        if not names:
            del info["channel_names"]
        commit_info(path, info)
        ChannelsWriter(f"file://{path}", info).write(expected["two"], BOX)
    values = {"output": f"file://{tmp_path}/out", "resolution": NM}

    def run_of(name, **label):
        layers = {"probability": f"file://{tmp_path}/{name}"}
        return Run(Config.from_dict(values | {"layers": layers, "label": label}))

    def taken(run):
        return run.layer("probability").read(BOX)

    np.testing.assert_array_equal(taken(run_of("map2")), expected["two"][..., 1])
    np.testing.assert_array_equal(taken(run_of("map2", channel=0)), expected["two"][..., 0])
    np.testing.assert_array_equal(taken(run_of("map0", channel=1)), expected["two"][..., 1])
    with pytest.raises(ConfigError, match=r"has 2 channels: choose one with label.channel, 0 to 1"):
        taken(run_of("map0"))
    with pytest.raises(ConfigError, match=r"no such channel; it has vesicles, density"):
        label.prepare(run_of("map2", channel="cleft"))
    with pytest.raises(ConfigError, match=r"no such channel; it has numbers 0 to 1"):
        taken(run_of("map0", channel=2))


def test_a_class_that_the_model_does_not_have_is_refused_at_once(volume, tmp_path):
    config = config_of(volume, tmp_path / "a", model="two", label={"channel": "cleft"})
    with pytest.raises(ConfigError, match=r"label.channel = 'cleft': model .*two has no such"):
        detect.prepare(Run(config))
    config = config_of(volume, tmp_path / "b", label={"channel": 1})
    with pytest.raises(ConfigError, match=r"has one channel only: leave label.channel out"):
        detect.prepare(Run(config))
    assert not (tmp_path / "a").exists()


def test_a_layer_with_other_classes_is_not_written_over(tmp_path):
    where = {"bounds": BOX, "chunk_size": CHUNK}
    create_channels(str(tmp_path / "map"), names=CLASSES, **where)
    create_channels(str(tmp_path / "map"), names=CLASSES, **where)
    with pytest.raises(LayerExistsError, match="with other voxels or classes"):
        create_channels(str(tmp_path / "map"), names=("a", "b"), **where)


def test_a_class_of_vesicles_tells_the_presynaptic_side(tissue, tmp_path):
    """As a layer of its own would, in a run on clefts."""
    vesicles = np.where(tissue.cells % 3 == 0, 255, 0).astype(np.uint8) * (tissue.cells > 0)
    both = np.stack([tissue.probability, vesicles.astype(np.uint8)], -1)
    info = build_channels(tissue.box, (32, 32, 4), ("density", "vesicles"))
    commit_info(tmp_path / "both", info)
    ChannelsWriter(f"file://{tmp_path}/both", info).write(both, tissue.box)
    create_layer(
        tmp_path / "vesicles",
        kind="image",
        dtype="uint8",
        bounds=tissue.box,
        chunk_size=(32, 32, 4),
    ).write(both[..., 1], tissue.box)
    cells = {"cells": f"file://{tissue.folder}/cells"}
    tables = []
    for name, layers in {
        "own": {"probability": f"file://{tmp_path}/both"},
        "given": {
            "probability": f"file://{tissue.folder}/probability",
            "vesicles": f"file://{tmp_path}/vesicles",
        },
    }.items():
        config = tissue.config(tmp_path / name, layers=cells | layers, assign={"density": "cleft"})
        run_here(config)
        tables.append(read_table(f"{config.output}/tables/synapses"))
    assert tables[0]["pre_id"].nunique() > 3
    assert tables[0].equals(tables[1])


# --- tiles and blocks -------------------------------------------------------------------------


def test_blocks_are_whole_tiles_and_few(volume, tmp_path):
    def block(shape, chunk, tile, **changes):
        run = Run(config_of(volume, tmp_path / "out", **changes))
        run.model = replace(random_model(("synapse",)), tile=(tile, tile))
        run.frame = Box.from_shape(shape, NM)
        run.chunk = chunk
        return run.tiled_model.tile, run.grid("detect").block_shape

    # A volume of one tile, and of a few: they share it, in whole chunks.
    assert block((600, 500, 40), (128, 128, 16), 1024) == ((600, 500), (640, 512, 16))
    assert block((1100, 500, 40), (128, 128, 16), 1024) == ((640, 500), (640, 512, 16))
    assert block((9000, 9000, 40), (64, 64, 1), 1024) == ((1024, 1024), (1024, 1024, 16))
    # Chunks larger than a tile, or that never meet with tiles.
    assert block((9000, 9000, 40), (2048, 2048, 4), 512) == ((512, 512), (2048, 2048, 16))
    own = {"tile": (1040, 1040)}
    assert block((9000, 9000, 40), (128, 128, 8), 512, detect=own)[1] == (8320, 8320, 16)
    own = {"tile": (1042, 1042)}
    assert block((99000, 9000, 40), (128, 128, 8), 512, detect=own)[1] == (1152, 1152, 16)
    # What is asked for grows to whole tiles, so that none is predicted twice.
    assert block((9000, 9000, 40), (64, 64, 8), 1024, block=(512, 2112, 8))[1] == (1024, 3072, 8)
    with pytest.raises(ConfigError, match=r"use \[512, 512, 16\]"):
        block((9000, 9000, 40), (64, 64, 8), 1024, detect={"block": (500, 500, 9)})


@settings(deadline=None)
@given(
    size=st.integers(1, 3000),
    chunk=st.sampled_from([16, 24, 64, 100, 512, 2048]),
    most=st.sampled_from([64, 512, 1024]),
)
def test_tiles_share_a_volume(size, chunk, most):
    model = replace(random_model(("synapse",)), tile=(most, most))
    tile, _ = shared_tile(model, Box.from_shape((size, 9, 9), NM), (chunk, 16, 1))
    assert tile <= most
    assert tile % model.receptive_field.stride == 0
    many = -(-size // tile)
    assert many == 1 or tile % chunk == 0 or np.lcm(chunk, 2) > most
    if most % np.lcm(chunk, 2) == 0:
        assert many == -(-size // most)  # no more tiles than of the model's size
        assert (many - 1) * tile < size
