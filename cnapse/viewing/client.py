"""Neuroglancer's client as it ships in the neuroglancer package, with one fault mended.

Of 2.41.2: while a scene is being restored, the client may write the state into its address, and on
a slow machine it does so in the middle of it (`UrlHashBinding`: a delay of at most 400 ms). A layer
of annotations that is there but not yet restored cannot be written then, "Cannot read properties
of undefined (reading 'length')", and is left out. So what is missing gets the value that it has
anyway by default.
"""

# ruff: noqa: D102 - methods that tornado calls, by its names for them

from __future__ import annotations

import re
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path

from cnapse.viewing.handlers import Files

__all__ = ["Client", "mended"]

_PROGRAM = re.compile(r"main\.[^/]*js")
_FAULT = re.compile(rb"(?<=[;{}])localAnnotationRelationships;")
_MENDED = b'localAnnotationRelationships=["segments"];'


@lru_cache(maxsize=2)
def mended(file: Path) -> bytes:
    """The client's program; as it is, where it has not the fault."""
    return _FAULT.sub(_MENDED, file.read_bytes())


class Client(Files):
    """The files of the client."""

    @classmethod
    def get_content(
        cls, abspath: str, start: int | None = None, end: int | None = None
    ) -> Generator[bytes, None, None]:
        if _is_program(abspath):
            yield mended(Path(abspath))[start:end]
        else:
            yield from Files.get_content(abspath, start, end)

    def get_content_size(self) -> int:
        path = str(self.absolute_path)
        return len(mended(Path(path))) if _is_program(path) else Files.get_content_size(self)


def _is_program(path: str) -> bool:
    return _PROGRAM.fullmatch(Path(path).name) is not None
