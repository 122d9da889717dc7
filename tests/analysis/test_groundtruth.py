"""Annotators merged, and boxes cut into patches without losing any voxel."""

from __future__ import annotations

import itertools
import tomllib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.analysis.annotators import agreement, agreement_report, disputed, merge
from cnapse.analysis.groundtruth import (
    Annotated,
    Tiling,
    annotated,
    in_sections,
    parse_box,
    parse_sections,
    patch_boxes,
    section_runs,
    windows,
)
from cnapse.analysis.groundtruth_files import coordinates, open_patches, training_lines
from cnapse.detection.datasets import load_source
from cnapse.detection.settings import LayerSource
from cnapse.errors import BoundsError, ConfigError, FormatError, LayerExistsError
from cnapse.geometry import Box

NM = (4.0, 5.0, 40.0)


@given(st.integers(1, 700), st.integers(1, 320), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_windows_cover_everything(length, size, overlap) -> None:
    if overlap >= size:
        with pytest.raises(ConfigError, match="take 0 <= overlap < patch"):
            windows(length, size, overlap)
        return
    found = windows(length, size, overlap)
    covered = np.zeros(length, int)
    for start, stop in found:
        assert stop - start == min(size, length)
        covered[start:stop] += 1
    assert covered.min() == 1 or length <= size or overlap > 0
    assert covered.min() >= 1
    assert len(found) == len(set(found))
    # All but the last overlap by just what was asked for.
    steps = [b[0] - a[0] for a, b in itertools.pairwise(found[:-1])]
    assert all(step == size - overlap for step in steps)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 9)), st.integers(8, 32),
    st.integers(0, 7), st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.lists(st.builds(
        lambda first, length: range(first, first + length), st.integers(-2, 14), st.integers(0, 9),
    ), max_size=4)),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_patches_cover_the_chosen_sections_and_no_other(shape, patch, overlap, depth, chosen):
    box = Box.from_shape(shape, NM, (7, -3, 2))
    seen = np.zeros(shape, int)
    for one in patch_boxes(box, Tiling(patch, overlap, depth), chosen):
        seen[one.slices(box)] += 1
        assert depth is None or one.shape[2] <= depth
    named = range(99) if chosen is None else list(itertools.chain(*chosen))
    wanted = np.isin(np.arange(2, 2 + shape[2]), named)
    shown = in_sections(np.ones(shape, np.uint64), box, chosen)
    np.testing.assert_array_equal(shown, np.broadcast_to(wanted, shape))
    assert (seen[:, :, wanted] > 0).all()
    assert (seen[:, :, ~wanted] == 0).all()


def test_sections_that_follow_one_another_stay_together() -> None:
    box = Box((0, 0, 3), (4, 4, 12), NM)
    assert section_runs(box, None) == [(3, 12)]
    assert section_runs(box, parse_sections("11,4,5,9,20,4")) == [(4, 6), (9, 10), (11, 12)]
    assert section_runs(box, parse_sections("4-8,5")) == [(4, 9)]
    assert parse_sections("3, 7,10-12") == [range(3, 4), range(7, 8), range(10, 13)]
    # As many as one likes: nothing is as long as the number of them.
    many = parse_sections("1-999999999999")
    assert section_runs(box, many) == [(3, 12)]
    assert in_sections(np.ones(box.shape, np.uint8), box, many).all()
    for bad in ("", "a", "5-3", "1,,2"):
        with pytest.raises(ConfigError, match="give numbers and ranges, as in 3,7,10-14"):
            parse_sections(bad)


def test_boxes_are_six_numbers() -> None:
    assert parse_box("1,2,3, 11 12 13", NM) == Box((1, 2, 3), (11, 12, 13), NM)
    for bad in ("1,2,3", "1,2,3,4,5,x"):
        with pytest.raises(ConfigError, match="six whole numbers of voxels, X,Y,Z,X,Y,Z"):
            parse_box(bad, NM)
    with pytest.raises(BoundsError, match="each stop must be above its start"):
        parse_box("0,0,0,0,5,5", NM)


@given(st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_merging_counts_votes(n, seed) -> None:
    drawings = list(np.random.default_rng(seed).integers(0, 3, (n, 4, 5, 3)).astype(np.uint8))
    votes = np.sum([d > 0 for d in drawings], axis=0)
    np.testing.assert_array_equal(merge(drawings, "union"), votes >= 1)
    np.testing.assert_array_equal(merge(drawings, "intersection"), votes == n)
    np.testing.assert_array_equal(disputed(drawings), (votes > 0) & (votes < n))
    if n == 2:
        with pytest.raises(ConfigError, match="a majority of two annotators is both"):
            merge(drawings, "majority")
    else:
        np.testing.assert_array_equal(merge(drawings, "majority"), votes > n / 2)


def test_drawings_must_fit() -> None:
    with pytest.raises(FormatError, match="2 drawings of 2 shapes"):
        merge([np.zeros((2, 2, 2)), np.zeros((2, 2, 3))], "union")
    with pytest.raises(FormatError, match=r"uint8 of .* is needed"):
        annotated(Box.from_shape((2, 2, 2), NM), np.zeros((2, 2, 2), np.uint16), [], "union")


def test_agreement_is_pairwise_over_all_boxes() -> None:
    def line(*places: tuple[int, int]) -> np.ndarray:
        labels = np.zeros((40, 2, 2), np.uint64)
        for number, (start, stop) in enumerate(places, 1):
            labels[start:stop] = number
        return labels

    # The same ids in another box are other objects.
    first = {"a": line((0, 10)), "b": line((5, 15)), "c": line()}
    second = {"a": line((0, 4), (20, 24)), "b": line((20, 24)), "c": line((30, 40))}
    ab, ac, bc = agreement([first, second])
    assert ab.names == ("a", "b")
    assert ab.voxels.f1 == pytest.approx(2 * (5 + 4) / (18 + 14))
    assert ab.to_dict()["both"] == 2
    assert ab.to_dict()["only_first"] == 1
    assert ab.objects.f1 == pytest.approx(4 / 5)
    assert ac.objects.f1 == bc.voxels.f1 == 0
    (back,) = agreement([{"b": box["b"], "a": box["a"]} for box in (first, second)])
    assert (back.voxels.f1, back.objects.f1) == (ab.voxels.f1, ab.objects.f1)
    assert agreement_report([ab], 0.1).splitlines()[1].split()[:5] == [
        "a", "/", "b", f"{ab.voxels.f1:.3f}", "0.800",
    ]  # fmt: skip


def test_one_annotator_keeps_objects_and_several_get_components() -> None:
    box = Box.from_shape((8, 3, 2), NM)
    image = np.zeros(box.shape, np.uint8)
    one = np.zeros(box.shape, np.uint64)
    one[:2], one[2:4] = 2**60, 7
    other = np.zeros(box.shape, np.uint64)
    other[6:] = 9
    alone = annotated(box, image, [one], "union")
    assert alone.ignore is None
    assert (alone.label[:2] != alone.label[2:4]).all()
    assert sorted(np.unique(alone.label)) == [0, 1, 2]
    both = annotated(box, image, [one, other], "union", ignore_disputed=True)
    assert sorted(np.unique(both.label)) == [0, 1, 2]
    assert len(np.unique(both.label[:4])) == 1, "they touch"
    assert both.ignore is not None
    np.testing.assert_array_equal(both.ignore > 0, both.label > 0)
    full = annotated(box, image, [np.ones(box.shape, np.uint64)], "union")
    assert (full.label == 1).all()
    np.testing.assert_array_equal(np.unique(in_sections(one, box, [range(1, 2)])[:, :, 0]), [0])
    np.testing.assert_array_equal(in_sections(one, box, [range(1, 2)])[:, :, 1], one[:, :, 1])


@pytest.mark.parametrize("name", ["truth.h5", "truth"])
def test_training_reads_what_was_written(tmp_path, name) -> None:
    rng = np.random.default_rng(0)
    box = Box.from_shape((50, 40, 5), NM, (100, 200, 3))
    image = rng.integers(0, 256, box.shape).astype(np.uint8)
    label = rng.integers(0, 4, box.shape).astype(np.uint32)
    ignore = (rng.random(box.shape) > 0.8).astype(np.uint8)
    whole = Annotated(box, image, label, ignore)
    writer = open_patches(tmp_path / name)
    patches = [whole.part(one) for one in patch_boxes(box, Tiling(32, 8), parse_sections("3,4,7"))]
    written = [writer.write(number, one) for number, one in enumerate(patches)]
    sources = tomllib.loads(training_lines(written))["layers"]
    assert len(sources) == len(patches) == 2 * 2 * 2
    for source, patch in zip(sources, patches, strict=True):
        read = load_source(LayerSource(**source), NM)
        np.testing.assert_array_equal(read.image, patch.image)
        np.testing.assert_array_equal(read.labels, patch.label)
        np.testing.assert_array_equal(read.ignore, patch.ignore)
    table = coordinates(list(zip(written, patches, strict=True)))
    row = table.iloc[-1]
    assert [row[f"start_{a}"] for a in "xyz"] == [118, 208, 7]
    assert [row[f"stop_{a}"] for a in "xyz"] == [150, 240, 8]
    assert row["density_voxels"] == (patches[-1].label > 0).sum()
    assert row["ignored_voxels"] == patches[-1].ignore.sum()
    with pytest.raises(LayerExistsError, match="is there already: give another name"):
        open_patches(tmp_path / name)


def test_hdf5_tells_where_a_patch_is(tmp_path) -> None:
    box = Box.from_shape((6, 5, 2), NM, (10, 20, 3))
    zeros = np.zeros(box.shape, np.uint8)
    open_patches(tmp_path / "t.h5").write(3, Annotated(box, zeros, zeros, None))
    with h5py.File(tmp_path / "t.h5") as file:
        assert list(file) == ["patch_00003"]
        assert list(file["patch_00003"]) == ["image", "label"]
        node = file["patch_00003/image"]
        assert node.shape == (2, 5, 6)
        assert node.attrs["resolution"].tolist() == [40, 5, 4]
        assert node.attrs["offset"].tolist() == [120, 100, 40]
        assert file["patch_00003"].attrs["start"].tolist() == [10, 20, 3]


def test_tiff_holds_so_many_objects(tmp_path) -> None:
    box = Box.from_shape((2, 2, 1), NM)
    label = np.full(box.shape, 70_000, np.uint32)
    writer = open_patches(tmp_path / "folder")
    with pytest.raises(FormatError, match="more than 65,535 objects: write HDF5 instead"):
        writer.write(0, Annotated(box, np.zeros(box.shape, np.uint8), label, None))
