"""What a viewer showed, as records: place, layers, selected segments, annotations; all in nm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cnapse.errors import FormatError, LayerNotFoundError
from cnapse.geometry import Resolution

__all__ = ["AnnotationKind", "Space", "ViewedAnnotation", "ViewedLayer", "ViewedState"]

AnnotationKind = Literal["point", "line", "axis_aligned_bounding_box", "ellipsoid", "polyline"]

_NM = {"m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "nm": 1.0, "pm": 1e-3}


@dataclass(frozen=True, slots=True)
class Space:
    """Coordinates: the axes x, y and z among all axes, and nm per unit of each.

    Parameters
    ----------
    places : (x, y, z)
        Where the axes stand.
    unit_nm : (x, y, z)
    """

    places: tuple[int, int, int]
    unit_nm: Resolution

    @classmethod
    def parse(cls, dimensions: Mapping[str, Any], where: str) -> Space:
        """The space of ``dimensions``, as ``{"x": [4e-9, "m"], ...}``.

        Raises
        ------
        FormatError
            If x, y or z are missing or no lengths.
        """
        if not isinstance(dimensions, Mapping):
            raise FormatError(f"{where}: dimensions are {dimensions!r}: x, y, z are needed")
        names = list(dimensions)
        for axis in "xyz":
            if axis not in names:
                raise FormatError(f"{where}: dimensions {names} have no {axis}: x, y, z are needed")
        units = [_nm(dimensions[axis], axis, where) for axis in "xyz"]
        x, y, z = (names.index(axis) for axis in "xyz")
        return cls((x, y, z), (units[0], units[1], units[2]))

    def nm(self, coordinates: Sequence[float]) -> Resolution:
        """A place in nm."""
        x, y, z = (
            float(coordinates[place]) * unit
            for place, unit in zip(self.places, self.unit_nm, strict=True)
        )
        return x, y, z


@dataclass(frozen=True, slots=True)
class ViewedAnnotation:
    """An annotation of a state: one that a person has drawn, or that was written into it.

    Parameters
    ----------
    layer : str
        Name of the layer that it lies in.
    id : str
    kind : str
    points_nm : tuple of (x, y, z)
        One for a point and for the centre of an ellipsoid, two for lines and boxes.
    description : str
        What was written to it; empty if nothing.
    segments : tuple of tuple of int
        Related segments, by relationship.
    properties : mapping
        Values by name of the property.
    radii_nm : (x, y, z), optional
        Of an ellipsoid.
    """

    layer: str
    id: str
    kind: AnnotationKind
    points_nm: tuple[Resolution, ...]
    description: str = ""
    segments: tuple[tuple[int, ...], ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    radii_nm: Resolution | None = None


@dataclass(frozen=True, slots=True)
class ViewedLayer:
    """A layer of a state.

    Parameters
    ----------
    name, kind : str
        As the viewer has them: ``image``, ``segmentation``, ``annotation``.
    sources : tuple of str
        Addresses.
    segments : tuple of int
        Segments that are selected and shown.
    starred : tuple of int
        Segments that are kept in the list, but hidden.
    visible : bool
        Whether the layer is shown.
    annotations : tuple of ViewedAnnotation
        Of local layers; those of a written layer do not lie in the state.
    """

    name: str
    kind: str
    sources: tuple[str, ...] = ()
    segments: tuple[int, ...] = ()
    starred: tuple[int, ...] = ()
    visible: bool = True
    annotations: tuple[ViewedAnnotation, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewedState:
    """What a viewer showed.

    Parameters
    ----------
    position_nm : (x, y, z) or None
        The middle of the view.
    unit_nm : (x, y, z) or None
        What the viewer counts in: voxels of so many nm.
    layers : tuple of ViewedLayer
        From the bottom up.
    """

    position_nm: Resolution | None
    unit_nm: Resolution | None
    layers: tuple[ViewedLayer, ...]

    @property
    def annotations(self) -> tuple[ViewedAnnotation, ...]:
        """All annotations, layer by layer."""
        return tuple(one for layer in self.layers for one in layer.annotations)

    @property
    def selected(self) -> dict[str, tuple[int, ...]]:
        """Selected segments by name of their layer, of all segmentations."""
        return {layer.name: layer.segments for layer in self.layers if "segmentation" in layer.kind}

    def layer(self, name: str) -> ViewedLayer:
        """The layer of a name.

        Raises
        ------
        LayerNotFoundError
            If there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers) or "none"
        raise LayerNotFoundError(f"the state has no layer {name!r}: it has {known}")


def _nm(dimension: Any, axis: str, where: str) -> float:
    is_pair = isinstance(dimension, list | tuple) and len(dimension) == 2
    scale, unit = dimension if is_pair else (None, "")
    is_known = isinstance(unit, str) and unit in _NM
    if not is_known or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise FormatError(f"{where}: dimension {axis} is {dimension}, not a length as [4e-9, 'm']")
    # 4e-9 m is 4 nm, not 4.000000000000001: the nearest number that a person would write.
    return float(f"{scale * _NM[unit]:.12g}")
