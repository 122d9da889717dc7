"""What Neuroglancer shows: its state as JSON, and the links that carry it.

A state is plain JSON; the tests read it back through the neuroglancer package's own classes.
Positions in it are in voxels of the scene's resolution, whose whole numbers are voxel corners, so
the centre of a voxel in nm becomes a number that ends in .5.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from cnapse.geometry import Resolution
from cnapse.viewing.palette import POSTSYNAPTIC, PRESYNAPTIC, SYNAPSE, cell_colours, rgb

__all__ = [
    "CLOSE_NM",
    "LAYERS",
    "LinkMaker",
    "PartnerLine",
    "Selection",
    "link",
    "scene",
    "source_url",
]

LAYERS = ("image", "probability", "cells", "synapses")
"""The layers of a scene, from the bottom up."""

CLOSE_NM = 1.4
"""nm per pixel at which a synapse and its cells fill the view."""

Json = dict[str, Any]

_PARTNERS = "partners"
_BUCKETS = ("gs://", "s3://", "http://", "https://")
_BACKGROUND = "#000000"
# The view in space is as high as so many pixels of the section.
_PIXELS_IN_SPACE = 950
# Turned by -35 degrees about x and 30 about y: lines from section to section have a length.
_TILT = (-0.2905, 0.2468, 0.0778, 0.9212)
# Everything that neither a browser, a spreadsheet nor Markdown takes for the end of a link.
_SAFE = "!$&*+,-./:;=?@_~"

# A glow that lets the image through where the network is in doubt; in space, the densities.
_PROBABILITY_SHADER = """#uicontrol float threshold slider(min=0, max=1, default=0.1)
#uicontrol vec3 low color(default="#d55e00")
#uicontrol vec3 high color(default="#ffd400")
void main() {
  float p = toNormalized(getDataValue(@channel));
  emitIntensity(p);
  if (p < threshold) { emitTransparent(); return; }
  emitRGBA(vec4(mix(low, high, p), VOLUME_RENDERING ? 0.35 * p : p * p));
}
"""
_SAMPLES_IN_DEPTH = 256


def _vec3(colour: str) -> str:
    return "vec3(" + ", ".join(f"{value / 255:.3f}" for value in rgb(colour)) + ")"


_LINE_SHADER = f"""void main() {{
  setLineColor({_vec3(PRESYNAPTIC)}, prop_colour());
  setEndpointMarkerColor({_vec3(PRESYNAPTIC)}, prop_colour());
  setEndpointMarkerSize(4.0, 8.0);
  setLineWidth(3.0);
}}
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is picked out: cells in their colours, and synapses.

    Parameters
    ----------
    pre_id : int
        Presynaptic cell; 0 for none.
    post_ids : sequence of int
        Postsynaptic cells, or cells selected for any other reason.
    syn_ids : sequence of int
        Synapses.
    """

    pre_id: int = 0
    post_ids: Sequence[int] = ()
    syn_ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PartnerLine:
    """A line from a presynaptic to a postsynaptic point, in nm, tied to both cells."""

    name: str
    pre_id: int
    post_id: int
    pre_nm: Resolution
    post_nm: Resolution
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Marks:
    """The parts of a state that differ from synapse to synapse."""

    position: list[Any]
    cells: list[str] = field(default_factory=list)
    cell_colours: dict[str, str] = field(default_factory=dict)
    synapses: list[str] = field(default_factory=list)


_PLACES = _Marks(["@position"], ["@cells"], {"@colours": ""}, ["@synapses"])
_PLACE = re.compile(r"%22@(\w+)%22(?::%22%22)?")


def scene(
    layers: Mapping[str, str],
    resolution: Resolution,
    position_nm: Sequence[float],
    selection: Selection | None = None,
    *,
    contrast: tuple[float, float] | None = None,
    lines: Sequence[PartnerLine] = (),
    nm_per_pixel: float = CLOSE_NM,
    channel: int = 0,
) -> Json:
    """Neuroglancer's state: layers, place, what is selected.

    Parameters
    ----------
    layers : mapping
        Addresses by name, of :data:`LAYERS`; those that are absent or empty are left out.
    resolution : (x, y, z)
        Voxel size in nm that the viewer counts in.
    position_nm : (x, y, z)
        The middle of the view.
    selection
        Cells and synapses picked out. Without one, everything is shown.
    contrast : (low, high), optional
        Image values that are shown black and white.
    lines
        Partners, as annotations that are shown when one of their cells is selected.
    nm_per_pixel : float
        How far away one looks.
    channel : int
        Of the probability, where it has several.

    Returns
    -------
    dict
        Ready for `json.dumps`.
    """
    picked = selection or Selection()
    marks = _marks(resolution, position_nm, picked)
    state = _state(layers, resolution, marks, contrast, nm_per_pixel, channel)
    if lines:
        linked = bool(layers.get("cells"))
        state["layers"].append(_line_layer(lines, resolution, marks.cell_colours, linked=linked))
    return state


def link(viewer: str, state: Json) -> str:
    """The address that opens a viewer on a state."""
    return f"{viewer.rstrip('/')}/#!{_quoted(state)}"


def source_url(address: str) -> str:
    """A layer's address as Neuroglancer wants it: precomputed where nothing else is said."""
    if address.startswith(_BUCKETS) and "|" not in address:
        return f"precomputed://{address}"
    return address


class _Addresses(Protocol):
    """Public addresses, as :class:`cnapse.config.LinkSection` holds them."""

    @property
    def viewer(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def cells(self) -> str: ...
    @property
    def synapses(self) -> str: ...


class LinkMaker:
    """Links for the rows of a table: the state is written once, then only filled in.

    Parameters
    ----------
    addresses : LinkSection
        Viewer and public layers. Where no layer is public every link is empty.
    resolution : (x, y, z)
        Voxel size in nm that the viewer counts in.
    """

    def __init__(self, addresses: _Addresses, resolution: Resolution) -> None:
        self._resolution = resolution
        public = {name: getattr(addresses, name, "") for name in LAYERS}
        self._pieces: list[str] = []
        if addresses.viewer and any(public.values()):
            text = link(addresses.viewer, _state(public, resolution, _PLACES, None, CLOSE_NM))
            self._pieces = _PLACE.split(text)

    def link(
        self, position_nm: Sequence[float], syn_id: int, pre_id: int, post_ids: Sequence[int]
    ) -> str:
        """The link of a synapse; empty where no layer is public.

        Equal to ``link(viewer, scene(layers, resolution, position_nm, Selection(...)))``.
        """
        if not self._pieces:
            return ""
        marks = _marks(self._resolution, position_nm, Selection(pre_id, post_ids, [syn_id]))
        pieces = list(self._pieces)
        # The odd pieces are the names of the places.
        for place in range(1, len(pieces), 2):
            pieces[place] = _filled(marks, pieces[place])
        return "".join(pieces)


def _marks(resolution: Resolution, position_nm: Sequence[float], selection: Selection) -> _Marks:
    colours = cell_colours(int(selection.pre_id), [int(cell) for cell in selection.post_ids])
    return _Marks(
        _voxels(position_nm, resolution),
        [str(cell) for cell in colours],
        {str(cell): colour for cell, colour in colours.items()},
        [str(int(synapse)) for synapse in selection.syn_ids],
    )


def _voxels(position_nm: Sequence[float], resolution: Resolution) -> list[float]:
    """A position in voxels, as Python floats, short."""
    return [round(float(v) / h, 3) for v, h in zip(position_nm, resolution, strict=True)]


def _dimensions(resolution: Resolution) -> Json:
    # The client divides a layer's nm by 1e9 too: another way of rounding would be another space.
    return {axis: [size / 1e9, "m"] for axis, size in zip("xyz", resolution, strict=True)}


def _state(
    layers: Mapping[str, str],
    resolution: Resolution,
    marks: _Marks,
    contrast: tuple[float, float] | None,
    nm_per_pixel: float,
    channel: int = 0,
) -> Json:
    smallest = min(resolution)
    makers: dict[str, Callable[[], Json]] = {
        "image": lambda: _image_layer(contrast),
        "probability": lambda: _probability_layer(channel),
        "cells": lambda: {
            "type": "segmentation",
            "selectedAlpha": 0.3,
            "segments": marks.cells,
            "segmentColors": marks.cell_colours,
        },
        "synapses": lambda: {
            "type": "segmentation",
            "selectedAlpha": 0.5,
            "segments": marks.synapses,
            "segmentDefaultColor": SYNAPSE,
        },
    }
    return {
        "dimensions": _dimensions(resolution),
        "position": marks.position,
        "crossSectionScale": nm_per_pixel / smallest,
        "projectionOrientation": list(_TILT),
        "projectionScale": nm_per_pixel * _PIXELS_IN_SPACE / smallest,
        "crossSectionBackgroundColor": _BACKGROUND,
        "hideCrossSectionBackground3D": True,
        "showAxisLines": False,
        "showDefaultAnnotations": False,
        "layers": [
            {"name": name, "source": source_url(layers[name]), **makers[name]()}
            for name in LAYERS
            if layers.get(name)
        ],
        "layout": "xy-3d",
    }


def _image_layer(contrast: tuple[float, float] | None) -> Json:
    if contrast is None:
        return {"type": "image"}
    return {"type": "image", "shaderControls": {"normalized": {"range": list(contrast)}}}


def _probability_layer(channel: int) -> Json:
    return {
        "type": "image",
        "opacity": 0.5,
        "blend": "default",
        "shader": _PROBABILITY_SHADER.replace("@channel", str(channel) if channel else ""),
        "volumeRendering": "max",
        "volumeRenderingDepthSamples": _SAMPLES_IN_DEPTH,
    }


def _line_layer(
    lines: Sequence[PartnerLine],
    resolution: Resolution,
    cell_colours: Mapping[str, str],
    *,
    linked: bool,
) -> Json:
    ends = ("presynaptic", "postsynaptic")
    layer: Json = {
        "type": "annotation",
        "name": _PARTNERS,
        "source": {
            "url": "local://annotations",
            "transform": {"outputDimensions": _dimensions(resolution)},
        },
        "annotationRelationships": list(ends),
        "annotationProperties": [{"id": "colour", "type": "rgb", "default": POSTSYNAPTIC[0]}],
        "annotations": [_line(line, resolution, cell_colours) for line in lines],
        "shader": _LINE_SHADER,
    }
    if linked:
        layer["linkedSegmentationLayer"] = dict.fromkeys(ends, "cells")
        layer["filterBySegmentation"] = list(ends)
    return layer


def _line(line: PartnerLine, resolution: Resolution, cell_colours: Mapping[str, str]) -> Json:
    """A line that ends in the colour of the postsynaptic cell."""
    return {
        "type": "line",
        "id": line.name,
        "description": line.text,
        "pointA": _voxels(line.pre_nm, resolution),
        "pointB": _voxels(line.post_nm, resolution),
        "segments": [[str(line.pre_id)], [str(line.post_id)]],
        "props": [cell_colours.get(str(line.post_id), POSTSYNAPTIC[0])],
    }


def _quoted(value: object) -> str:
    return quote(json.dumps(value, separators=(",", ":")), safe=_SAFE)


def _filled(marks: _Marks, place: str) -> str:
    """The quoted text that stands at a place of the template, without what encloses it."""
    match place:
        case "position":
            return ",".join([repr(value) for value in marks.position])
        case "cells":
            return ",".join([f"%22{cell}%22" for cell in marks.cells])
        case "colours":
            pairs = marks.cell_colours.items()
            return ",".join([f"%22{key}%22:%22%23{value[1:]}%22" for key, value in pairs])
        case _:
            return ",".join([f"%22{synapse}%22" for synapse in marks.synapses])
