"""Meshes of cells from their surfaces, one task a shard."""

from cnapse_tasks.mesh_stages import meshes

_stage = meshes("cells")
components, indices, cost = _stage.components, _stage.indices, _stage.cost
prepare, execute, finish, forget = _stage.prepare, _stage.execute, _stage.finish, _stage.forget
