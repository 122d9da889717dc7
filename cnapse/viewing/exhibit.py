"""A run on the screen: its layers served from this machine, and the scene that shows them.

Layers on this machine's disk are served; those in buckets or on web servers are read by the browser
from where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnapse.geometry import Box, Resolution, triple
from cnapse.store import local_path
from cnapse.viewing.connections import Connections
from cnapse.viewing.panels import black_and_white
from cnapse.viewing.scene import CLOSE_NM, Json, Selection, scene
from cnapse.viewing.server import LayerServer
from cnapse.volumes.reader import Layer

__all__ = ["Aim", "exhibit", "local_folders", "measured_contrast", "present_layers"]

_MOST_LINES = 2000
_MOST_SELECTED = 500
_SAMPLE = 512
_CELL_NM = 2.5
_FAR_NM = 3.0
# A whole volume is shown if it fits into half a window at no more than this.
_FARTHEST_NM = 8.0
_HALF_WINDOW = (680, 800)


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
    """

    position_nm: Resolution
    selection: Selection = field(default_factory=Selection)
    syn_ids: Sequence[int] | None = None
    nm_per_pixel: float = CLOSE_NM

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
        return cls(connections.position_nm(syn_id), connections.selection(syn_id), syn_ids=[syn_id])

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
    """Those of some layers that are there; of those elsewhere than on disk it is taken for granted.

    Parameters
    ----------
    paths : mapping of name to path, with protocol
    """
    return {
        name: path
        for name, path in paths.items()
        if (folder := local_path(path)) is None or (folder / "info").is_file()
    }


def local_folders(paths: Mapping[str, str]) -> dict[str, Path]:
    """The layers that lie on this machine's disk."""
    folders = {name: local_path(path) for name, path in paths.items()}
    return {name: folder for name, folder in folders.items() if folder is not None}


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


def exhibit(
    server: LayerServer,
    paths: Mapping[str, str],
    resolution: Resolution,
    aim: Aim,
    *,
    connections: Connections | None = None,
    contrast: tuple[float, float] | None = None,
    channel: int = 0,
) -> str:
    """Show layers on a server that serves their local folders; the address to open.

    Parameters
    ----------
    paths : mapping of name to path, with protocol
        Of `cnapse.viewing.scene.LAYERS`.
    resolution : (x, y, z)
        Voxel size in nm that the viewer counts in.
    connections
        Partners are drawn as lines from them: the nearest 2000.
    channel : int
        Of the probability, where it has several.
    """
    local = local_folders(paths)
    layers = {name: server.address(name) if name in local else path for name, path in paths.items()}
    lines = (
        connections.lines(near_nm=aim.position_nm, longest=_MOST_LINES, syn_ids=aim.syn_ids)
        if connections
        else []
    )
    state: Json = scene(
        layers,
        resolution,
        aim.position_nm,
        aim.selection,
        contrast=contrast,
        lines=lines,
        nm_per_pixel=aim.nm_per_pixel,
        channel=channel,
    )
    return server.show(state)
