"""What a model bundle is, in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.registry import is_own
from cnapse.geometry import format_resolution

__all__ = ["described", "written"]

_NETWORKS = {
    "detectem": "U-Net of detectEM",
    "unet": "U-Net of detectEM with running statistics",
}


def described(bundle: ModelBundle) -> dict[str, Any]:
    """All that is known of a model, for JSON."""
    provenance = dict(bundle.provenance)
    return {
        "name": provenance.get("name", ""),
        "architecture": bundle.architecture,
        "options": dict(bundle.options),
        "parameters": bundle.parameters,
        "weights": _float_types(bundle),
        "sections": bundle.sections,
        "classes": list(bundle.classes),
        "receptive_field": None if _is_unbounded(bundle) else asdict(bundle.receptive_field),
        "stride": bundle.receptive_field.stride,
        "tile": list(bundle.tile),
        "halo": bundle.halo,
        "statistics": bundle.statistics,
        "normalization": bundle.normalization.to_dict(),
        "resolution": list(bundle.resolution),
        "training_data": _training_data(provenance),
        "score": provenance.get("score"),
        "provenance": provenance,
        "digest": bundle.digest,
    }


def written(bundle: ModelBundle) -> str:
    """The same for reading, in lines."""
    model = described(bundle)
    lines = {
        "name": model["name"] or "-",
        "architecture": _architecture(bundle),
        "parameters": f"{model['parameters']:,} ({', '.join(model['weights'])})",
        "input": _input(bundle),
        "output": ", ".join(bundle.classes),
        "receptive field": _field(bundle),
        "stride": f"{model['stride']} px",
        "tile, halo": f"{bundle.tile[0]} x {bundle.tile[1]} px, {bundle.halo} px at each side",
        "statistics": _statistics(bundle),
        "resolution": f"{format_resolution(bundle.resolution)}",
        "training data": "; ".join(model["training_data"]) or "not known",
        "score": _score(model["score"]),
        "made by": _made(model["provenance"]),
        "digest": model["digest"],
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _float_types(bundle: ModelBundle) -> list[str]:
    """What the weights are stored as; the counters of norms are none."""
    floats = {value.dtype for value in bundle.weights.values() if value.is_floating_point()}
    return sorted(str(dtype).removeprefix("torch.") for dtype in floats)


def _is_unbounded(bundle: ModelBundle) -> bool:
    return bundle.statistics == "tile"


def _architecture(bundle: ModelBundle) -> str:
    kind = _NETWORKS.get(bundle.architecture, "a network of one's own")
    options = ", ".join(f"{key} {json.dumps(value)}" for key, value in bundle.options.items())
    return f"{bundle.architecture} ({kind}{': ' + options if options else ''})"


def _input(bundle: ModelBundle) -> str:
    normalization = bundle.normalization
    grey = "grey / 255"
    if normalization.kind == "standard":
        grey = f"(grey - {normalization.mean:g}) / {normalization.std:g}"
    n = bundle.sections
    return f"{n} section{'s, the middle one predicted' if n > 1 else ''}; {grey}"


def _field(bundle: ModelBundle) -> str:
    if _is_unbounded(bundle):
        return "the whole tile, through its statistics"
    field = bundle.receptive_field
    return (
        f"{field.first} to {field.last:+} px; {field.before} px before and {field.after} px after "
        f"a cell of {field.stride} px"
    )


def _statistics(bundle: ModelBundle) -> str:
    if bundle.statistics == "tile":
        return "tile: norms take those of each tile, on a fixed grid of tiles"
    if is_own(bundle.architecture):
        return "frozen: tiles leave no trace"
    found = bundle.provenance.get("statistics")
    where = f" (pooled over {len(found['starts'])} windows of {found['image']})" if found else ""
    return f"frozen and folded into the convolutions: tiles leave no trace{where}"


def _training_data(provenance: Mapping[str, Any]) -> list[str]:
    config = provenance.get("config") or {}
    told = []
    for layer in config.get("layers", ()):
        box = ""
        if layer.get("start") and layer.get("stop"):
            box = f" {tuple(layer['start'])} to {tuple(layer['stop'])}"
        told.append(f"{layer['image']}{box}{_held_out(layer)}")
    for made in config.get("phantom", ()):
        shape = " x ".join(map(str, made["shape"]))
        told.append(f"phantom {made['seed']}, {shape}{_held_out(made)}")
    return told


def _held_out(source: Mapping[str, Any]) -> str:
    return " (held out)" if source.get("validation") else ""


def _score(score: Mapping[str, Any] | None) -> str:
    if not score:
        return "not known"
    text = f"object F1 {score['object_f1']:.3f}, voxel F1 {score['voxel_f1']:.3f}"
    objects = score.get("objects")
    if objects:
        text += (
            f" ({objects['true_positives']} found, {objects['false_positives']} false, "
            f"{objects['false_negatives']} missed)"
        )
    return f"{text}, on what was held out"


def _made(provenance: Mapping[str, Any]) -> str:
    made = str(provenance.get("made_by", "not known"))
    details = [f"step {provenance['step']}"] if "step" in provenance else []
    if "checkpoint" in provenance:
        details.append(f"{provenance['checkpoint']}, {provenance['checkpoint_sha256'][:12]}")
    version = provenance.get("versions", {}).get("cnapse")
    details += [f"cnapse {version}"] if version else []
    return f"{made} ({'; '.join(details)})" if details else made
