"""Checksums in the files that one stage leaves for the next: what is not as written is found.

Arrays go into one safetensors file whose metadata holds a digest of their names, dtypes, shapes and
values. Of chunks of layers, whose format has no place for one, a task's record keeps the CRC-32.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import DamagedFileError

__all__ = ["crcs_as_text", "crcs_of_text", "packed", "unpacked"]

Arrays = Mapping[str, npt.NDArray[Any]]

_KEY = "blake2b"
_BYTES = 16
# A safetensors file begins with the length of its header, which is JSON.
_LENGTH_BYTES = 8


def packed(arrays: Arrays) -> bytes:
    """Named arrays as one safetensors file with a digest: the same arrays give the same bytes."""
    from safetensors.numpy import save

    contiguous = {key: np.ascontiguousarray(a) for key, a in arrays.items()}
    return save(contiguous, metadata={_KEY: _digest_of(contiguous)})


def unpacked(content: bytes, path: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `packed` made a file of.

    Raises
    ------
    DamagedFileError
        If the bytes are not those that were written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, npt.NDArray[Any]] = load(content)
        digest = _stored_digest(content)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, " ".join(str(error).split())) from error
    if digest != _digest_of(arrays):
        raise DamagedFileError(path, "its checksum does not fit its content")
    return arrays


def crcs_as_text(checksums: Sequence[int]) -> str:
    """CRC-32 values as a line for a record: base64 of little-endian uint32."""
    return base64.b64encode(np.array(checksums, "<u4").tobytes()).decode()


def crcs_of_text(text: str) -> list[int]:
    """What `crcs_as_text` made a line of."""
    values: list[int] = np.frombuffer(base64.b64decode(text), "<u4").tolist()
    return values


def _digest_of(arrays: Arrays) -> str:
    digest = hashlib.blake2b(digest_size=_BYTES)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _stored_digest(content: bytes) -> str:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return str(header["__metadata__"][_KEY])
