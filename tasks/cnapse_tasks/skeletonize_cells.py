"""Skeletons of cells, one task a block."""

from cnapse_tasks.mesh_stages import wires

_stage = wires("cells")
components, indices, cost = _stage.components, _stage.indices, _stage.cost
prepare, execute = _stage.prepare, _stage.execute
