"""The phantom: a function of place, and true."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import BoundsError, ConfigError
from cnapse.geometry import Box
from cnapse.phantom import Phantom, PhantomSpec

SPEC = PhantomSpec((300, 280, 20), seed=4, voxel_offset=(900, -200, 30))


@pytest.fixture(scope="module")
def made():
    phantom = Phantom(SPEC)
    return phantom, phantom.render(SPEC.bounds)


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_a_box_on_its_own_equals_the_whole(made, data) -> None:
    _, whole = made
    start = data.draw(st.tuples(*[st.integers(0, n - 1) for n in SPEC.shape]))
    stop = [
        data.draw(st.integers(a + 1, min(n, a + size)))
        for a, n, size in zip(start, SPEC.shape, (90, 90, 4), strict=True)
    ]
    box = Box(start, stop, SPEC.resolution).translated(SPEC.voxel_offset)
    alone = Phantom(SPEC).render(box)
    for name, array in alone.items():
        np.testing.assert_array_equal(array, whole[name][box.slices(SPEC.bounds)], err_msg=name)


def test_a_seed_is_a_tissue(made) -> None:
    box = Box.from_shape((64, 64, 2), SPEC.resolution, (1000, -100, 35))
    same = Phantom(SPEC).render(box)["image"]
    np.testing.assert_array_equal(made[1]["image"][box.slices(SPEC.bounds)], same)
    other = Phantom(PhantomSpec(SPEC.shape, seed=5, voxel_offset=SPEC.voxel_offset)).render(box)
    assert (other["image"] != same).mean() > 0.5


def test_objects_are_whole_apart_and_named_by_their_first_voxel(made) -> None:
    phantom, arrays = made
    densities = arrays["densities"]
    labels, n = cc3d.connected_components(densities > 0, connectivity=26, return_N=True)
    synapses, _ = phantom.truth()
    assert n == len(synapses) >= 3
    for label in range(1, n + 1):
        (syn_id,) = np.unique(densities[labels == label])
        assert syn_id == np.flatnonzero((labels == label).ravel("F"))[0] + 1
    ids, counts = np.unique(densities[densities > 0], return_counts=True)
    np.testing.assert_array_equal(ids, synapses["syn_id"])
    np.testing.assert_array_equal(counts, synapses["voxels"])


def test_a_density_lies_in_its_presynaptic_cell(made) -> None:
    phantom, arrays = made
    for row in phantom.truth()[0].itertuples():
        under = arrays["cells"][arrays["densities"] == row.syn_id]
        assert set(under.tolist()) == {row.pre_id}


def test_the_truth_table(made) -> None:
    synapses, partners = made[0].truth()
    grouped = partners.groupby("syn_id")
    np.testing.assert_allclose(grouped["share"].sum(), 1)
    assert (grouped.size().to_numpy() == synapses["n_partners"].to_numpy()).all()
    assert (partners["contact_nm2"] > 0).all()
    assert (partners["pre_id"] != partners["post_id"]).all()
    cells = set(np.unique(made[1]["cells"]).tolist())
    assert set(partners["post_id"].tolist()) <= cells


def test_partners_touch_the_density(made) -> None:
    """An independent look: every partner is found straight across the gap from the density."""
    phantom, arrays = made
    reach = 9
    for synapse in phantom.synapses():
        near = synapse.box.grown((reach, reach, 0)).clamped(SPEC.bounds)
        mask = np.zeros(near.shape, bool)
        mask[synapse.box.slices(near)] = synapse.mask
        grown = mask.copy()
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                grown |= np.roll(mask, (dx, dy), (0, 1))
        seen = set(np.unique(arrays["cells"][near.slices(SPEC.bounds)][grown]).tolist())
        assert seen - {0, synapse.pre_id} == set(synapse.contact_nm2)


def test_neurites_run_through_many_sections_and_fill_the_plane(made) -> None:
    cells = made[1]["cells"]
    through = set(np.unique(cells[:, :, 0])) & set(np.unique(cells[:, :, -1]))
    assert len(through) > 5
    assert 0.03 < (cells == 0).mean() < 0.2
    assert (cells[:, :, 0] != cells[:, :, -1]).mean() > 0.1


@pytest.mark.parametrize("gap", [0.0, 40.0])
def test_the_gap_is_as_wide_as_asked(gap) -> None:
    spec = PhantomSpec((200, 200, 1), gap_nm=gap)
    cells = Phantom(spec).render(spec.bounds)["cells"]
    if gap == 0:
        assert (cells > 0).all()
        return
    rows = "".join("0" if c == 0 else "1" for c in cells[:, :, 0].ravel("F"))
    runs = [len(r) for r in rows.split("1") if r]
    # Crossed at a slant a gap looks wider, never narrower.
    assert gap / 4 - 2 <= np.percentile(runs, 20) <= gap / 4 + 6


def test_the_image_shows_what_is_there(made) -> None:
    arrays = made[1]
    image, cells, densities = (arrays[n] for n in ("image", "cells", "densities"))
    inside = image[(cells > 0) & (densities == 0)].mean()
    assert image[densities > 0].mean() < inside - 40
    assert 100 < image.mean() < 200
    assert 20 < image.std() < 70
    sections = image.reshape(-1, image.shape[2], order="F").mean(axis=0)
    assert sections.std() > 1


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="at least 1 voxel"):
        PhantomSpec((0, 5, 5))
    with pytest.raises(ConfigError, match="gap_nm = -1"):
        PhantomSpec((5, 5, 5), gap_nm=-1)
    with pytest.raises(ConfigError, match="four times gap_nm"):
        PhantomSpec((5, 5, 5), gap_nm=200)
    with pytest.raises(ConfigError, match="synapse_density"):
        PhantomSpec((5, 5, 5), synapse_density=2)
    phantom = Phantom(PhantomSpec((5, 5, 5)))
    with pytest.raises(BoundsError, match="reaches out of the phantom's bounds"):
        phantom.render(Box((0, 0, 0), (6, 5, 5), (4, 4, 50)))


def test_there_are_synapses_of_one_to_four_partners() -> None:
    found = [len(s.contact_nm2) for s in Phantom(PhantomSpec((640, 640, 30), seed=3)).synapses()]
    assert set(found) == {1, 2, 3, 4}
    assert found.count(2) > len(found) / 2
