"""How long a core takes for one unit of each stage's work, and where that is known from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any, Self

from cnapse.errors import FormatError
from cnapse_tasks.planning.tissue import Tissue

__all__ = ["Rate", "Rates", "reference"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of one core for one unit of work: the middle of some measurements, and their ends."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a calibration found.

    Parameters
    ----------
    host, date, processor : str
        Where and when.
    rates : mapping of str to Rate
        By ``stage.unit``; ``stage.first`` is what a worker's first task takes beside its work,
        ``task`` what the engine takes for any, ``start`` what a worker takes to begin.
    stored : mapping of str to float
        Bytes on disk by byte of voxels, for ``probability`` and ``synapses``, and ``.gz`` of both,
        as buckets keep them; ``synapse``: bytes of records and tables for one synapse.
    tissue : Tissue, optional
        What the sample held.
    sample : str
        What was measured, in words.
    """

    host: str
    date: str
    processor: str
    rates: Mapping[str, Rate]
    stored: Mapping[str, float] = field(default_factory=dict)
    tissue: Tissue | None = None
    sample: str = ""

    def to_json(self) -> bytes:
        """For a file."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """From a file.

        Raises
        ------
        FormatError
            If it is no calibration.
        """
        try:
            values: dict[str, Any] = json.loads(content)
            values["rates"] = {name: Rate(**rate) for name, rate in values["rates"].items()}
            tissue = values["tissue"]
            if tissue is not None:
                x, y, z = tissue["extent_nm"]
                values["tissue"] = Tissue(**{**tissue, "extent_nm": (x, y, z)})
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(
                f"{where} is no calibration ({error}): delete it, or measure anew with --calibrate"
            ) from error

    def over(self, other: Rates) -> Rates:
        """These, and what is missing of them from others."""
        return Rates(
            self.host,
            self.date,
            self.processor,
            {**other.rates, **self.rates},
            {**other.stored, **self.stored},
            self.tissue,
            self.sample,
        )


def reference() -> Rates:
    """Rates that came with cnapse: of its developers' machine, not of this one."""
    content = files("cnapse_tasks.planning").joinpath("reference.json").read_bytes()
    return Rates.from_json(content, "reference.json")
