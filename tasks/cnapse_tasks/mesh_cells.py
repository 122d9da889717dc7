"""Surfaces of cells, one task a block."""

from cnapse_tasks.mesh_stages import surfaces

_stage = surfaces("cells")
components, indices, cost = _stage.components, _stage.indices, _stage.cost
prepare, execute = _stage.prepare, _stage.execute
