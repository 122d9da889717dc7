import h5py
import numpy as np
import pytest
import tifffile

from cnapse.detection.datasets import load_source
from cnapse.detection.settings import LayerSource, PhantomSource
from cnapse.errors import BoundsError, LayerNotFoundError
from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.0, 50.0)
SHAPE = (40, 24, 5)
KINDS = {"image": np.uint8, "labels": np.uint32, "ignore": np.uint8, "auxiliary": np.uint8}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 4, SHAPE).astype(dtype) for name, dtype in KINDS.items()}


def as_tiff(folder, arrays):
    for name, array in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", array.T)
    return {name: str(folder / f"{name}.tif") for name in arrays}


def as_hdf5(folder, arrays):
    with h5py.File(folder / "all.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["axes"] = "zyx"
    return {name: f"file://{folder}/all.h5:/{name}" for name in arrays}


def as_layers(folder, arrays):
    for name, array in arrays.items():
        box = Box.from_shape(SHAPE, NM)
        writer = create_layer(
            str(folder / name),
            kind="image" if name == "image" else "segmentation",
            dtype=array.dtype,
            bounds=box,
            chunk_size=SHAPE,
        )
        writer.write(array, box)
    return {name: f"file://{folder}/{name}" for name in arrays}


@pytest.mark.parametrize("form", [as_tiff, as_hdf5, as_layers])
def test_all_forms_give_the_same_voxels(form, arrays, tmp_path):
    paths = form(tmp_path, arrays)
    whole = load_source(LayerSource(**paths, auxiliary_range=(2, 3)), NM)
    np.testing.assert_array_equal(whole.image, arrays["image"])
    np.testing.assert_array_equal(whole.labels, arrays["labels"])
    np.testing.assert_array_equal(whole.ignore, arrays["ignore"] > 0)
    np.testing.assert_array_equal(whole.auxiliary, arrays["auxiliary"] >= 2)
    box = {"start": (3, 4, 1), "stop": (35, 20, 4)}
    part = load_source(LayerSource(image=paths["image"], labels=paths["labels"], **box), NM)
    inside = (slice(3, 35), slice(4, 20), slice(1, 4))
    np.testing.assert_array_equal(part.image, arrays["image"][inside])
    np.testing.assert_array_equal(part.labels, arrays["labels"][inside])
    assert part.ignore is None
    assert part.auxiliary is None


def test_forms_mix_but_must_overlap(arrays, tmp_path):
    paths = {**as_tiff(tmp_path, arrays), "labels": as_layers(tmp_path, arrays)["labels"]}
    mixed = load_source(LayerSource(**paths), NM)
    np.testing.assert_array_equal(mixed.labels, arrays["labels"])
    outside = {"start": (0, 0, 0), "stop": (40, 25, 5)}
    with pytest.raises(BoundsError, match="is empty or reaches out of what image and labels"):
        load_source(LayerSource(**paths, **outside), NM)
    with pytest.raises(LayerNotFoundError, match="none"):
        load_source(LayerSource(image=str(tmp_path / "none.tif"), labels=paths["labels"]), NM)
    far = Box.from_shape((4, 4, 4), NM, (100, 100, 100))
    create_layer(
        str(tmp_path / "far"),
        kind="segmentation",
        dtype=np.uint32,
        bounds=far,
        chunk_size=(4, 4, 4),
    ).write(np.ones((4, 4, 4), np.uint32), far)
    with pytest.raises(BoundsError, match=r"image.tif and .*far do not overlap"):
        load_source(LayerSource(image=paths["image"], labels=f"file://{tmp_path}/far"), NM)


def test_phantoms_are_rendered():
    volume = load_source(PhantomSource(shape=(64, 64, 1), seed=3), NM)
    assert volume.image.shape == volume.labels.shape == (64, 64, 1)
    assert volume.image.std() > 0
