"""The options that `cnapse evaluate detection` and `cnapse evaluate search` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Border",
    "IgnoreOption",
    "Json",
    "KindName",
    "KindOption",
    "MinIou",
    "Predicted",
    "ResolutionOption",
    "Seed",
    "SkipTouching",
    "Start",
    "Stop",
    "Three",
    "TrueMin",
    "Truth",
    "TruthKind",
    "TruthKindName",
]

Three = tuple[int, int, int]


class KindName(StrEnum):
    """What the values of a volume mean."""

    PROBABILITY = "probability"
    LABELS = "labels"
    MASK = "mask"


class TruthKindName(StrEnum):
    """What the values of a true volume mean."""

    LABELS = "labels"
    MASK = "mask"


Predicted = Annotated[
    str,
    typer.Argument(
        help="A probability or label volume: TIFF, HDF5 (file.h5:/dataset), Zarr, PNG sections, a "
        "precomputed layer; or a run's cnapse.toml.",
        metavar="PREDICTED",
        show_default=False,
    ),
]
Truth = Annotated[
    str,
    typer.Argument(
        help="True densities, labels or a drawn mask: likewise.",
        metavar="TRUTH",
        show_default=False,
    ),
]
ResolutionOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        metavar="X Y Z",
        help="Voxel size in nm. Needed where the files do not tell it; layers are read at it.",
    ),
]
KindOption = Annotated[
    KindName | None,
    typer.Option(
        help="What the predicted values mean (default: a segmentation or more than 8 bits are "
        "labels, else a probability)."
    ),
]
TruthKind = Annotated[
    TruthKindName | None,
    typer.Option(
        help="What the true values mean (default: a segmentation or more than 8 bits are labels, "
        "else a mask whose connected components are the objects)."
    ),
]
TrueMin = Annotated[
    int, typer.Option(help="True objects of fewer voxels are left out of the truth.", min=1)
]
GapNm = Annotated[
    float,
    typer.Option(
        help="Objects, predicted and true, that a gap of at most so many nm parts are one (from "
        "centre to centre of the nearest voxels, as in cnapse merge); 0 joins nothing.",
        min=0,
    ),
]
Start = Annotated[
    tuple[int, int, int] | None,
    typer.Option(metavar="X Y Z", help="First voxel to compare (default: all that both have)."),
]
Stop = Annotated[
    tuple[int, int, int] | None, typer.Option(metavar="X Y Z", help="First voxel past those.")
]
IgnoreOption = Annotated[
    str | None,
    typer.Option(
        help="Volume of what does not count: all but 0. Objects mostly under it do not count."
    ),
]
Border = Annotated[
    tuple[int, int, int],
    typer.Option(metavar="X Y Z", help="Voxels from each face that do not count."),
]
SkipTouching = Annotated[
    bool, typer.Option("--skip-touching", help="Objects at a face of the box do not count.")
]
MinIou = Annotated[
    float, typer.Option(help="Least overlap (IoU) of objects that match.", min=0, max=1)
]
Seed = Annotated[int, typer.Option(help="Seed of the 95 % intervals.", min=0)]
Json = Annotated[Path | None, typer.Option("--json", help="Also write all figures to this file.")]
