"""Records of arrays, as tasks hand them to each other in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy.typing as npt

__all__ = ["ArrayRecord"]


@dataclass(frozen=True, slots=True)
class ArrayRecord:
    """Base of the dataclasses whose fields are arrays, all of them."""

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The record as named arrays, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The record that gave these `arrays`, by :meth:`to_arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})
