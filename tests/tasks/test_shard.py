"""Sharded copies of what a run makes, as its last stage."""

import json

import numpy as np
import pytest

from cnapse.config import StorageSection
from cnapse.errors import ConfigError
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse_tasks import shard
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of


def test_the_last_stage_packs_every_scale(tissue, tmp_path) -> None:
    config = tissue.config(
        tmp_path / "out",
        pyramid={"levels": 1},
        storage={"sharded": True, "synapses": "raw"},
    )
    run = Run(config)
    assert stages_of(run)[-1].name == "shard"
    assert shard.cost(run).tasks is None
    run.create_output("synapses")
    run.writer("synapses").write(np.where(tissue.probability > 127, tissue.cells, 0), tissue.box)
    for stage in stages_of(run)[-2:]:
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)
    store = Store(f"{config.output}/sharded/synapses")
    scales = json.loads(store.read("info"))["scales"]
    assert [scale["encoding"] for scale in scales] == ["raw", "raw"]
    assert len(store.names()) < 10
    for mip in range(2):
        source = open_layer(f"{config.output}/synapses", mip=mip)
        voxels = source.read(source.bounds)
        assert voxels.any()
        found = open_layer(store.path, mip=mip)
        np.testing.assert_array_equal(found.read(source.bounds), voxels)
    # A task is known by its number alone.
    before = {name: store.read(name) for name in store.names()}
    run = Run(config)
    store.delete([name for name in before if name.endswith(".shard")])
    for index in reversed(shard.indices(run)):
        shard.execute(run, index)
    assert {name: store.read(name) for name in store.names()} == before


def test_how_layers_are_stored_is_kept_where_it_is_not_the_default(tissue, tmp_path) -> None:
    run = Run(tissue.config(tmp_path / "a"))
    assert run.storage_components("synapses") == {}
    run = Run(tissue.config(tmp_path / "a", storage={"synapses": "compresso"}))
    assert run.storage_components("synapses") == {"encoding": "compresso"}
    assert run.storage_components("probability") == {}


def test_only_what_keeps_every_voxel(tissue, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"storage.probability = 'jpeg': input should be 'raw'"):
        tissue.config(tmp_path / "a", storage={"probability": "jpeg"})
    assert StorageSection().sharded is False
