"""A run on the screen: its layers served from this machine, and the scene that shows them.

Layers on this machine's disk and in buckets are served, those in buckets with this user's
credentials; those on web servers are read by the browser from where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnapse.geometry import Box, Resolution, triple
from cnapse.store import Store, local_path
from cnapse.viewing.connections import Connections
from cnapse.viewing.panels import black_and_white
from cnapse.viewing.scene import CLOSE_NM, Selection, View, scene
from cnapse.viewing.scene_layers import Filter, PartnerLine
from cnapse.viewing.server import LayerServer
from cnapse.volumes.reader import Layer
from cnapse.volumes.stored import load_info

__all__ = [
    "Aim",
    "Exhibit",
    "fitting",
    "measured_contrast",
    "present_layers",
]

_MOST_LINES = 2000
_MOST_SELECTED = 500
_SAMPLE = 512
_CELL_NM = 2.5
_FAR_NM = 3.0
# A whole volume is shown if it fits into half a window at no more than this.
_FARTHEST_NM = 8.0
_HALF_WINDOW = (680, 800)
_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Aim:
    """What to look at: a place, and what is selected there.

    Parameters
    ----------
    position_nm : (x, y, z)
    selection : Selection
        Empty: everything is shown.
    syn_ids : sequence of int, or None
        Synapses whose partners are drawn as lines; None for all.
    nm_per_pixel : float
        How far away one looks.
    shown : {"cells", "synapses"}
        Whether selected cells or selected synapses tell which of a layer of lines are shown.
    """

    position_nm: Resolution
    selection: Selection = field(default_factory=Selection)
    syn_ids: Sequence[int] | None = None
    nm_per_pixel: float = CLOSE_NM
    shown: Filter = "cells"

    @classmethod
    def over(cls, frame: Box, place_nm: Resolution) -> Aim:
        """Everything: the section of a place as a whole, or around the place where it is large."""
        size = [b - a for a, b in zip(frame.start_nm, frame.stop_nm, strict=True)]
        wanted = max(nm / pixels for nm, pixels in zip(size, _HALF_WINDOW, strict=False))
        if wanted > _FARTHEST_NM:
            return cls(place_nm, nm_per_pixel=_FAR_NM)
        x, y = ((a + n / 2) for a, n in zip(frame.start_nm[:2], size, strict=False))
        return cls((x, y, place_nm[2]), nm_per_pixel=wanted)

    @classmethod
    def at_synapse(cls, connections: Connections, syn_id: int) -> Aim:
        """A synapse in the middle, it and its cells selected."""
        return cls(
            connections.position_nm(syn_id),
            connections.selection(syn_id),
            syn_ids=[syn_id],
            shown="synapses",
        )

    @classmethod
    def at_cell(cls, connections: Connections, cell: int) -> Aim:
        """A cell and its synapses selected, the largest of them in the middle.

        A cell that makes no synapse gets the colour of a postsynaptic one.
        """
        synapses = connections.synapses_of(cell)
        makes = bool((connections.synapses["pre_id"] == np.uint64(cell)).any())
        return cls(
            connections.position_nm(synapses[0]),
            Selection(cell if makes else 0, [cell], synapses[:_MOST_SELECTED]),
            syn_ids=synapses,
            nm_per_pixel=_CELL_NM,
        )


def present_layers(paths: Mapping[str, str]) -> dict[str, str]:
    """Those of some layers that are there; of those on web servers it is taken for granted.

    Parameters
    ----------
    paths : mapping of name to path, with protocol

    Raises
    ------
    StorageError
        If a bucket cannot be asked.
    """
    return {
        name: path for name, path in paths.items() if _on_web(path) or Store(path).exists("info")
    }


def _on_web(path: str) -> bool:
    return path.startswith(_WEB)


def fitting(
    additions: Mapping[str, Sequence[str]], paths: Mapping[str, str]
) -> dict[str, list[str]]:
    """The additions of layers that are shown; no meshes where a layer has its own.

    Parameters
    ----------
    additions
        As :func:`cnapse.viewing.additions.additions_of` gives them.
    paths : mapping of name to path, with protocol
        Of the layers that are shown.
    """
    chosen = {name: list(found) for name, found in additions.items()}
    for name in ("cells", "synapses"):
        found = chosen.pop(name, [])
        if name in paths and found:
            own = "mesh" in load_info(paths[name])
            chosen[name] = [path for path in found if not (own and "/meshes/" in path)]
    return chosen


def measured_contrast(image: Layer, position_nm: Sequence[float]) -> tuple[float, float]:
    """The image values to show black and white, from one section around a place."""
    h = image.resolution
    voxel = [int(v // size) for v, size in zip(position_nm, h, strict=True)]
    sample = (_SAMPLE, _SAMPLE, 1)
    start = [
        max(a, min(v - n // 2, b - n))
        for v, n, a, b in zip(voxel, sample, image.bounds.start, image.bounds.stop, strict=True)
    ]
    box = Box.from_shape(sample, h, triple(start)).clamped(image.bounds)
    return black_and_white(image.read(box))


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What is shown of a run.

    Parameters
    ----------
    paths : mapping of name to path, with protocol
        Layers, of `cnapse.viewing.scene.LAYERS`.
    additions : mapping of str to sequence of str
        What is laid on them, as :func:`fitting` gives it.
    """

    paths: Mapping[str, str]
    additions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, Path | str]:
        """What a server has to serve, by name in the address: all but what is on web servers."""
        return {
            name: local_path(path) or path
            for name, path in self._named().items()
            if not _on_web(path)
        }

    def show(
        self,
        server: LayerServer,
        resolution: Resolution,
        aim: Aim,
        *,
        connections: Connections | None = None,
        view: View | None = None,
    ) -> str:
        """Show all on a server that serves `folders`; the address to open.

        Parameters are those of :meth:`state`.
        """
        return server.show(self.state(server, resolution, aim, connections=connections, view=view))

    def state(
        self,
        server: LayerServer,
        resolution: Resolution,
        aim: Aim,
        *,
        connections: Connections | None = None,
        view: View | None = None,
    ) -> dict[str, Any]:
        """The scene, as Neuroglancer's state.

        Parameters
        ----------
        server : LayerServer
            One that serves `folders`.
        resolution : (x, y, z)
            Voxel size in nm that the viewer counts in.
        aim : Aim
            Where the view looks.
        connections
            Where there is no layer of lines, partners are drawn from them: the nearest 2000.
        view : View
            How layers are looked at; how far away, and what tells the lines, is told by the aim.
        """
        found = {
            name: path if _on_web(path) else server.address(name)
            for name, path in self._named().items()
        }
        additions = {
            layer: [found[_addition(layer, n)] for n in range(len(paths))]
            for layer, paths in self.additions.items()
        }
        lines: list[PartnerLine] = []
        if connections and not additions.get("annotations"):
            lines = connections.lines(
                near_nm=aim.position_nm, longest=_MOST_LINES, syn_ids=aim.syn_ids
            )
        return scene(
            {name: found[name] for name in self.paths},
            resolution,
            aim.position_nm,
            aim.selection,
            view=replace(view or View(), nm_per_pixel=aim.nm_per_pixel, shown=aim.shown),
            additions=additions,
            lines=lines,
        )

    def _named(self) -> dict[str, str]:
        """Every path, by its name in the address."""
        beside = {
            _addition(layer, n): path
            for layer, paths in self.additions.items()
            for n, path in enumerate(paths)
        }
        return {**self.paths, **beside}


def _addition(layer: str, number: int) -> str:
    return f"{layer}-{number}"
