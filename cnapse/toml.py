"""TOML files as frozen, validated records; every mistake is one line that names the key."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cnapse.errors import ConfigError, LayerNotFoundError

__all__ = ["Section", "TomlFile", "read_toml"]


class Section(BaseModel):
    """A table of a TOML file: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TomlFile(Section):
    """A whole TOML file."""

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "the configuration") -> Self:
        """Validate the content of a file.

        Raises
        ------
        ConfigError
            One line that names the key, what was found and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_validation_message(error, cls)}") from error


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The content of a TOML file; `what` is what a user calls it.

    Raises
    ------
    LayerNotFoundError
        If there is no such file.
    ConfigError
        If it is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise LayerNotFoundError(f"{path}: no such {what}") from error
    except (ValueError, RecursionError) as error:  # TOML's own, of UTF-8, of endless numbers
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _validation_message(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake of a pydantic error as one line: key, what was found, the way out."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    key = ".".join(place) or "the file"
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return reason if not place else f"{key}: {reason}"
    text = first["msg"][0].lower() + first["msg"][1:]
    return f"{key} = {first['input']!r}: {text}"


def _known_keys(model: type[BaseModel], place: list[str]) -> list[str]:
    for part in place:
        field = model.model_fields.get(part)
        inner = _section_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_in(annotation: object) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    candidates += [inner for c in candidates for inner in getattr(c, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
