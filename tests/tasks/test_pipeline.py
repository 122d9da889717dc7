"""From a probability map to tables: nothing depends on blocks, workers, order, kills or repeats."""

import json
import random

import neuroglancer
import numpy as np
import pandas as pd
import pytest

from cnapse.errors import ConfigError, RunStateError
from cnapse.partners.assign import Evidence, assign_many
from cnapse.partners.doubt import DoubtLimits, with_doubt
from cnapse.partners.parameters import parameters_of
from cnapse.synapses.measure import measure
from cnapse.tables import SynapseFlag, read_metadata, read_table
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.driver import Options, run_stages
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

STAGES = [
    "label",
    "stitch",
    "relabel",
    "measure",
    "tabulate",
    "assign",
    "gather",
    "export",
    "pyramid",
]


@pytest.fixture(scope="session")
def whole(tissue, tmp_path_factory, fingerprint, run_here):
    """A run in one block, undisturbed."""
    config = tissue.config(tmp_path_factory.mktemp("whole") / "out", block=(160, 128, 20))
    run_here(config)
    return config, fingerprint(config)


def test_tables_are_those_of_the_arrays(whole, tissue) -> None:
    """The tasks give what the library gives for whole arrays."""
    config, _ = whole
    layer = open_layer(f"{config.output}/synapses", mip=0)
    synapses = layer.read(tissue.box)
    expected = measure(synapses, tissue.cells, tissue.box, tissue.probability)
    table = read_table(f"{config.output}/tables/synapses")
    assert len(table) > 10
    same = [c for c in expected if c not in ("flags",)]
    pd.testing.assert_frame_equal(table[same], expected[same])
    rows, per_synapse = assign_many(
        synapses, tissue.cells, tissue.box, expected, parameters_of("cnapse", method="both")
    )
    partners = read_table(f"{config.output}/tables/partners")
    shared = [c for c in rows if c not in ("flags", "n_partners")]
    rows = rows.sort_values(["syn_id", "post_id"], ignore_index=True)
    pd.testing.assert_frame_equal(partners[shared], rows[shared], check_dtype=False)
    np.testing.assert_array_equal(
        table["flags"], expected["flags"].to_numpy() | per_synapse["flags"].to_numpy()
    )


def test_tables_say_how_they_were_made(whole) -> None:
    config, _ = whole
    for name in ("synapses", "partners"):
        made = json.loads(read_metadata(f"{config.output}/tables/{name}")["cnapse_assign"])
        assert made["preset"] == "cnapse"
        assert made["method"] == "both"
        assert made["padding_nm"] == 100
        assert made["reaches_vx"] == {"presynaptic": [2, 2, 2], "lower": [5, 5], "upper": [4, 4]}


def test_doubt_is_that_of_the_rows(whole) -> None:
    config, _ = whole
    table = read_table(f"{config.output}/tables/synapses")
    again = with_doubt(table, DoubtLimits(min_voxels=5, threshold=0.5))
    pd.testing.assert_frame_equal(table, again)
    assert table["doubt"].nunique() > len(table) // 2
    assert (table["disagreement"].dropna() < 0.2).all()


def test_only_listed_cells_are_partners(whole, tissue, tmp_path, run_here) -> None:
    """They take the others' share over; what the transmitter does is the same."""
    config, _ = whole
    partners = read_table(f"{config.output}/tables/partners")
    listed = sorted(partners["post_id"].unique())[::2]
    (tmp_path / "cells.csv").write_text("id\n" + "".join(f"{cell}\n" for cell in listed))
    own = tissue.config(
        tmp_path / "out", assign={"method": "both", "only": str(tmp_path / "cells.csv")}
    )
    run_here(own)
    found = read_table(f"{own.output}/tables/partners")
    expected = partners[partners["post_id"].isin(listed)].reset_index(drop=True)
    for name in ("syn_id", "post_id", "raw_share", "lost"):
        assert found[name].tolist() == expected[name].tolist()
    np.testing.assert_allclose(found.groupby("syn_id")["share"].sum(), 1)
    made = json.loads(read_metadata(f"{own.output}/tables/partners")["cnapse_assign"])
    assert made["only"]["cells"] == len(listed)


def test_sides_of_clefts_come_from_layers(whole, tissue, tmp_path, run_here) -> None:
    """Vesicles in some cells: the blocks give what the arrays give."""
    config, _ = whole
    folder = tmp_path / "vesicles"
    vesicles = np.where(tissue.cells % 3 == 0, 255, 0).astype(np.uint8) * (tissue.cells > 0)
    create_layer(
        folder, kind="image", dtype="uint8", bounds=tissue.box, chunk_size=(64, 64, 8)
    ).write(vesicles, tissue.box)
    layers = config.layers.model_dump(exclude_none=True) | {"vesicles": f"file://{folder}"}
    own = tissue.config(
        tmp_path / "out", layers=layers, assign={"density": "cleft"}, block=(64, 64, 8)
    )
    run_here(own)
    synapses = open_layer(f"{own.output}/synapses", mip=0).read(tissue.box)
    table = measure(synapses, tissue.cells, tissue.box, tissue.probability)
    rows, per_synapse = assign_many(
        synapses, tissue.cells, tissue.box, table,
        parameters_of("cnapse", density="cleft"), evidence=Evidence(vesicles=vesicles),
    )  # fmt: skip
    found = read_table(f"{own.output}/tables/synapses")
    for name in ("pre_id", "pre_fraction", "n_partners"):
        np.testing.assert_array_equal(found[name], per_synapse[name], err_msg=name)
    partners = read_table(f"{own.output}/tables/partners")
    rows = rows.sort_values(["syn_id", "post_id"], ignore_index=True)
    np.testing.assert_array_equal(partners["post_id"], rows["post_id"])
    undecided = (found["flags"].to_numpy() & int(SynapseFlag.UNDECIDED_SIDE)) != 0
    assert 0 < undecided.sum() < len(found)
    assert (found["doubt"][undecided] == 1).all()
    assert not (found["flags"].to_numpy() & int(SynapseFlag.WEAK_PRESYNAPTIC)).any()
    with pytest.raises(ConfigError, match=r'set assign.density = "cleft"'):
        tissue.config(tmp_path / "no", layers=layers, assign={})


def test_tables_hold_together(whole) -> None:
    config, _ = whole
    synapses = read_table(f"{config.output}/tables/synapses").set_index("syn_id")
    partners = read_table(f"{config.output}/tables/partners")
    assert not partners.duplicated(["syn_id", "post_id"]).any()
    assert (partners["pre_id"] != partners["post_id"]).all()
    grouped = partners.groupby("syn_id")
    np.testing.assert_allclose(grouped["share"].sum(), 1)
    np.testing.assert_allclose(grouped["size"].sum(), synapses["size"][grouped["size"].sum().index])
    assert (grouped.size() == synapses["n_partners"][grouped.size().index]).all()
    assert (synapses.drop(partners["syn_id"].unique())["n_partners"] == 0).all()
    assert (synapses.index == synapses["first_voxel"] + 1).all()
    for name in ("synapses", "partners"):
        csv = read_table(f"{config.output}/{name}.csv")
        pd.testing.assert_frame_equal(csv, read_table(f"{config.output}/tables/{name}"))


@pytest.mark.parametrize(("block", "workers"), [((32, 32, 4), 2), ((96, 64, 12), 1)])
def test_blocks_and_workers_leave_no_trace(whole, tissue, tmp_path, fingerprint, block, workers):
    config = tissue.config(tmp_path / "out", block=block)
    run_stages(config, Options(workers=workers))
    assert fingerprint(config) == whole[1]


def test_every_task_may_run_twice_in_any_order(
    tissue, tmp_path, fingerprint, whole, run_here
) -> None:
    config = tissue.config(tmp_path / "out")
    run_here(config)
    run = Run(config)
    for stage in stages_of(run):
        again = list(stage.module.indices(run))
        random.Random(3).shuffle(again)
        for index in again:
            stage.module.execute(run, index)
    assert fingerprint(config) == whole[1]


@pytest.mark.parametrize("turn", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_a_worker_killed_in_each_stage_leaves_no_trace(
    whole, tissue, tmp_path, fingerprint, kill_in, turn
) -> None:
    """SIGKILL once in every stage, after the data or in the middle of a file; it goes on."""
    config = tissue.config(tmp_path / "out")
    stages = [stage.name for stage in stages_of(Run(config))]
    modes = ("in_a_write", "before_record")
    not_killed = kill_in({name: modes[(n + turn) % 2] for n, name in enumerate(stages)})
    run_stages(config, Options(workers=2))
    assert not_killed() == []
    assert len(stages) == len(STAGES)
    assert fingerprint(config) == whole[1]


def test_a_killed_driver_is_taken_up_again(whole, tissue, tmp_path, fingerprint) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    class StopAt:
        def __init__(self, stage: str) -> None:
            self.stage = stage

        def begin(self, stage, total, done):
            self.now = stage

        def update(self, done):
            if self.now == self.stage and done:
                raise Killed

        def end(self): ...

    config = tissue.config(tmp_path / "out")
    for stage in ("label", "measure", "gather"):
        with pytest.raises(Killed):
            run_stages(config, Options(workers=1), StopAt(stage))
    run_stages(config, Options(workers=1))
    assert fingerprint(config) == whole[1]
    assert not (tmp_path / "out/.cnapse/queue").exists()


def test_names_and_links(whole, tissue, tmp_path, run_here) -> None:
    """Tables carry names, and links that open the synapse with its cells selected."""
    known = read_table(f"{whole[0].output}/tables/partners")
    pre = int(known["pre_id"].iloc[0])
    (tmp_path / "names.csv").write_text(f"{pre},AVAL\n")
    link = {
        "image": "precomputed://https://lab.example/image",
        "cells": "precomputed://https://lab.example/cells",
        "synapses": "precomputed://https://lab.example/synapses",
    }
    config = tissue.config(
        tmp_path / "out", block=(160, 128, 20), names=str(tmp_path / "names.csv"), link=link
    )
    run_here(config)
    partners = read_table(f"{config.output}/tables/partners")
    same = [c for c in partners if c not in ("pre", "post", "link")]
    pd.testing.assert_frame_equal(partners[same], known[same])
    for cell, name in (("pre_id", "pre"), ("post_id", "post")):
        expected = ["AVAL" if i == pre else str(i) for i in partners[cell]]
        assert partners[name].tolist() == expected
    state = neuroglancer.parse_url(partners["link"].iloc[0]).to_json()
    layers = {layer["name"]: layer for layer in state["layers"]}
    assert str(pre) in layers["cells"]["segments"]
    assert str(partners["post_id"].iloc[0]) in layers["cells"]["segments"]
    place = np.array(state["position"]) * (4, 4, 50)
    np.testing.assert_allclose(place, partners[["x_pos", "y_pos", "z_pos"]].iloc[0], atol=50)
    (tmp_path / "names.csv").write_text(f"{pre},AVAR\n")
    with pytest.raises(RunStateError, match=r"gather\.names"):
        run_here(config)


def test_a_segmentation_made_elsewhere_keeps_its_ids(whole, tissue, tmp_path, run_here) -> None:
    """A run that starts at `measure`: other ids, the same measures."""
    layer = open_layer(f"{whole[0].output}/synapses", mip=0)
    ours = layer.read(layer.bounds)
    ids = np.unique(ours)
    theirs = np.where(ids == 0, 0, np.uint64(2**40) + np.uint64(977) * ids[::-1])
    labels = np.asfortranarray(theirs[np.searchsorted(ids, ours)])
    writer = create_layer(
        tmp_path / "theirs",
        kind="segmentation",
        dtype="uint64",
        bounds=tissue.box,
        chunk_size=(32, 32, 4),
    )
    writer.write(labels, tissue.box)
    layers = {
        "synapses": f"file://{tmp_path}/theirs",
        "cells": f"file://{tissue.folder}/cells",
        "probability": f"file://{tissue.folder}/probability",
    }
    config = tissue.config(tmp_path / "out", layers=layers)
    run_here(config)
    assert not (tmp_path / "out/synapses").exists()
    found = read_table(f"{config.output}/tables/synapses")
    assert (found["syn_id"].diff().dropna() > 0).all()
    assert set(found["syn_id"]) == set(theirs.tolist()) - {0}
    expected = read_table(f"{whole[0].output}/tables/synapses")
    other = [c for c in found if c not in ("syn_id",)]
    found, expected = (t.sort_values("first_voxel", ignore_index=True) for t in (found, expected))
    pd.testing.assert_frame_equal(found[other], expected[other])
