"""Bodies of requests: JSON, taken as it is and not as pydantic could understand it.

A framework that has parsed JSON before it is checked cannot be strict: a list would be no tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from cnapse.errors import ReviewError

__all__ = ["REF", "BodyError", "body_of", "described", "first_fault"]

T = TypeVar("T")

REF: Final = "#/components/schemas/{model}"
_LONGEST = 300


class BodyError(Exception):
    """A body that is not what the document describes: one line."""


def body_of(adapter: TypeAdapter[T]) -> Callable[[Request], Coroutine[Any, Any, T]]:
    """A dependency that gives the body of a request.

    What has the form and yet cannot be, as a box that ends before it starts, is a `ReviewError`.
    """

    async def read(request: Request) -> T:
        try:
            return adapter.validate_json(await request.body(), strict=True)
        except ValidationError as error:
            line, of_form = first_fault(error)
            raise (BodyError(line) if of_form else ReviewError(line)) from error

    return read


def first_fault(error: ValidationError) -> tuple[str, bool]:
    """The first of what is wrong as one line, and whether any of it is a matter of form."""
    found = error.errors(include_url=False, include_context=False)
    # Only what the records check as a whole looks at a dict.
    form = [one for one in found if one["type"] != "value_error" or not _is_whole(one["input"])]
    first = (form or found)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    message = first["msg"].removeprefix("Value error, ")
    line = f"{where}: {message[:1].lower()}{message[1:]}" if where else message
    return " ".join(line.split())[:_LONGEST], bool(form)


def _is_whole(value: object) -> bool:
    return isinstance(value, dict)


def described(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """What a route says of its body; `app` moves the definitions to where they belong."""
    schema = adapter.json_schema(ref_template=REF)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
