"""What a run lays beside its layers for the viewer: properties, meshes, skeletons, annotations.

Each is a folder with an ``info`` of its own, and a further source of a layer that is there anyway.
So a layer made elsewhere is never touched.
"""

from __future__ import annotations

from typing import Literal

from cnapse.store import Store

__all__ = ["ANNOTATIONS", "Addition", "Segmented", "addition_name", "additions_of"]

Addition = Literal["properties", "meshes", "skeletons"]
Segmented = Literal["cells", "synapses"]

ANNOTATIONS = "annotations/partners"
"""Folder of the lines from presynaptic to postsynaptic cells."""

_KINDS: tuple[Addition, ...] = ("properties", "meshes", "skeletons")
_LAYERS: tuple[Segmented, ...] = ("cells", "synapses")


def addition_name(kind: Addition, layer: Segmented) -> str:
    """The folder of an addition, in a run's output: ``meshes/cells``."""
    return f"{kind}/{layer}"


def additions_of(output: str) -> dict[str, list[str]]:
    """What is there, of a run's output folder.

    Parameters
    ----------
    output : str
        The run's output, local or in a bucket.

    Returns
    -------
    dict of str to list of str
        Full paths: for ``cells`` and ``synapses`` the additional sources of that layer, for
        ``annotations`` the layer of partners. What was not made, or not yet to its end, is left
        out: Neuroglancer refuses a whole layer if one of its sources is missing.
    """
    store = Store(output)
    folders: dict[str, list[str]] = {
        layer: [addition_name(kind, layer) for kind in _KINDS] for layer in _LAYERS
    }
    folders["annotations"] = [ANNOTATIONS]
    return {
        layer: [f"{store.path}/{name}" for name in names if store.exists(f"{name}/info")]
        for layer, names in folders.items()
    }
