"""Whole skeletons of cells, one task a shard."""

from cnapse_tasks.mesh_stages import skeletons

_stage = skeletons("cells")
components, indices, cost = _stage.components, _stage.indices, _stage.cost
prepare, execute, finish, forget = _stage.prepare, _stage.execute, _stage.finish, _stage.forget
