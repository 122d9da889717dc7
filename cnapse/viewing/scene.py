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

from cnapse.errors import ConfigError
from cnapse.geometry import Resolution
from cnapse.viewing.palette import SYNAPSE, cell_colours
from cnapse.viewing.scene_layers import (
    Filter,
    Json,
    PartnerLine,
    dimensions,
    image_layer,
    line_layer,
    partner_layer,
    probability_layer,
    source_url,
    sources,
    voxels,
)

__all__ = [
    "CLOSE_NM",
    "LAYERS",
    "VIEWERS",
    "Json",
    "LinkMaker",
    "PartnerLine",
    "Selection",
    "View",
    "link",
    "scene",
    "source_url",
    "viewer_address",
]

LAYERS = ("image", "probability", "cells", "synapses")
"""The layers of a scene, from the bottom up."""

CLOSE_NM = 1.4
"""nm per pixel at which a synapse and its cells fill the view."""

VIEWERS = {
    "neuroglancer": "https://neuroglancer-demo.appspot.com",
    "spelunker": "https://spelunker.cave-explorer.org",
}
"""Viewers with a name."""

_BACKGROUND = "#000000"
# The view in space is as high as so many pixels of the section.
_PIXELS_IN_SPACE = 950
# Turned by -35 degrees about x and 30 about y: lines from section to section have a length.
_TILT = (-0.2905, 0.2468, 0.0778, 0.9212)
# Everything that neither a browser, a spreadsheet nor Markdown takes for the end of a link.
_SAFE = "!$&*+,-./:;=?@_~"


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
class View:
    """How layers are looked at, apart from place and selection.

    Parameters
    ----------
    contrast : (low, high), optional
        Image values that are shown black and white.
    nm_per_pixel : float
        How far away one looks.
    channel : int
        Of the probability, where it has several.
    binary : bool
        Of the probability, all that is not 0 counts as 1: a hand-drawn map.
    shown : {"cells", "synapses"}
        Whether selected cells or selected synapses tell which partners are shown.
    """

    contrast: tuple[float, float] | None = None
    nm_per_pixel: float = CLOSE_NM
    channel: int = 0
    binary: bool = False
    shown: Filter = "cells"


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
    view: View | None = None,
    additions: Mapping[str, Sequence[str]] | None = None,
    lines: Sequence[PartnerLine] = (),
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
    view : View
    additions : mapping of str to sequence of str
        Addresses of names, meshes and skeletons for ``cells`` and ``synapses``, and of the layer of
        partners for ``annotations``, as :func:`cnapse.viewing.additions.additions_of` gives them.
    lines
        Partners as annotations in the state itself, where there is no layer of them; they are
        shown when one of their cells is selected.

    Returns
    -------
    dict
        Ready for `json.dumps`.
    """
    picked, beside, look = selection or Selection(), additions or {}, view or View()
    marks = _marks(resolution, position_nm, picked)
    state = _state(layers, resolution, marks, look, beside)
    there = [name for name in ("cells", "synapses") if layers.get(name)]
    written = beside.get("annotations", ())
    if written:
        state["layers"].append(partner_layer(written[0], there, look.shown))
    elif lines:
        linked = "cells" in there
        state["layers"].append(line_layer(lines, resolution, marks.cell_colours, linked=linked))
    return state


def viewer_address(viewer: str) -> str:
    """Where a viewer is: its address, or that of a known one.

    Parameters
    ----------
    viewer : str
        An address, or a name of :data:`VIEWERS`.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    address = VIEWERS.get(viewer.lower(), viewer)
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"viewer {viewer!r}: give an address that starts with https://, or one of "
            f"{', '.join(VIEWERS)}"
        )
    return address


def link(viewer: str, state: Json | str) -> str:
    """The address that opens a viewer on a state.

    Parameters
    ----------
    viewer : str
        As `viewer_address` takes it.
    state : dict or str
        The state, or where its file is (gs://, s3:// or https://): a short link.
    """
    page = viewer_address(viewer).rstrip("/")
    # A deployment may be a page of its own, as https://HOST/fafb.html.
    slash = "" if page.endswith(".html") else "/"
    return f"{page}{slash}#!{state if isinstance(state, str) else _quoted(state)}"


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
            text = link(addresses.viewer, _state(public, resolution, _PLACES, View(), {}))
            self._pieces = _PLACE.split(text)

    def link(
        self, position_nm: Sequence[float], syn_id: int, pre_id: int, post_ids: Sequence[int]
    ) -> str:
        """The link of a synapse; empty where no layer is public.

        Parameters
        ----------
        position_nm : sequence of float
            x, y, z of the middle of the view, in nm.
        syn_id, pre_id : int
            The synapse, and its presynaptic cell; 0 for none.
        post_ids : sequence of int
            Its postsynaptic cells.

        Notes
        -----
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
        voxels(position_nm, resolution),
        [str(cell) for cell in colours],
        {str(cell): colour for cell, colour in colours.items()},
        [str(int(synapse)) for synapse in selection.syn_ids],
    )


def _state(
    layers: Mapping[str, str],
    resolution: Resolution,
    marks: _Marks,
    view: View,
    additions: Mapping[str, Sequence[str]],
) -> Json:
    smallest = min(resolution)
    makers: dict[str, Callable[[], Json]] = {
        "image": lambda: image_layer(view.contrast),
        "probability": lambda: probability_layer(view.channel, binary=view.binary),
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
        "dimensions": dimensions(resolution),
        "position": marks.position,
        "crossSectionScale": view.nm_per_pixel / smallest,
        "projectionOrientation": list(_TILT),
        "projectionScale": view.nm_per_pixel * _PIXELS_IN_SPACE / smallest,
        "crossSectionBackgroundColor": _BACKGROUND,
        "hideCrossSectionBackground3D": True,
        "showAxisLines": False,
        "showDefaultAnnotations": False,
        "layers": [
            {
                "name": name,
                "source": sources(layers[name], additions.get(name, ())),
                **makers[name](),
            }
            for name in LAYERS
            if layers.get(name)
        ],
        "layout": "xy-3d",
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
