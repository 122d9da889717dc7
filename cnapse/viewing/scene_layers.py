"""The layers of a scene as Neuroglancer's state has them: colours, shaders, controls, relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cnapse.geometry import Resolution
from cnapse.viewing.palette import POSTSYNAPTIC, PRESYNAPTIC, rgb

__all__ = [
    "PARTNERS",
    "Filter",
    "PartnerLine",
    "dimensions",
    "image_layer",
    "line_layer",
    "partner_layer",
    "probability_layer",
    "source_url",
    "sources",
    "voxels",
]

Json = dict[str, Any]
Filter = Literal["cells", "synapses"]

PARTNERS = "partners"
"""Name of the layer of lines."""

_BUCKETS = ("gs://", "s3://", "http://", "https://")
_LOCAL_ENDS = ("presynaptic", "postsynaptic")
# Relationships of the written layer, and the layer that each is tied to.
_RELATIONSHIPS = {
    "presynaptic cell": "cells",
    "postsynaptic cell": "cells",
    "synapse": "synapses",
}

# A glow that lets the image through where the network is in doubt; in space, the densities.
_PROBABILITY_SHADER = """#uicontrol float threshold slider(min=0, max=1, default=0.1)
#uicontrol vec3 low color(default="#d55e00")
#uicontrol vec3 high color(default="#ffd400")
void main() {
  float p = @value;
  emitIntensity(p);
  if (p < threshold) { emitTransparent(); return; }
  emitRGBA(vec4(mix(low, high, p), VOLUME_RENDERING ? 0.35 * p : p * p));
}
"""
_SAMPLES_IN_DEPTH = 256
# Pixels between lines where not all are drawn: twice the viewer's default, and a quarter of them.
_SPACING = 16


def _vec3(colour: str) -> str:
    return "vec3(" + ", ".join(f"{value / 255:.3f}" for value in rgb(colour)) + ")"


_LINE_SHADER = f"""void main() {{
  setLineColor({_vec3(PRESYNAPTIC)}, prop_colour());
  setEndpointMarkerColor({_vec3(PRESYNAPTIC)}, prop_colour());
  setEndpointMarkerSize(4.0, 8.0);
  setLineWidth(3.0);
}}
"""

# The marker grows with that of a ball of the volume that the partner takes part in.
_PARTNER_SHADER = f"""#uicontrol float least_share slider(min=0, max=1, default=0, step=0.01)
#uicontrol float most_doubt slider(min=0, max=1, default=1, step=0.01)
#uicontrol float marker_scale slider(min=0.2, max=4, default=1, step=0.1)
#uicontrol bool colour_by_share checkbox(default=false)
#uicontrol bool colour_by_doubt checkbox(default=false)
#uicontrol vec3 presynaptic color(default="{PRESYNAPTIC}")
vec3 ramp(float x) {{
  return mix({_vec3("#ffd400")}, {_vec3("#b2182b")}, clamp(x, 0.0, 1.0));
}}
void main() {{
  if (prop_share() < least_share || prop_doubt() > most_doubt) discard;
  float size = marker_scale * clamp(0.09 * pow(max(prop_size(), 1.0), 0.3333), 5.0, 20.0);
  vec3 start = presynaptic;
  vec3 end = prop_colour();
  if (colour_by_share) start = end = ramp(1.0 - prop_share());
  if (colour_by_doubt) start = end = ramp(prop_doubt());
  setLineColor(start, end);
  setLineWidth(1.0 + 0.2 * size);
  setEndpointMarkerColor(start, end);
  setEndpointMarkerSize(0.6 * size, size);
}}
"""


@dataclass(frozen=True, slots=True)
class PartnerLine:
    """A line from a presynaptic to a postsynaptic point, in nm, tied to both cells."""

    name: str
    pre_id: int
    post_id: int
    pre_nm: Resolution
    post_nm: Resolution
    text: str = ""


def source_url(address: str) -> str:
    """A layer's address as Neuroglancer wants it: precomputed where nothing else is said."""
    if address.startswith(_BUCKETS) and "|" not in address:
        return f"precomputed://{address}"
    return address


def sources(address: str, additions: Sequence[str] = ()) -> str | list[str]:
    """Where a layer comes from, and what else is laid on it: names, meshes, skeletons."""
    if not additions:
        return source_url(address)
    return [source_url(one) for one in (address, *additions)]


def dimensions(resolution: Resolution) -> Json:
    """The space that a viewer counts in, its unit a voxel."""
    # The client divides a layer's nm by 1e9 too: another way of rounding would be another space.
    return {axis: [size / 1e9, "m"] for axis, size in zip("xyz", resolution, strict=True)}


def voxels(position_nm: Sequence[float], resolution: Resolution) -> list[float]:
    """A position in voxels, as Python floats, short."""
    return [round(float(v) / h, 3) for v, h in zip(position_nm, resolution, strict=True)]


def image_layer(contrast: tuple[float, float] | None) -> Json:
    """EM; `contrast` are the values that are shown black and white."""
    if contrast is None:
        return {"type": "image"}
    return {"type": "image", "shaderControls": {"normalized": {"range": list(contrast)}}}


def probability_layer(channel: int, *, binary: bool = False) -> Json:
    """Where the network sees synapses; of a `binary` map all that is not 0 counts as 1."""
    value = f"toNormalized(getDataValue({channel or ''}))"
    if binary:
        value = f"{value} > 0.0 ? 1.0 : 0.0"
    return {
        "type": "image",
        "opacity": 0.5,
        "blend": "default",
        "shader": _PROBABILITY_SHADER.replace("@value", value),
        "volumeRendering": "max",
        "volumeRenderingDepthSamples": _SAMPLES_IN_DEPTH,
    }


def partner_layer(address: str, linked: Sequence[str], shown: Filter = "cells") -> Json:
    """All partners of a run, from its written layer of lines.

    Parameters
    ----------
    address : str
    linked : sequence of str
        Which of the layers ``cells`` and ``synapses`` the scene has.
    shown : str
        Whether the selected cells, or the selected synapses, tell which lines are shown.
    """
    ties = {name: layer for name, layer in _RELATIONSHIPS.items() if layer in linked}
    layer: Json = {
        "type": "annotation",
        "name": PARTNERS,
        "source": source_url(address),
        "shader": _PARTNER_SHADER,
        "crossSectionAnnotationSpacing": _SPACING,
        "projectionAnnotationSpacing": _SPACING,
    }
    if ties:
        layer["linkedSegmentationLayer"] = ties
        layer["filterBySegmentation"] = [name for name, tied in ties.items() if tied == shown]
    return layer


def line_layer(
    lines: Sequence[PartnerLine],
    resolution: Resolution,
    cell_colours: Mapping[str, str],
    *,
    linked: bool,
) -> Json:
    """Some partners, written into the state itself: for runs without a layer of lines."""
    layer: Json = {
        "type": "annotation",
        "name": PARTNERS,
        "source": {
            "url": "local://annotations",
            "transform": {"outputDimensions": dimensions(resolution)},
        },
        "annotationRelationships": list(_LOCAL_ENDS),
        "annotationProperties": [{"id": "colour", "type": "rgb", "default": POSTSYNAPTIC[0]}],
        "annotations": [_line(line, resolution, cell_colours) for line in lines],
        "shader": _LINE_SHADER,
    }
    if linked:
        layer["linkedSegmentationLayer"] = dict.fromkeys(_LOCAL_ENDS, "cells")
        layer["filterBySegmentation"] = list(_LOCAL_ENDS)
    return layer


def _line(line: PartnerLine, resolution: Resolution, cell_colours: Mapping[str, str]) -> Json:
    """A line that ends in the colour of the postsynaptic cell."""
    return {
        "type": "line",
        "id": line.name,
        "description": line.text,
        "pointA": voxels(line.pre_nm, resolution),
        "pointB": voxels(line.post_nm, resolution),
        "segments": [[str(line.pre_id)], [str(line.post_id)]],
        "props": [cell_colours.get(str(line.post_id), POSTSYNAPTIC[0])],
    }
