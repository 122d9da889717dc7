import numpy as np
import pytest
import tifffile

from cnapse.detection.sampling import SampleSpec, sample_sections
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box
from cnapse.volumes.writer import create_layer

NM = (4.0, 4.0, 50.0)


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(1, 256, (150, 90, 12), dtype=np.uint8)


def layer(path, volume, offset=(0, 0, 0)):
    bounds = Box.from_shape(volume.shape, NM, offset)
    writer = create_layer(path, kind="image", dtype=volume.dtype, bounds=bounds, chunk_size=64)
    writer.write(volume, bounds)
    return path


def test_windows_are_the_mirrored_volume(volume, tmp_path):
    offset = (100, -20, 7)
    path = layer(tmp_path / "em", volume, offset)
    spec = SampleSpec(count=4, size=64, seed=5)
    sample = sample_sections(path, NM, spec, margin=32, sections=3)
    # 12 sections in 4 parts of 3: the middle of each.
    assert [z - offset[2] for _, _, z in sample.starts] == [1, 4, 7, 10]
    padded = np.pad(volume, 200, mode="reflect")
    for window, start in zip(sample.windows, sample.starts, strict=True):
        x, y, z = (a - b + 200 for a, b in zip(start, offset, strict=True))
        expected = padded[x - 32 : x + 96, y - 32 : y + 96, z - 1 : z + 2]
        np.testing.assert_array_equal(window, expected)
    assert len({start[:2] for start in sample.starts}) == 4


def test_a_file_gives_what_a_layer_gives(volume, tmp_path):
    tifffile.imwrite(tmp_path / "em.tif", volume.T)
    spec = SampleSpec(count=3, size=48, seed=1)
    samples = [
        sample_sections(path, NM, spec, margin=16)
        for path in (tmp_path / "em.tif", layer(tmp_path / "em", volume))
    ]
    assert samples[0].starts == samples[1].starts
    for one, other in zip(samples[0].windows, samples[1].windows, strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_volumes_are_mirrored_out_to_the_stride(tmp_path):
    small = np.full((20, 5, 1), 9, np.uint8)
    sample = sample_sections(layer(tmp_path / "em", small), NM, SampleSpec(2), margin=160)
    assert {window.shape for window in sample.windows} == {(32 + 320, 16 + 320, 1)}
    assert all((window == 9).all() for window in sample.windows)


def test_black_places_are_passed_over(volume, tmp_path):
    volume[70:] = 0
    spec = SampleSpec(count=12, size=32, seed=0)
    sample = sample_sections(layer(tmp_path / "em", volume), NM, spec, margin=0)
    assert 6 <= len(sample.windows) <= 12
    assert min(np.count_nonzero(window) for window in sample.windows) >= 32 * 32 / 2
    with pytest.raises(FormatError, match=r"is black \(0\) at 8 places: nothing to sample"):
        sample_sections(layer(tmp_path / "no", volume * 0), NM, SampleSpec(2, 32), margin=0)


def test_what_cannot_be_sampled_is_refused(volume, tmp_path):
    path = layer(tmp_path / "em", volume.astype(np.uint16))
    with pytest.raises(FormatError, match="is uint16: detection needs an uint8 image"):
        sample_sections(path, NM, SampleSpec(1, 32), margin=0)
    with pytest.raises(ConfigError, match="0 windows of 512 px: give at least one of each"):
        SampleSpec(0)
