"""Images of any numeric dtype as uint8, by a range that is told or measured; never by a guess.

With a range LOW to HIGH a value v becomes

    rint(255 * (v - LOW) / (HIGH - LOW)), cut to 0 and 255

in float64, halves to the even number: LOW and all below is 0, HIGH and all above is 255.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Resolution, Triple
from cnapse.volumes.sources import Source

__all__ = ["RangedSource", "measure_range"]

Array = npt.NDArray[Any]

_PERCENTILES = (0.1, 99.9)
_SECTIONS = 16
_PIXELS_OF_A_SECTION = 1 << 18
_DIGITS = 6
# Voxels that are turned at once: their float64 is what memory a section of any size takes.
_BLOCK = 1 << 20
_TABLE_BYTES = 2


class RangedSource:
    """A source whose values are turned to uint8; the module says how.

    Parameters
    ----------
    source : Source
    low, high : float
        The values that become 0 and 255.

    Raises
    ------
    ConfigError
        If `low` is not below `high`, or one of them is no finite number.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, source: Source, low: float, high: float) -> None:
        self.low, self.high = _checked(low, high)
        self.source = source
        self.name = source.name
        self.shape: Triple = source.shape
        self.resolution: Resolution | None = source.resolution
        self.begin: Resolution | None = source.begin
        self.chunk_size: Triple | None = source.chunk_size
        self._table = self._make_table()

    def read_into(self, out: Array, start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]``, of uint8, with sections from `start`, rows from `row` on.

        Beside `out`, the same voxels in the source's own dtype are in memory.

        Raises
        ------
        FormatError
            If a section cannot be decoded, or holds NaN.
        """
        values = np.empty(out.shape, dtype=self.source.dtype, order="F")
        self.source.read_into(values, start, row)
        for z, block in _blocks(out.shape):
            found = values[:, block, z]
            if found.dtype.kind == "f" and np.isnan(found).any():
                raise FormatError(
                    f"section {start + z} of {self.name} holds NaN, which is in no range: replace "
                    "it by a number first"
                )
            out[:, block, z] = self._turned(found)

    def identity(self) -> list[list[object]]:
        """What tells this input from another: the source's own, and the range."""
        return [*self.source.identity(), ["range", self.low, self.high]]

    def _turned(self, values: Array) -> Array:
        if self._table is None:
            return self._mapped(values)
        # Signed numbers find their place by their bits, as the table was made.
        turned: Array = self._table[values.view(f"u{values.dtype.itemsize}")]
        return turned

    def _mapped(self, values: Array) -> Array:
        scaled = (values.astype(np.float64) - self.low) * 255 / (self.high - self.low)
        return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8)

    def _make_table(self) -> Array | None:
        """The byte of every value, for integers of 8 and 16 bits; None for others."""
        dtype = self.source.dtype
        if dtype.kind not in "iu" or dtype.itemsize > _TABLE_BYTES:
            return None
        bits = np.dtype(f"u{dtype.itemsize}")
        return self._mapped(np.arange(np.iinfo(bits).max + 1).astype(bits).view(dtype))


def measure_range(source: Source) -> tuple[float, float]:
    """The range from the 0.1st to the 99.9th percentile of an image's values.

    All values count, also the black of padding. Measured are up to 16 sections, evenly spaced from
    the first to the last, and in each up to 2^18 pixels on a square lattice that covers it. Memory
    is one section. The same image gives the same range.

    Parameters
    ----------
    source : Source

    Returns
    -------
    low, high : float
        Values that occur, for floating point to 6 digits.

    Raises
    ------
    ConfigError
        If the image is uint8 already.
    FormatError
        If a section cannot be decoded or holds NaN, or (nearly) all values are the same.
    """
    if source.dtype == np.uint8:
        raise ConfigError(
            f"{source.name} is uint8 already, which needs no range: leave out --auto-range, or "
            "give --range LOW HIGH to stretch its contrast"
        )
    sample = np.concatenate([_lattice(source, z) for z in _spread(source.shape[2])])
    below, above = _PERCENTILES
    low = _short(np.percentile(sample, below, method="lower"))
    high = _short(np.percentile(sample, above, method="higher"))
    if not low < high:
        raise FormatError(
            f"{source.name} has hardly another value than {low:g}, so no range can be measured: "
            "give --range LOW HIGH"
        )
    return low, high


def _lattice(source: Source, index: int) -> Array:
    """Evenly spaced pixels of a section."""
    width, height, _ = source.shape
    section = np.empty((width, height, 1), dtype=source.dtype, order="F")
    source.read_into(section, index)
    step = int(np.ceil(np.sqrt(width * height / _PIXELS_OF_A_SECTION)))
    found: Array = section[::step, ::step, 0].ravel()
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise FormatError(
            f"section {index} of {source.name} holds NaN or infinity, so no range can be measured: "
            "replace them by numbers first"
        )
    return found


def _spread(sections: int) -> list[int]:
    count = min(sections, _SECTIONS)
    return [round(float(z)) for z in np.linspace(0, sections - 1, count)]


def _short(value: Any) -> float:
    """What is printed is what is used: whole numbers as they are, others to 6 digits."""
    return float(value) if value.dtype.kind in "iu" else float(f"{value:.{_DIGITS}g}")


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, slice]]:
    rows = max(1, _BLOCK // shape[0])
    for z in range(shape[2]):
        for y in range(0, shape[1], rows):
            yield z, slice(y, y + rows)


def _checked(low: float, high: float) -> tuple[float, float]:
    if not np.isfinite([low, high, float(high) - float(low)]).all():
        raise ConfigError(f"--range {low:g} {high:g}: give two numbers, as in --range 1000 40000")
    if not low < high:
        raise ConfigError(
            f"--range {low:g} {high:g}: the first number, which becomes black, must be below the "
            "second: exchange them"
        )
    return float(low), float(high)
