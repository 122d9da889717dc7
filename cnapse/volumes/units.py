"""Units of length as files spell them."""

from __future__ import annotations

__all__ = ["in_nm", "shortest"]

_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "\N{MICRO SIGN}m": 1e3,
    "\N{GREEK SMALL LETTER MU}m": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "\N{LATIN SMALL LETTER A WITH RING ABOVE}": 0.1,
    "angstrom": 0.1,
    "pm": 1e-3,
    "picometer": 1e-3,
}


def in_nm(unit: str) -> float | None:
    """How many nm a unit is, or None if it is not known; ImageJ writes the micro sign escaped."""
    text = unit.replace("\\u00B5", "\N{MICRO SIGN}").strip().lower()
    return _NM.get(text, _NM.get(text.removesuffix("s")))


def shortest(value: float) -> float:
    """The shortest decimal within 1e-5: 4.6 nm comes out of a file as 4.60000046."""
    digits = (float(f"{value:.{n}g}") for n in range(1, 17))
    return next(d for d in digits if abs(d - value) <= 1e-5 * value)
