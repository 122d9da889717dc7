"""From file or layer to file or layer."""

import itertools

import h5py
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import detect_whole
from cnapse.detection.network import FrozenUNet
from cnapse.detection.outputs import open_output
from cnapse.detection.volume import Options, detect_volume
from cnapse.errors import ConfigError, FormatError, LayerExistsError
from cnapse.geometry import Box
from cnapse.volumes.files import read_volume
from cnapse.volumes.sources import open_source, voxel_size
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.6, 50.0)


def model_of(sections=1, classes=("synapse",)):
    network = FrozenUNet((8, 8, 8), sections, len(classes))
    network.initialize(torch.Generator().manual_seed(7))
    return ModelBundle.of(network, resolution=NM, tile=(64, 64), halo=48, classes=classes)


MODELS = {sections: model_of(sections) for sections in (1, 3)}
IMAGE = np.random.default_rng(0).integers(0, 256, (75, 61, 19), dtype=np.uint8)


def write_tiff(path, image, resolution=NM):
    x, y, z = resolution
    metadata = {"axes": "ZYX", "spacing": z, "unit": "nm"}
    tifffile.imwrite(path, image.T, imagej=True, resolution=(1 / x, 1 / y), metadata=metadata)
    return path


def write_layer(path, image, start=(0, 0, 0)):
    bounds = Box.from_shape(image.shape, NM, start)
    writer = create_layer(path, kind="image", dtype="uint8", bounds=bounds, chunk_size=(64, 64, 8))
    writer.write(image, bounds)
    return path


def predict(source, bounds, model, path, options=None, **more):
    with open_output(path, bounds, model.classes) as output:
        return detect_volume(open_source(source), bounds, model, output, options, **more)


@pytest.mark.parametrize("sections", [1, 3])
@pytest.mark.parametrize("name", ["p.tif", "p.h5", "p"])
def test_files_equal_detection_in_memory(tmp_path, name, sections):
    source = write_tiff(tmp_path / "in.tif", IMAGE)
    bounds = Box.from_shape(IMAGE.shape, NM)
    done = []
    took = predict(source, bounds, MODELS[sections], tmp_path / name, progress=done.append)
    found, box = read_volume(tmp_path / name)
    np.testing.assert_array_equal(found, detect_whole(IMAGE, MODELS[sections]))
    assert box == bounds
    assert took == "eager float32 on cpu"
    assert sum(done) == 19
    # No leftovers beside it.
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", name}


@settings(max_examples=8, deadline=None)
@given(shape=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 20)))
def test_no_pixel_is_left_out(shape, tmp_path_factory):
    """A network that says 1 everywhere: odd sizes have no rim of zeros, as detectEM leaves."""
    folder = tmp_path_factory.mktemp("rim")
    network = FrozenUNet((8, 8, 8))
    network.conv_out.bias.data.fill_(50.0)
    network.conv_out.weight.data.zero_()
    model = ModelBundle.of(network, resolution=NM, halo=48)
    layer = write_layer(folder / "in", np.ones(shape, np.uint8, order="F"))
    predict(layer, Box.from_shape(shape, NM), model, folder / "p.tif", tile=(32, 32))
    found, _ = read_volume(folder / "p.tif")
    assert found.shape == shape
    assert (found == 255).all()


@pytest.mark.parametrize("name", ["p.tif", "p.h5"])
@pytest.mark.parametrize("shape", list(itertools.product((1, 2, 5), repeat=3)))
def test_thin_files_keep_their_axes(shape, name, tmp_path):
    levels = np.arange(np.prod(shape), dtype=np.uint8).reshape(*shape, 1)
    with open_output(tmp_path / name, Box.from_shape(shape, NM), ["synapse"]) as output:
        for z in range(shape[2]):
            section = Box((0, 0, z), (*shape[:2], z + 1), NM)
            output.write(levels[:, :, z : z + 1], section)
    found, box = read_volume(tmp_path / name)
    np.testing.assert_array_equal(found, levels[..., 0])
    assert box.resolution == pytest.approx(NM)


def test_a_layer_keeps_its_place_and_a_mask_counts(tmp_path):
    layer = write_layer(tmp_path / "in", IMAGE, (7, -3, 100))
    mask = np.zeros_like(IMAGE)
    mask[10:30, 5:50, 2:18] = 9
    bounds = Box.from_shape(IMAGE.shape, NM, (7, -3, 100))
    masked = open_source(write_tiff(tmp_path / "mask.tif", mask))
    predict(layer, bounds, MODELS[3], tmp_path / "p", Options(augment="flips"), mask=masked)
    found, box = read_volume(tmp_path / "p")
    assert box == bounds
    plain = detect_whole(IMAGE, MODELS[3], augment="flips")
    np.testing.assert_array_equal(found, np.where(mask > 0, plain, 0))
    predict(layer, bounds, MODELS[1], tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["main"].shape == (19, 61, 75)
        assert file["main"].attrs["offset"].tolist() == [100, -3, 7]
        np.testing.assert_allclose(file["main"].attrs["element_size_um"], [0.05, 0.0046, 0.004])


def test_classes_are_channels(tmp_path):
    model = model_of(1, ("density", "vesicles"))
    image = IMAGE[:, :, :2]
    source = write_tiff(tmp_path / "in.tif", image)
    expected = detect_whole(image, model)
    for name in ("p.tif", "p.h5", "p"):
        predict(source, Box.from_shape(image.shape, NM), model, tmp_path / name)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "p.tif"), expected.transpose(2, 3, 1, 0)
    )
    with h5py.File(tmp_path / "p.h5") as file:
        np.testing.assert_array_equal(file["main"][:], expected.T)
        assert list(file["main"].attrs["classes"]) == ["density", "vesicles"]
    from cloudvolume import CloudVolume

    layer = CloudVolume(f"file://{tmp_path}/p", progress=False)
    np.testing.assert_array_equal(np.asarray(layer[:, :, :]), expected)


@pytest.mark.parametrize("name", ["p.tif", "p.h5", "p"])
def test_what_fails_leaves_nothing_under_the_name(tmp_path, name):
    source = write_tiff(tmp_path / "in.tif", IMAGE)

    def stop(_):
        raise KeyboardInterrupt

    bounds = Box.from_shape(IMAGE.shape, NM)
    with pytest.raises(KeyboardInterrupt):
        predict(source, bounds, MODELS[1], tmp_path / name, progress=stop)
    assert not (tmp_path / name / "info").exists()
    assert not (tmp_path / name).is_file()
    # The same again is not in the way.
    predict(source, bounds, MODELS[1], tmp_path / name)


def test_what_is_there_stays(tmp_path):
    bounds = Box.from_shape(IMAGE.shape, NM)
    source = write_tiff(tmp_path / "in.tif", IMAGE)
    layer = write_layer(tmp_path / "layer", IMAGE)
    for path, message in [(source, "--overwrite"), (layer, "delete it first")]:
        with pytest.raises(LayerExistsError, match=message):
            predict(source, bounds, MODELS[1], path)
    with pytest.raises(ConfigError, match="there is no folder"):
        predict(source, bounds, MODELS[1], tmp_path / "none" / "p.tif")
    with open_output(source, bounds, ("a",), overwrite=True) as output:
        detect_volume(open_source(layer), bounds, MODELS[1], output)
    np.testing.assert_array_equal(read_volume(source)[0], detect_whole(IMAGE, MODELS[1]))


def test_other_images_are_refused(tmp_path):
    bounds = Box.from_shape(IMAGE.shape, NM)
    deep = write_tiff(tmp_path / "deep.tif", IMAGE.astype(np.uint16))
    assert voxel_size(open_source(deep), None) == pytest.approx(NM)
    with pytest.raises(FormatError, match=r"pixels of uint16, detection takes uint8.*--auto-range"):
        predict(deep, bounds, MODELS[1], tmp_path / "p.tif")
    source = write_tiff(tmp_path / "in.tif", IMAGE)
    small = open_source(write_tiff(tmp_path / "small.tif", IMAGE[1:]))
    with pytest.raises(FormatError, match=r"mask .*small.tif has \(74, 61, 19\) voxels"):
        predict(source, bounds, MODELS[1], tmp_path / "p.tif", mask=small)
    assert not (tmp_path / "p.tif").exists()
