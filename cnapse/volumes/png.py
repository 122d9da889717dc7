"""PNG sections: one file a section, decoded with pillow. They tell no voxel size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import FormatError, storage_error
from cnapse.geometry import Resolution, Triple
from cnapse.volumes.arrays import one_line
from cnapse.volumes.sections import check_numbering, check_same, find_sections
from cnapse.volumes.sources import Source, file_identity

__all__ = ["SUFFIXES", "PngSections", "open_png"]

SUFFIXES = (".png",)

# Of a palette its numbers are taken, as of TIFF.
_DTYPES = {"1": np.uint8, "L": np.uint8, "P": np.uint8, "I;16": np.uint16}


class PngSections:
    """One file a section, in the order given.

    Raises
    ------
    FormatError
        If one of them is no grey PNG, or differs from the first: it is named.
    """

    resolution: Resolution | None = None
    begin: Resolution | None = None
    chunk_size: Triple | None = None

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = str(self.files[0].parent if len(self.files) > 1 else self.files[0])
        kinds = [_kind(path) for path in self.files]
        for path, kind in zip(self.files, kinds, strict=True):
            check_same(str(path), kind, str(self.files[0]), kinds[0])
        (height, width), self.dtype = kinds[0]
        self.shape: Triple = (width, height, len(self.files))

    def read_into(self, out: npt.NDArray[Any], start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` with sections from `start`, rows from `row` on."""
        expected = (self.shape[1], self.shape[0]), self.dtype
        for z in range(out.shape[2]):
            path = self.files[start + z]
            check_same(str(path), _kind(path), str(self.files[0]), expected)
            out[:, :, z] = _decoded(path)[row : row + out.shape[1]].T

    def identity(self) -> list[list[object]]:
        """Path, size and time of change of each file."""
        return [file_identity(path) for path in self.files]


def open_png(path: str | Path, *, check_names: bool = True) -> Source:
    """Open a PNG, a folder of sections or a pattern; see `cnapse.volumes.sources.open_source`."""
    files = find_sections(path, SUFFIXES)
    if check_names and len(files) > 1:
        check_numbering(files)
    return PngSections(files)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    # A section of 20000 x 20000 is no attack: pillow's limit is for files from the web.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            yield image
    except PermissionError as error:
        raise storage_error(error, path) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FormatError(
            f"{path} is not a readable PNG file ({one_line(error)}): copy or export it again"
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _kind(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (y, x) and dtype of a file, from its header."""
    with _opened(path) as image:
        (width, height), mode = image.size, image.mode
    if mode not in _DTYPES:
        raise FormatError(
            f"{path} is in colour ({mode}): convert it to grey, or labels to one number a pixel"
        )
    return (height, width), np.dtype(_DTYPES[mode])


def _decoded(path: Path) -> npt.NDArray[Any]:
    with _opened(path) as image:
        found: npt.NDArray[Any] = np.asarray(image)
    return found
