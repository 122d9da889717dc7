"""TIFF stacks against tifffile's own whole-stack reader, and all that is refused before writing."""

import re
import struct

import numpy as np
import pytest
import tifffile

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError
from cnapse.volumes.sources import open_source, voxel_size


def says(text):
    return re.escape(text)


def stack(dtype="uint8", shape=(7, 33, 50), seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def read(source, start=0, stop=None):
    stop = source.shape[2] if stop is None else stop
    out = np.empty((*source.shape[:2], stop - start), dtype=source.dtype, order="F")
    source.read_into(out, start)
    return out


WAYS = {
    "plain": {},
    "no metadata": {"metadata": None, "photometric": "minisblack"},
    "imagej": {"imagej": True},
    "bigtiff": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "deflate": {"compression": "zlib"},
    "lzw with predictor": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "tiles": {"tile": (16, 16)},
    "deflate tiles": {"tile": (32, 16), "compression": "zlib"},
    "strips": {"rowsperstrip": 5},
    "one page for all": {"truncate": True},
    "one big-endian page for all": {"truncate": True, "byteorder": ">"},
    "one imagej page for all": {"imagej": True, "truncate": True},
    "min is white": {"photometric": "miniswhite"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_one_file_is_what_tifffile_reads(tmp_path, way, dtype):
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, stack(dtype), **WAYS[way])
    expected = tifffile.imread(path).transpose(2, 1, 0)
    source = open_source(path)
    assert source.shape == (50, 33, 7)
    assert source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read(source), expected)
    np.testing.assert_array_equal(read(source, 3, 5), expected[:, :, 3:5])


def test_pages_written_one_by_one(tmp_path):
    data = stack()
    for metadata in ({}, None):
        path = tmp_path / f"{metadata}.tif"
        with tifffile.TiffWriter(path) as writer:
            for section in data:
                writer.write(section, contiguous=False, metadata=metadata)
        np.testing.assert_array_equal(read(open_source(path)), data.T)


def test_a_single_section(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", stack()[0])
    source = open_source(tmp_path / "one.tif")
    assert source.shape == (50, 33, 1)
    np.testing.assert_array_equal(read(source)[:, :, 0], stack()[0].T)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (3, 5, 1), (3, 1, 5), (1, 1, 9)])
def test_sections_of_one_row_or_column(tmp_path, shape):
    data = stack(shape=shape)
    write_pages(tmp_path / "a.tif", data)
    np.testing.assert_array_equal(read(open_source(tmp_path / "a.tif")), data.T)


def test_masks_of_one_bit_become_bytes(tmp_path):
    mask = stack() > 128
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    source = open_source(tmp_path / "mask.tif")
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(read(source), mask.T.astype(np.uint8))


def sections(folder, names, data=None, **options):
    folder.mkdir(exist_ok=True)
    data = stack(shape=(len(names), 33, 50)) if data is None else data
    for name, section in zip(names, data, strict=True):
        tifffile.imwrite(folder / name, section, **options)
    return data


def test_a_folder_is_taken_in_natural_order(tmp_path):
    names = [f"s{n}.tif" for n in range(1, 13)]
    data = sections(tmp_path / "a", names, compression="zlib")
    (tmp_path / "a" / "notes.txt").write_text("not a section")
    (tmp_path / "a" / "._s1.tif").write_text("from another disk")
    source = open_source(tmp_path / "a")
    np.testing.assert_array_equal(read(source), data.T)
    np.testing.assert_array_equal(read(source, 9, 11), data.T[:, :, 9:11])
    assert source.resolution is None


def test_a_pattern_chooses_files(tmp_path):
    data = sections(tmp_path / "a", [f"raw_{n:03}.tif" for n in range(98, 103)])
    sections(tmp_path / "a", [f"label_{n:03}.tif" for n in range(98, 103)])
    np.testing.assert_array_equal(read(open_source(tmp_path / "a" / "raw_*.tif")), data.T)


@pytest.mark.parametrize(
    "names",
    [
        ["W01_s008.tif", "W01_s009.tif", "W02_s001.tif", "W02_s002.tif"],  # wafers
        ["20240101_s1.tif", "20240101_s2.tif", "20240104_s3.tif"],  # days
        ["anterior.tif", "posterior.tif"],
        ["x_2nm_07.TIF", "x_2nm_08.tiff", "x_2nm_09.tif"][:1],
    ],
)
def test_names_that_count_up(tmp_path, names):
    data = sections(tmp_path / "a", names)
    np.testing.assert_array_equal(read(open_source(tmp_path / "a")), data.T)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["s001.tif", "s003.tif"],
            "section 2 is missing between s001.tif and s003.tif: add what is missing, or give",
        ),
        (
            ["s1.tif", "s2.tif", "s6.tif"],
            "sections 3 to 5 are missing between s2.tif and s6.tif: ",
        ),
        (
            ["W1_s1.tif", "W1_s2.tif", "W2_s1.tif", "W2_s3.tif"],
            "section 2 is missing between W2_s1.tif and W2_s3.tif: ",
        ),
        (["s1.tif", "s01.tif"], "no number rises by one between s"),
        (
            ["0101_s1.tif", "0104_s3.tif"],
            "no number rises by one between 0101_s1.tif and 0104_s3.tif: check the names, or ",
        ),
        (
            ["label_1.tif", "label_2.tif", "raw_1.tif", "raw_2.tif"],
            "files of different kinds, label_#.tif (2) and raw_#.tif (2): give a pattern that take",
        ),
    ],
)
def test_a_missing_section_is_named(tmp_path, names, message):
    data = sections(tmp_path / "a", sorted(names))
    with pytest.raises(FormatError, match=says(f"{tmp_path}/a: {message}")):
        open_source(tmp_path / "a")
    assert open_source(tmp_path / "a", check_names=False).shape == (50, 33, len(data))


def test_nothing_there(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in {
        tmp_path / "x.tif": f"{tmp_path}/x.tif: no such file or folder",
        tmp_path / "x*.tif": f"{tmp_path}/x*.tif: no file matches this pattern",
        tmp_path / "empty": (
            f"{tmp_path}/empty: no TIFF or PNG sections, Zarr, N5 or layer in this folder: check "
        ),
    }.items():
        with pytest.raises(LayerNotFoundError, match=says(message)):
            open_source(path)
    message = "gs://b/raw.tif: image stacks are read from disk: copy it here first"
    with pytest.raises(ConfigError, match=says(message)):
        open_source("gs://b/raw.tif")


def write_pages(path, pages):
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            colour = "rgb" if page.ndim == 3 else "minisblack"
            writer.write(page, contiguous=False, metadata=None, photometric=colour)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            np.zeros((20, 50), np.uint8),
            "has 50 x 20 pixels of uint8, but {first} has 50 x 33 of uint8: all must be alike",
        ),
        (
            np.zeros((33, 50), np.uint16),
            "has 50 x 33 pixels of uint16, but {first} has 50 x 33 of uint8: all must be alike",
        ),
        (
            np.zeros((33, 50, 3), np.uint8),
            "is in colour (3 values a pixel): convert it to grey, or labels to one number a pixel",
        ),
    ],
)
def test_a_section_unlike_the_others_is_named(tmp_path, odd, message):
    pages = list(stack())
    pages[4] = odd
    path = tmp_path / "a.tif"
    write_pages(path, pages)
    with pytest.raises(
        FormatError, match=says(f"page 4 of {path} {message}".format(first="page 0"))
    ):
        open_source(path)
    sections(tmp_path / "a", [f"s{n}.tif" for n in range(7)], pages)
    expected = f"{tmp_path}/a/s4.tif {message}".format(first=f"{tmp_path}/a/s0.tif")
    with pytest.raises(FormatError, match=says(expected)):
        open_source(tmp_path / "a")


def test_a_stack_among_sections(tmp_path):
    sections(tmp_path / "a", ["s1.tif", "s2.tif"], [stack()[0], stack()])
    message = (
        f"{tmp_path}/a/s2.tif has 7 pages, but files of a folder are one section each: give a "
        "multi-page file by itself"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_source(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"hello, no TIFF at all"])
def test_no_tiff(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FormatError, match=says(f"{tmp_path}/a.tif is not a readable TIFF file (")):
        open_source(tmp_path / "a.tif")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", [0.15, 0.3, 0.6, 0.97, 1])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, caplog, way, part):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), **WAYS[way])
    whole = path.read_bytes()
    # Behind that is only what describes the data, or nothing at all.
    path.write_bytes(whole[: int(part * (needed_bytes(path) - 1))])
    with pytest.raises(FormatError, match=says(str(path))):
        open_source(path)
    assert not caplog.records


def needed_bytes(path):
    """Where the pixels, the pages and the values of their tags end."""
    with tifffile.TiffFile(path) as tif:
        ends = []
        for page in tif.pages:
            pairs = zip(page.dataoffsets, page.databytecounts, strict=True)
            ends += [a + n for a, n in pairs]
            ends.append(page.offset + tif.tiff.tagnosize + len(page.tags) * tif.tiff.tagsize)
        # Last, since it makes tifffile take pages for alike.
        ends += [series.dataoffset + series.nbytes for series in tif.series if series.dataoffset]
        return max(ends)


def test_messages_of_cut_files(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), metadata=None, photometric="minisblack")
    whole = path.read_bytes()
    path.write_bytes(whole[:6000])
    message = f"{path} is cut off or damaged after page 0: copy or export it again"
    with pytest.raises(FormatError, match=says(message)):
        open_source(path)
    tifffile.imwrite(path, stack(), truncate=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:6000])
    message = (
        f"section 6 of {path} is cut off: its pixels reach to byte {len(whole)}, the file ends at "
        "6000: copy or export it again"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_source(path)


def test_damaged_pixels_are_named_when_they_are_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[3].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 50)
    source = open_source(path)
    assert read(source, 0, 3).shape == (50, 33, 3)
    with pytest.raises(FormatError, match=says(f"page 3 of {path} cannot be decoded (")):
        read(source)


def test_several_channels(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(shape=(3, 2, 33, 50)), imagej=True, metadata={"axes": "ZCYX"})
    message = (
        f"{path} is no single stack of sections: it has axes ZCYX (3, 2, 33, 50); export one "
        "channel and one time point"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_source(path)


def test_colours_of_imagej_are_no_sections(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(shape=(3, 33, 50)), imagej=True, metadata={"mode": "composite"})
    message = f"{path} is no single stack of sections: it has axes CYX (3, 33, 50); export one "
    with pytest.raises(FormatError, match=says(message)):
        open_source(path)


def test_ome_pages_in_another_order(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack(shape=(3, 33, 50)), metadata={"axes": "ZYX"})
    text = path.read_bytes()
    tiff_data = b'<TiffData IFD="0" PlaneCount="3"/>'
    assert tiff_data in text
    # The same length, so that nothing else moves.
    other = b'<TiffData IFD="2" PlaneCount="1"/>'
    path.write_bytes(text.replace(tiff_data, other))
    message = f"{path}: its OME-XML describes 3 sections that are not the 3 pages of this file"
    with pytest.raises(FormatError, match=says(message)):
        open_source(path)


# --- voxel size ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "per_nm"),
    [("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("nm", 1.0), ("mm", 1e-6)],
)
def test_imagej_tells_the_voxel_size(tmp_path, unit, per_nm):
    path = tmp_path / "a.tif"
    pixel = 4.6 * per_nm
    tifffile.imwrite(
        path,
        stack(),
        imagej=True,
        resolution=(1 / pixel, 1 / pixel),
        metadata={"unit": unit, "spacing": 50 * per_nm},
    )
    source = open_source(path)
    assert source.resolution == (4.6, 4.6, 50.0)
    assert voxel_size(source, None) == (4.6, 4.6, 50.0)
    assert voxel_size(source, (4.6, 4.6, 50)) == (4.6, 4.6, 50.0)
    message = (
        f"--resolution says 4 x 4 x 50 nm, but {path} says 4.6 x 4.6 x 50 nm: correct the "
        "option, or add --ignore-metadata"
    )
    with pytest.raises(ConfigError, match=says(message)):
        voxel_size(source, (4, 4, 50))
    assert voxel_size(source, (4, 4, 50), ignore_metadata=True) == (4, 4, 50)


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"imagej": True, "resolution": (217.0, 217.0), "metadata": {"unit": "um"}},
        {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "pixel", "spacing": 2}},
        {"imagej": True, "metadata": {"unit": "um", "spacing": 0.05}},
        {"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"},
        {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.004, "PhysicalSizeY": 0.004}},
    ],
)
def test_half_a_voxel_size_is_none(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), **options)
    source = open_source(path)
    assert source.resolution is None
    message = (
        f"{path} does not tell its voxel size: give --resolution X Y Z in nm, as in "
        "--resolution 4.6 4.6 50"
    )
    with pytest.raises(ConfigError, match=says(message)):
        voxel_size(source, None)


def test_ome_tells_the_voxel_size(tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 4.6, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.0046}
    metadata = {"axes": "ZYX", **sizes, "PhysicalSizeZ": 0.05, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(path, stack(), metadata=metadata)
    assert open_source(path).resolution == (4.6, 4.6, 50.0)


def test_micrometres_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack())
    source = open_source(tmp_path / "a.tif")
    message = "--resolution 0.0046 0.0046 0.05 looks like micrometres: give nm, 4.6 4.6 50"
    with pytest.raises(ConfigError, match=says(message)):
        voxel_size(source, (0.0046, 0.0046, 0.05))


def test_a_page_that_says_it_has_no_end_is_refused(tmp_path):
    # The pointer to the next page leads nowhere: tifffile stops in silence.
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[2]
        place = page.offset + 2 + 12 * len(page.tags)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<I", 10**9))
    with pytest.raises(FormatError, match=says(f"{path} is cut off or damaged after page 2: ")):
        open_source(path)
