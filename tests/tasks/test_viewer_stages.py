"""What a run lays beside its layers: properties, annotations, meshes, skeletons; read by others."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from cloudvolume import CloudVolume
from neuroglancer.read_precomputed_annotations import AnnotationReader

from cnapse.config import Config
from cnapse.names import load_types
from cnapse.store import Store
from cnapse.tables import flag_names, read_table
from cnapse.viewing.additions import additions_of
from cnapse.volumes.reader import open_layer
from cnapse_tasks import properties
from cnapse_tasks.driver import Options, run_stages
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, stages_of

ADDED = {
    "properties",
    "survey",
    "annotate",
    "fuse_annotations",
    "mesh_synapses",
    "fuse_synapses",
    "mesh_cells",
    "fuse_cells",
    "skeletonize_cells",
    "fuse_skeletons",
}
MESHES = {"mip": 1, "shape": (48, 64, 12), "skeletons": True}


def names_of(tissue) -> str:
    return f"{tissue.folder}/names.csv"


def config_of(tissue, output, **changes) -> Config:
    """Everything on; two cells have names, one of them in no synapse."""
    text = "id,name,type\n7,AVAL,inter neuron|command\n99999999,LOST,#glia\n"
    Path(names_of(tissue)).write_text(text)
    values = {
        "names": names_of(tissue),
        "viewer": {"properties": True, "annotations": True},
        "meshes": MESHES,
    }
    return tissue.config(output, **(values | changes))


@pytest.fixture(scope="module")
def shown(tissue, tmp_path_factory, fingerprint, run_here):
    """A run with all of it, and what its inputs held before."""
    given = {name: Store(f"file://{tissue.folder}").read(name) for name in inputs(tissue)}
    config = config_of(tissue, tmp_path_factory.mktemp("shown") / "out", block=(160, 128, 20))
    run_here(config)
    assert not ADDED - {stage.name for stage in stages_of(Run(config))}
    return config, fingerprint(config), given


def inputs(tissue) -> list[str]:
    return [name for name in Store(f"file://{tissue.folder}").names() if name != "names.csv"]


def test_inputs_are_as_they_were(shown, tissue) -> None:
    """Nothing is written into a layer that was made elsewhere."""
    store = Store(f"file://{tissue.folder}")
    assert {name: store.read(name) for name in inputs(tissue)} == shown[2]


def test_all_sources_are_found(shown) -> None:
    config, _, _ = shown
    assert additions_of(config.output) == {
        "cells": [f"{config.output}/{n}/cells" for n in ("properties", "meshes", "skeletons")],
        "synapses": [f"{config.output}/{n}/synapses" for n in ("properties", "meshes")],
        "annotations": [f"{config.output}/annotations/partners"],
    }
    nowhere = additions_of(f"{config.output}/nowhere")
    assert nowhere == {"cells": [], "synapses": [], "annotations": []}


# --- properties ---------------------------------------------------------------------------------


def properties_of(config, layer) -> tuple[list[str], dict[str, dict]]:
    info = json.loads(Store(config.output).read(f"properties/{layer}/info"))
    assert info["@type"] == "neuroglancer_segment_properties"
    return info["inline"]["ids"], {p["id"]: p for p in info["inline"]["properties"]}


def test_cells_are_found_by_name_type_and_numbers(shown) -> None:
    config, _, _ = shown
    synapses, partners = (
        read_table(f"{config.output}/tables/{n}") for n in ("synapses", "partners")
    )
    ids, found = properties_of(config, "cells")
    cells = {*synapses["pre_id"], *partners["post_id"], 7, 99999999} - {0}
    assert ids == [str(cell) for cell in sorted(cells)]
    label = dict(zip(ids, found["label"]["values"], strict=True))
    assert label.pop("7") == "AVAL"
    assert label.pop("99999999") == "LOST"
    assert all(name == cell for cell, name in label.items())
    tags = found["tags"]
    words = [[tags["tags"][n] for n in own] for own in tags["values"]]
    assert words[ids.index("7")] == ["command", "inter_neuron"]
    assert words[ids.index("99999999")] == ["glia"]
    for cell, inputs, outputs, received in zip(
        ids,
        *(found[name]["values"] for name in ("inputs", "outputs", "input_size")),
        strict=True,
    ):
        assert inputs == (partners["post_id"] == int(cell)).sum()
        assert outputs == (synapses["pre_id"] == int(cell)).sum()
        assert received == pytest.approx(partners["size"][partners["post_id"] == int(cell)].sum())


def test_synapses_are_found_by_partners_and_flags(shown) -> None:
    config, _, _ = shown
    synapses, partners = (
        read_table(f"{config.output}/tables/{n}") for n in ("synapses", "partners")
    )
    ids, found = properties_of(config, "synapses")
    assert ids == [str(i) for i in synapses["syn_id"]]
    assert found["partners"]["values"] == synapses["n_partners"].tolist()
    np.testing.assert_allclose(found["size"]["values"], synapses["size"], rtol=1e-6)
    flags = [[found["tags"]["tags"][n] for n in own] for own in found["tags"]["values"]]
    assert flags == [sorted(filter(None, flag_names(f).split("|"))) for f in synapses["flags"]]
    first = partners[partners["syn_id"] == synapses["syn_id"].iloc[0]]
    pre, posts = found["label"]["values"][0].split(" -> ")
    assert pre == synapses["pre"].iloc[0]
    assert posts.split(", ") == first.sort_values("share", ascending=False)["post"].tolist()


def test_above_the_limit_cells_with_few_synapses_and_all_synapses_are_left_out(
    shown, tmp_path, monkeypatch
) -> None:
    config = again(shown, tmp_path)
    for module in (properties, "cnapse.viewing.segment_properties"):
        name = "MOST_SEGMENTS"
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.{name}", 5)
    run = Run(config)
    properties.forget(run)
    facts = properties.execute(run, 0)
    ids, found = properties_of(config, "cells")
    assert len(ids) == 5
    assert facts["cells_left_out"] > 0
    every = properties_of(shown[0], "cells")[1]
    sums = np.add(every["inputs"]["values"], every["outputs"]["values"])
    kept = np.add(found["inputs"]["values"], found["outputs"]["values"])
    assert sorted(kept) == sorted(sums)[-5:]
    assert not Store(config.output).exists("properties/synapses/info")


def test_types_need_a_header(tmp_path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("5,AVA,inter\n")
    assert load_types(str(path)) == {}
    path.write_text("id,name,side,Type,type2\n5,AVA,left,inter; command ,x\n6,AVB,right,,\n")
    assert load_types(str(path)) == {5: ["inter", "command", "x"]}


# --- annotations --------------------------------------------------------------------------------


def test_lines_are_the_rows_of_the_table(shown) -> None:
    """Read by neuroglancer's own reader, by id and by related cell."""
    config, _, _ = shown
    reader = AnnotationReader(f"{config.output}/annotations/partners")
    synapses, partners = (
        read_table(f"{config.output}/tables/{n}") for n in ("synapses", "partners")
    )
    info = json.loads(Store(config.output).read("annotations/partners/info"))
    names = [own["id"] for own in info["properties"]]
    assert set(names) == {"size", "share", "doubt", "flags", "partners", "colour"}
    doubt = synapses.set_index("syn_id")["doubt"]
    rank = partners.groupby("syn_id").cumcount()
    for row, place in list(zip(partners.to_dict("records"), rank, strict=True))[::5]:
        line = reader.by_id[row["syn_id"] * 1024 + place]
        ends = [
            [row[f"{end}{axis}{rest}"] for axis in "xyz"]
            for end, rest in (("", "_pos"), ("post_", ""))
        ]
        np.testing.assert_allclose(line.pointA * [4, 4, 50], ends[0], rtol=1e-6)
        np.testing.assert_allclose(line.pointB * [4, 4, 50], ends[1], rtol=1e-6)
        values = dict(zip(names, line.props, strict=True))
        assert values["size"] == pytest.approx(row["size"], rel=1e-6)
        assert values["share"] == pytest.approx(row["share"], rel=1e-6)
        assert values["doubt"] == pytest.approx(doubt[row["syn_id"]], rel=1e-6)
        assert values["partners"] == row["n_partners"]
        related = [int(segment) for own in line.segments for segment in own]
        assert related == [row["pre_id"], row["post_id"], row["syn_id"]]
    cell = partners["post_id"].mode()[0]
    found = reader.relationships["postsynaptic cell"][int(cell)]
    assert len(found) == (partners["post_id"] == cell).sum() > 1


# --- meshes -------------------------------------------------------------------------------------


def mesh_layer(config, layer, folder) -> CloudVolume:
    """CloudVolume reads meshes only as those of a layer: one made for them."""
    source = config.output.removeprefix("file://")
    for kind in ("meshes", "skeletons"):
        if Path(f"{source}/{kind}/{layer}").exists():
            shutil.copytree(f"{source}/{kind}/{layer}", folder / kind)
    scale = {
        "key": "1", "size": [64] * 3, "resolution": [1] * 3, "chunk_sizes": [[64] * 3],
        "encoding": "raw", "voxel_offset": [0] * 3,
    }  # fmt: skip
    info = {
        "@type": "neuroglancer_multiscale_volume", "data_type": "uint64", "num_channels": 1,
        "type": "segmentation", "mesh": "meshes", "skeletons": "skeletons", "scales": [scale],
    }  # fmt: skip
    (folder / "info").write_text(json.dumps(info))
    return CloudVolume(f"file://{folder}", progress=False)


def boxes_of(labels, box) -> dict[int, np.ndarray]:
    """First and last corner in nm of each object."""
    found = {}
    for label in np.unique(labels[labels != 0]).tolist():
        voxels = np.argwhere(labels == label) + box.start
        found[label] = np.array([voxels.min(0), voxels.max(0) + 1]) * box.resolution
    return found


@pytest.mark.parametrize("sharded", [True, False])
def test_meshes_have_the_extent_of_their_objects(shown, tissue, tmp_path, sharded) -> None:
    """Every object has a mesh, and its box is that of its voxels up to one voxel of the mesh."""
    config = shown[0]
    if not sharded:
        config = again(shown, tmp_path, meshes={**MESHES, "sharded": False})
        for name in ("fuse_cells", "fuse_synapses"):
            stage, run = STAGES[name].module, Run(config)
            stage.forget(run)
            stage.execute(run, 0)
            stage.finish(run)
        assert not Store(config.output).exists("meshes/cells/0.shard")
    sources = {"cells": tissue.folder / "cells", "synapses": f"{config.output}/synapses"}
    for layer, path in sources.items():
        folder = tmp_path / f"as_{layer}"
        folder.mkdir()
        volume = mesh_layer(config, layer, folder)
        box = tissue.box.at((8, 8, 50))
        expected = boxes_of(open_layer(path, resolution=box.resolution).read(box), box)
        assert len(expected) > 10
        for label, corners in expected.items():
            vertices = volume.mesh.get(label)[label].vertices
            found = np.array([vertices.min(0), vertices.max(0)])
            assert (np.abs(found - corners) <= box.resolution).all(), (layer, label)


def test_skeletons_run_through_their_cells(shown, tissue, tmp_path) -> None:
    config, _, _ = shown
    volume = mesh_layer(config, "cells", tmp_path)
    tall = [c for c, b in boxes_of(tissue.cells, tissue.box).items() if b[1, 2] - b[0, 2] >= 900]
    assert len(tall) > 10
    for cell in tall[::4]:
        skeleton = volume.skeleton.get(cell)
        place = np.floor(skeleton.vertices / [4, 4, 50]).astype(int) - tissue.box.start
        inside = tissue.cells[tuple(np.clip(place, 0, np.array(tissue.box.shape) - 1).T)] == cell
        assert inside.mean() > 0.8
        assert np.ptp(skeleton.vertices[:, 2]) > 600
        assert len(skeleton.edges) == len(skeleton.vertices) - 1
        assert (skeleton.radius > 0).any()


# --- nothing depends on how it was made ---------------------------------------------------------


def again(shown, tmp_path, **changes) -> Config:
    """The same run in another folder, complete."""
    output = tmp_path / "again"
    shutil.copytree(shown[0].output.removeprefix("file://"), output)
    values = shown[0].model_dump(mode="json") | {"output": f"file://{output}"} | changes
    return Config.from_dict(values)


@pytest.mark.parametrize(
    "killed",
    [("annotate", "fuse_cells"), pytest.param(tuple(sorted(ADDED)), marks=pytest.mark.soak)],
    ids=["two", "all"],
)
def test_workers_killed_leave_no_trace(shown, tmp_path, fingerprint, kill_in, killed) -> None:
    """SIGKILL once in each stage, in the middle of a file or after the data."""
    config = without_added(again(shown, tmp_path))
    modes = ("before_record", "in_a_write")
    not_killed = kill_in({name: modes[n % 2] for n, name in enumerate(killed)})
    run_stages(config, Options(workers=2))
    assert not_killed() == []
    assert fingerprint(config) == shown[1]


def without_added(config) -> Config:
    """The same, as if these stages had not run yet."""
    store = Store(config.output)
    for name in ADDED:
        store.delete_folder(f".cnapse/{name}")
    for folder in ("properties", "annotations", "meshes", "skeletons"):
        store.delete_folder(folder)
    return config


def test_every_task_may_run_twice_in_any_order(shown, tmp_path, fingerprint) -> None:
    config = again(shown, tmp_path)
    run = Run(config)
    for stage in stages_of(run):
        if stage.name in ADDED:
            order = list(stage.module.indices(run))
            random.Random(3).shuffle(order)
            for index in order:
                stage.module.execute(run, index)
            getattr(stage.module, "finish", lambda _run: None)(run)
    assert fingerprint(config) == shown[1]


def test_what_was_made_of_older_synapses_goes_with_them(shown, tmp_path, run_here) -> None:
    """Also if the run no longer asks for it; what does not depend on synapses stays."""
    config = again(shown, tmp_path, meshes=None, label={"min_voxels": 9}, viewer={})
    off = {"properties": False, "annotations": False}
    config = config.model_copy(update={"viewer": type(config.viewer)(**off)})
    run_here(config, last="label", redo=True)
    left = additions_of(config.output)
    assert left["synapses"] == left["annotations"] == []
    assert left["cells"] == [f"{config.output}/{n}/cells" for n in ("meshes", "skeletons")]


def test_the_interrupted_is_not_shown(shown, tmp_path, run_here) -> None:
    """Without its last shard a folder has no info; the next run writes it."""
    config = again(shown, tmp_path)
    Store(config.output).delete(["meshes/cells/info", ".cnapse/fuse_cells/done/0.json"])
    assert f"{config.output}/meshes/cells" not in additions_of(config.output)["cells"]
    run_here(config)
    assert f"{config.output}/meshes/cells" in additions_of(config.output)["cells"]
