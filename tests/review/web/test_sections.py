"""Sections of anisotropic layers with coarser scales: what is read, and how much."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from cloudvolume import CloudVolume
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.geometry import Box
from cnapse.review.web.blocks import HeldBlocks
from cnapse.review.web.sections import Raster, Sections
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer

BOX = Box.from_shape((200, 160, 6), (8, 4, 50), (-3, 5, 2))


@dataclass
class Layers:
    """As much of a run as pictures need."""

    paths: dict[str, str]
    opened: dict = field(default_factory=dict)

    def given(self, name):
        return self.paths.get(name)

    def layer(self, name):
        return open_layer(self.paths[name])


def write(folder, name, array, *, scales=()) -> str:
    kind = "image" if name == "image" else "segmentation"
    writer = create_layer(
        folder / name, kind=kind, dtype=array.dtype, bounds=BOX, chunk_size=(64, 64, 2)
    )
    writer.write(array, BOX)
    for factor in scales:
        volume = CloudVolume(f"file://{folder / name}", progress=False)
        volume.add_scale(factor, chunk_size=(32, 32, 2))
        volume.commit_info()
        coarse = CloudVolume(f"file://{folder / name}", mip=len(volume.scales) - 1, progress=False)
        sampled = array[:: factor[0], :: factor[1], :: factor[2]]
        coarse[coarse.bounds] = sampled[tuple(slice(n) for n in coarse.bounds.size3())]
    return str(folder / name)


@pytest.fixture(scope="module")
def arrays():
    x, y, z = np.indices(BOX.shape)
    return {
        # A ramp: what is read of it tells where.
        "image": (x + z).astype(np.uint8),
        "synapses": (1 + x // 20 + 100 * (y // 20) + 10_000 * z).astype(np.uint64),
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory, arrays) -> Layers:
    folder = tmp_path_factory.mktemp("plain")
    return Layers({name: write(folder, name, array) for name, array in arrays.items()})


@pytest.fixture(scope="module")
def scaled(tmp_path_factory, arrays) -> Layers:
    folder = tmp_path_factory.mktemp("scaled")
    scales = [(2, 2, 1), (4, 4, 1), (8, 16, 1), (16, 16, 4)]
    return Layers(
        {name: write(folder, name, array, scales=scales) for name, array in arrays.items()}
    )


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-100, 1700), st.floats(-50, 800), st.floats(90, 410), st.integers(16, 60),
    st.floats(100, 4000),
)  # fmt: skip
def test_labels_of_an_anisotropic_volume(plain, arrays, x, y, z, size, span) -> None:
    raster = Raster((x, y, z), size, span)
    ids, index = Sections(plain).labels("synapses", raster)
    found = np.concatenate([np.zeros(1, np.uint64), ids])[index]
    expected = np.zeros((size, size), np.uint64)
    k = int(np.floor(z / 50)) - 2
    for row, v in enumerate(np.floor(raster.centres_nm(1) / 4).astype(int) - 5):
        for column, u in enumerate(np.floor(raster.centres_nm(0) / 8).astype(int) + 3):
            if 0 <= u < 200 and 0 <= v < 160 and 0 <= k < 6:
                expected[row, column] = arrays["synapses"][u, v, k]
    assert np.array_equal(found, expected)


def read_at(monkeypatch) -> list:
    """Resolution and number of voxels of each section that is put together."""
    asked, section = [], HeldBlocks.section

    def told(self, x, y, z):
        asked.append((self.layer.resolution, len(x) * len(y)))
        return section(self, x, y, z)

    monkeypatch.setattr(HeldBlocks, "section", told)
    return asked


@pytest.mark.parametrize(
    ("pixel_nm", "expected"),
    [(4, (8, 4, 50)), (15, (8, 4, 50)), (16, (16, 8, 50)), (63, (32, 16, 50)),
     (64, (64, 64, 50)), (150, (64, 64, 50))],
)  # fmt: skip
def test_the_coarsest_scale_with_a_voxel_for_each_pixel(
    scaled, monkeypatch, pixel_nm, expected
) -> None:
    asked = read_at(monkeypatch)
    raster = Raster((500.0, 300.0, 160.0), 32, 32 * pixel_nm)
    Sections(scaled).outlined(raster, 1)
    Sections(scaled).labels("synapses", raster)
    # Of 200 nm are sections of several sections together.
    assert [resolution for resolution, _ in asked] == [expected] * 3


def test_a_wide_picture_without_coarser_scales_takes_little(plain, monkeypatch) -> None:
    asked = read_at(monkeypatch)
    raster = Raster((500.0, 300.0, 160.0), 64, 20_000)
    picture = Sections(plain).outlined(raster, 1)
    Sections(plain).labels("synapses", raster)
    assert all(n <= (4 * 64 + 8) ** 2 * 2 for _, n in asked)
    # The volume is 1600 x 640 nm of the 20,000: 5 x 2 pixels, and a rim of two.
    inside = (picture != 24).any(axis=2)
    assert 5 * 2 <= inside.sum() <= 9 * 6


def test_scales_show_the_same_place(plain, scaled) -> None:
    """The ramp along x: what is grey is the place, whatever is read."""
    for pixel_nm in (8, 16, 32):
        raster = Raster((800.0, 320.0, 160.0), 16, 16 * pixel_nm)
        first, second = (Sections(one).em(raster).astype(int) for one in (plain, scaled))
        assert np.abs(first - second).max() <= 6
