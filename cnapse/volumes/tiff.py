"""TIFF stacks: one multi-page file, or one file a section.

Sections are read one by one. Values are taken as stored (a photometric interpretation or a palette
is not applied). A voxel size counts as told by the file only where all three axes and the unit are:
in OME-XML, or in ImageJ's metadata with unit and spacing. TIFF's own resolution tags know no z.
"""

from __future__ import annotations

import contextlib
import logging
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cnapse.errors import CnapseError, FormatError, storage_error
from cnapse.geometry import Resolution, Triple
from cnapse.volumes.sections import check_numbering, check_same, find_sections
from cnapse.volumes.sources import Source, file_identity
from cnapse.volumes.units import in_nm, shortest

__all__ = ["SUFFIXES", "TiffSections", "TiffStack", "open_tiff"]

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
# What tags that make no sense lead to.
_DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)

Array = npt.NDArray[Any]


class TiffSections:
    """One file a section, in the order given.

    Raises
    ------
    FormatError
        If one of them is damaged, or differs from the first: it is named.
    """

    resolution: Resolution | None = None
    """A section knows nothing of the distance to the next."""
    begin: Resolution | None = None
    chunk_size: Triple | None = None

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = str(self.files[0].parent)
        (height, width), self.dtype = self._check()
        self.shape: Triple = (width, height, len(self.files))

    def _check(self) -> tuple[tuple[int, int], np.dtype[Any]]:
        kinds = []
        for path in self.files:
            with _opened(path) as tif:
                count = _check_chain(tif, path)
                if count != 1:
                    raise FormatError(
                        f"{path} has {count} pages, but files of a folder are one section each: "
                        "give a multi-page file by itself"
                    )
                kinds.append(_check_page(tif.pages[0], str(path), path))
            check_same(str(path), kinds[-1], str(self.files[0]), kinds[0])
        return kinds[0]

    def read_into(self, out: Array, start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` with sections from `start`, rows from `row` on."""
        for z in range(out.shape[2]):
            path = self.files[start + z]
            with _opened(path) as tif:
                section = _decoded(tif.pages[0], str(path))
            found = section.shape, _stored_dtype(section.dtype)
            check_same(str(path), found, str(self.files[0]), self._kind)
            out[:, :, z] = section[row : row + out.shape[1]].T

    @property
    def _kind(self) -> tuple[tuple[int, int], np.dtype[Any]]:
        return (self.shape[1], self.shape[0]), self.dtype

    def identity(self) -> list[list[object]]:
        """Path, size and time of change of each file."""
        return [file_identity(path) for path in self.files]


class TiffStack:
    """One file with a page a section; also those whose later sections have no page of their own.

    ImageJ writes such files above 4 GB: one page, and the pixels of all sections behind it.

    Raises
    ------
    FormatError
        If it is damaged, has several channels, or a page differs from the first: it is named.
    """

    begin: Resolution | None = None
    chunk_size: Triple | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        with _opened(path) as tif:
            pages = _check_chain(tif, path)
            (height, width), self.dtype, self._pages = _check_pages(tif, path)
        # A second handle: the first look at `series` makes tifffile take pages for alike.
        with _opened(path) as tif:
            _check_axes(tif, path)
            _check_order(tif, path, pages)
            self.resolution = _stated_resolution(tif)
            self._offset = _offset_of_sections(tif, path, pages, height * width)
        sections = pages if self._offset is None else self._offset[1]
        self.shape: Triple = (width, height, sections)

    def read_into(self, out: Array, start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` with sections from `start`, rows from `row` on."""
        with _opened(self.path) as tif:
            for z in range(out.shape[2]):
                section = self._section(tif, start + z)
                out[:, :, z] = section[row : row + out.shape[1]].T

    def _section(self, tif: tifffile.TiffFile, index: int) -> Array:
        if self._offset is None:
            # By its place: tif.pages[index] would walk through all pages before it.
            tif.filehandle.seek(self._pages[index])
            return _decoded(tifffile.TiffPage(tif, index), f"page {index} of {self.path}")
        width, height, _ = self.shape
        stored = self.dtype.newbyteorder(tif.byteorder)
        offset = self._offset[0] + index * width * height * stored.itemsize
        found: Array = tif.filehandle.read_array(stored, width * height, offset)
        return found.reshape(height, width)

    def identity(self) -> list[list[object]]:
        """Path, size and time of change of the file."""
        return [file_identity(self.path)]


def open_tiff(path: str | Path, *, check_names: bool = True) -> Source:
    """Open a TIFF file, a folder of sections or a pattern; see `cnapse.volumes.open_source`."""
    files = find_sections(path, SUFFIXES)
    if len(files) == 1:
        return TiffStack(files[0])
    if check_names:
        check_numbering(files)
    return TiffSections(files)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """An open file, whose faults are errors of ours and not lines in the log."""
    logger = logging.getLogger("tifffile")
    logger.addFilter(_nothing)
    try:
        with tifffile.TiffFile(path) as tif:
            yield tif
    except CnapseError:
        raise
    except (tifffile.TiffFileError, *_DAMAGED) as error:
        raise FormatError(
            f"{path} is not a readable TIFF file ({error}): give TIFF, PNG, HDF5, Zarr, N5 or a "
            "precomputed layer"
        ) from error
    except PermissionError as error:
        raise storage_error(error, path) from error
    finally:
        logger.removeFilter(_nothing)


def _check_chain(tif: tifffile.TiffFile, path: Path) -> int:
    """Check that the last page says it is the last (tifffile stops at a cut); count the pages."""
    count = len(tif.pages)
    offset = tif.pages[count - 1].offset
    handle, form = tif.filehandle, tif.tiff
    handle.seek(offset)
    tags = int.from_bytes(handle.read(form.tagnosize), _endian(tif))
    handle.seek(offset + form.tagnosize + tags * form.tagsize)
    following = handle.read(form.offsetsize)
    if len(following) < form.offsetsize or any(following):
        raise FormatError(
            f"{path} is cut off or damaged after page {count - 1}: copy or export it again"
        )
    return count


def _endian(tif: tifffile.TiffFile) -> Any:
    return "little" if tif.byteorder == "<" else "big"


def _check_pages(
    tif: tifffile.TiffFile, path: Path
) -> tuple[tuple[int, int], np.dtype[Any], list[int]]:
    """Check that all pages are alike; their shape (y, x), dtype and places in the file."""
    first = _check_page(tif.pages[0], f"page 0 of {path}", path)
    places = [tif.pages[0].offset]
    for index in range(1, len(tif.pages)):
        name, page = f"page {index} of {path}", tif.pages[index]
        check_same(name, _check_page(page, name, path), "page 0", first)
        places.append(page.offset)
    return *first, places


def _check_page(page: Any, name: str, path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (y, x) and dtype of a page that can be a section and is all there."""
    if page.samplesperpixel != 1:
        raise FormatError(
            f"{name} is in colour ({page.samplesperpixel} values a pixel): convert it to grey, "
            "or labels to one number a pixel"
        )
    if page.dtype is None or len(page.shape) != 2:
        raise FormatError(
            f"{name} is no plain section (shape {page.shape}, {page.bitspersample} bits): "
            "export it as grey pages"
        )
    end = max(
        (a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0
    )
    _check_length(path, name, end)
    return page.shape, _stored_dtype(page.dtype)


def _check_length(path: Path, name: str, needed: int) -> None:
    size = path.stat().st_size
    if needed > size:
        raise FormatError(
            f"{name} is cut off: its pixels reach to byte {needed}, the file ends at {size}: "
            "copy or export it again"
        )


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def _decoded(page: Any, name: str) -> Array:
    try:
        section: Array = page.asarray()
    except Exception as error:
        # Codecs raise whatever they like on damaged bytes.
        raise FormatError(
            f"{name} cannot be decoded ({type(error).__name__}: {error}): copy or export it again"
        ) from error
    return section


def _check_axes(tif: tifffile.TiffFile, path: Path) -> None:
    """Check that the file holds one stack: no channels, and not both depth and time."""
    axes = {
        axis
        for series in tif.series
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis not in "YX" and size > 1
    }
    # ImageJ calls the sections of an imported stack channels, grey ones.
    grey = tif.is_imagej and (tif.imagej_metadata or {}).get("mode", "grayscale") == "grayscale"
    if len(axes) > 1 or "S" in axes or ("C" in axes and not grey):
        shapes = ", ".join(f"{s.axes} {s.shape}" for s in tif.series[:3])
        raise FormatError(
            f"{path} is no single stack of sections: it has axes {shapes}; export one channel and "
            "one time point"
        )


def _check_order(tif: tifffile.TiffFile, path: Path, pages: int) -> None:
    """Check that OME-XML, which may name pages in any order and files, takes them as they come."""
    if not tif.is_ome:
        return
    order = [None if page is None else page.index for page in tif.series[0].pages]
    if order != list(range(pages)):
        raise FormatError(
            f"{path}: its OME-XML describes {len(order)} sections that are not the {pages} pages "
            "of this file in their order: export it as one file, or as plain TIFF"
        )


def _offset_of_sections(
    tif: tifffile.TiffFile, path: Path, pages: int, pixels: int
) -> tuple[int, int] | None:
    """Offset and number of sections that have no pages of their own; None if each has one."""
    series = tif.series[0]
    count = series.size // pixels
    if tif.is_imagej:
        # Where the file is too short for them, tifffile makes do with those that have a page.
        count = max(count, int((tif.imagej_metadata or {}).get("images", 1)))
    if count == pages or (pages > 1 and len(tif.series) > 1):
        return None
    if pages > 1 or series.dataoffset is None:
        raise FormatError(
            f"{path} says it has {count} sections, but there are {pages}: export it again"
        )
    end = series.dataoffset + count * pixels * series.dtype.itemsize
    _check_length(path, f"section {count - 1} of {path}", end)
    return int(series.dataoffset), count


def _stated_resolution(tif: tifffile.TiffFile) -> Resolution | None:
    """The voxel size in nm, if the file tells it for all axes with units."""
    sizes = _ome_sizes(tif) if tif.is_ome else _imagej_sizes(tif) if tif.is_imagej else None
    if sizes is None or not all(np.isfinite(v) and v > 0 for v in sizes):
        return None
    x, y, z = (shortest(v) for v in sizes)
    return x, y, z


def _imagej_sizes(tif: tifffile.TiffFile) -> list[float] | None:
    metadata = tif.imagej_metadata or {}
    unit = in_nm(str(metadata.get("unit", "")))
    tags: Any = tif.pages.first.tags
    rates = [tags[name].value for name in ("XResolution", "YResolution") if name in tags]
    # A rate of 1/1 is what programs write that know none.
    known = len(rates) == 2 and all(r[0] > 0 and r != (1, 1) for r in rates)
    if unit is None or "spacing" not in metadata or not known:
        return None
    return [unit * r[1] / r[0] for r in rates] + [unit * float(metadata["spacing"])]


def _ome_sizes(tif: tifffile.TiffFile) -> list[float] | None:
    pixels = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>", tif.ome_metadata or "")
    stated = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', pixels.group(1))) if pixels else {}
    sizes = []
    for axis in "XYZ":
        unit = in_nm(stated.get(f"PhysicalSize{axis}Unit", "um"))
        if unit is None or f"PhysicalSize{axis}" not in stated:
            return None
        sizes.append(unit * float(stated[f"PhysicalSize{axis}"]))
    return sizes
