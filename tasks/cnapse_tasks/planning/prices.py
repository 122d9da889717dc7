"""What things cost: a table that users edit."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cnapse.toml import Section, TomlFile, read_toml

__all__ = ["CpuPrice", "GpuPrice", "Prices", "QueuePrice", "StorePrice", "default_text", "prices"]

Price = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class CpuPrice(Section):
    """An instance for workers."""

    per_hour: Price
    cores: Count
    memory_gb: Above
    spot: Share = 1.0
    """Part of the price that an interruptible instance costs."""
    speed: Above = 1.0
    """Of one of its cores, against a core of the machine that was calibrated."""


class GpuPrice(Section):
    """An instance with graphics cards, for `detect`."""

    per_hour: Price
    gpus: Count = 1
    spot: Share = 1.0
    mvox_per_second: Above | None = None
    """Of `detect` on one card: nothing but a measurement there can tell."""


class StorePrice(Section):
    """Object storage."""

    per_1000_put: Price
    per_1000_get: Price
    per_1000_list: Price
    per_gb_month: Price
    months: Price = 1.0


class QueuePrice(Section):
    """A queue that is paid for by requests."""

    per_million: Price


class Prices(TomlFile):
    """A price table."""

    as_of: str
    """When the figures were looked up."""
    example: bool = False
    """They are examples only."""
    currency: str = "USD"
    cpu: CpuPrice
    gpu: GpuPrice
    store: StorePrice
    queue: QueuePrice


def default_text() -> str:
    """The table that comes with cnapse, with its comments."""
    return files("cnapse_tasks.planning").joinpath("prices.toml").read_text(encoding="utf-8")


def prices(path: Path | None) -> Prices:
    """A price table, or the one of examples that comes with cnapse.

    Raises
    ------
    LayerNotFoundError
        If there is no such file.
    ConfigError
        If it is not TOML, or a key is unknown, missing or wrong.
    """
    if path is None:
        return Prices.from_dict(tomllib.loads(default_text()), "the example prices")
    return Prices.from_dict(read_toml(path, "price table"), str(path))
