"""A run from a probability map to objects: resumed, changed, redone, failed."""

import json
from pathlib import Path

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from cnapse.config import Config
from cnapse.errors import BoundsError, ConfigError, RunStateError, TasksFailedError
from cnapse.geometry import Box
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.driver import Options, cancel, plan_costs, retry, run_stages, status
from cnapse_tasks.ledger import Ledger

SHAPE = (70, 50, 12)
START = (1001, -37, 5)
BOX = Box.from_shape(SHAPE, (4, 4, 50), START)


@pytest.fixture(scope="module")
def probability(tmp_path_factory) -> tuple[str, np.ndarray]:
    """A layer of random blobs."""
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.random(SHAPE), (4, 4, 1))
    values = np.asfortranarray(255 * (smooth - smooth.min()) / np.ptp(smooth), dtype=np.uint8)
    path = str(tmp_path_factory.mktemp("map") / "probability")
    writer = create_layer(path, kind="image", dtype="uint8", bounds=BOX, chunk_size=(16, 16, 4))
    writer.write(values, BOX)
    return path, values


@pytest.fixture
def config(probability, tmp_path) -> Config:
    return made(probability[0], tmp_path / "out")


def made(path: str, output: Path, **changes) -> Config:
    values = {
        "output": f"file://{output}",
        "resolution": (4, 4, 50),
        "layers": {"probability": f"file://{path}"},
        "block": (32, 48, 8),
        "label": {"threshold": 0.7},
    }
    return Config.from_dict(values | changes)


def test_objects_are_those_of_the_whole_volume(config, probability) -> None:
    run_stages(config, Options(workers=2))
    layer = open_layer(f"{config.output}/synapses", mip=0)
    found = layer.read(layer.bounds)
    truth = cc3d.connected_components(probability[1] >= 179, connectivity=26)
    assert truth.max() > 3
    firsts = [np.flatnonzero(truth.ravel("F") == i)[0] + 1 for i in range(1, truth.max() + 1)]
    expected = np.concatenate([[0], firsts]).astype(np.uint64)[truth]
    np.testing.assert_array_equal(found, expected)
    assert all(state.complete for state in status(config))


def test_a_second_run_does_nothing(config, fingerprint, run_here) -> None:
    run_here(config)
    records = sorted(Store(config.output).child(".cnapse").names())
    before = fingerprint(config)

    class Watch:
        def __init__(self) -> None:
            self.begun: list[tuple[str, int, int]] = []

        def begin(self, stage, total, done):
            self.begun.append((stage, total, done))

        def update(self, done): ...
        def end(self): ...

    watch = Watch()
    run_here(config, watch)
    assert watch.begun
    assert all(total == done for _, total, done in watch.begun)
    assert fingerprint(config) == before
    assert sorted(Store(config.output).child(".cnapse").names()) == records


def test_only_what_is_missing_is_made(config, fingerprint, run_here) -> None:
    run_here(config)
    before = fingerprint(config)
    store = Store(config.output)
    ledger = store.child(".cnapse/relabel")
    untouched = ledger.read("done/000000000/000000000001.json")
    ledger.delete(["done/000000000/000000000000.json"])
    scale = open_layer(f"{config.output}/synapses", mip=0).info["scales"][0]["key"]
    store.put(f"synapses/{scale}/1001-1017_-37--21_5-9", b"torn")
    run_here(config)
    assert fingerprint(config) == before
    assert ledger.read("done/000000000/000000000001.json") == untouched


def test_changed_parameters_are_listed_and_redone_on_demand(
    config, probability, tmp_path, fingerprint, run_here
) -> None:
    run_here(config)
    other = made(probability[0], tmp_path / "out", label={"threshold": 0.8, "min_voxels": 5})
    with pytest.raises(RunStateError, match=r"label\.threshold: 0\.7 -> 0\.8.*--redo"):
        run_here(other)
    run_here(other, redo=True)
    fresh = made(probability[0], tmp_path / "fresh", label={"threshold": 0.8, "min_voxels": 5})
    run_here(fresh)
    assert fingerprint(other) == fingerprint(fresh)


def test_a_redo_does_not_leave_out_what_changed_before(
    config, probability, tmp_path, fingerprint, run_here
) -> None:
    run_here(config)
    before = fingerprint(config)
    other = made(probability[0], tmp_path / "out", label={"threshold": 0.8})
    with pytest.raises(RunStateError, match=r"stage label changed .*--from label --redo"):
        run_here(other, first="relabel", redo=True)
    assert fingerprint(config) == before
    assert all(state.complete for state in status(config))


def test_a_missing_label_record_is_no_empty_block(config, run_here) -> None:
    run_here(config)
    store = Store(config.output)
    store.delete([".cnapse/label/data/000000000000.st"])
    with pytest.raises(TasksFailedError, match=r"had 0 in stage label"):
        run_here(config, first="relabel", redo=True)


def test_an_edited_layer_is_noticed_by_its_version(config, probability, run_here) -> None:
    run_here(config, last="label")
    layers = {"probability": {"path": f"file://{probability[0]}", "version": "2"}}
    with pytest.raises(RunStateError, match=r"label\.probability\.version:  -> 2"):
        run_here(Config.from_dict(config.model_dump() | {"layers": layers}))


def test_stages_are_chosen(config, run_here) -> None:
    with pytest.raises(RunStateError, match=r"label is not complete \(0 of 12\).*--from label"):
        run_here(config, first="stitch")
    run_here(config, last="stitch")
    assert [s.stage for s in status(config) if s.complete] == ["label", "stitch"]
    run_here(config, first="relabel", last="relabel")
    with pytest.raises(ConfigError, match="'detect' is not part of this run; its stages are label"):
        run_here(config, first="detect")
    with pytest.raises(ConfigError, match="'lable' is no stage"):
        run_here(config, last="lable")
    with pytest.raises(RunStateError, match="comes after"):
        run_here(config, first="relabel", last="label")


def test_from_with_redo_makes_a_stage_again(config, fingerprint, run_here) -> None:
    run_here(config)
    before = fingerprint(config)
    store = Store(config.output)
    old = store.read(".cnapse/label/done/000000000/000000000000.json")
    store.delete_folder("synapses")
    run_here(config, first="relabel", redo=True)
    assert fingerprint(config) == before
    assert store.read(".cnapse/label/done/000000000/000000000000.json") == old


def test_a_poison_task_is_set_aside_and_the_rest_goes_on(
    config, probability, tmp_path, fingerprint, run_here
) -> None:
    torn = tmp_path / "torn"
    create_layer(torn, kind="image", dtype="uint8", bounds=BOX, chunk_size=(16, 16, 4))
    run_config = made(str(torn), tmp_path / "poison")
    source, target = Store(probability[0]), Store(torn)
    names = [n for n in source.names() if n.startswith("4_4_50/")]
    for name in names[1:]:
        target.put(name, source.read(name))
    with pytest.raises(TasksFailedError, match=r"stage label: 2 of 12 tasks were set aside"):
        run_stages(run_config, Options(workers=1))
    (state, *later) = status(run_config)
    # The chunk lies in one block, and in the shell of another.
    assert (state.done, len(state.aside)) == (10, 2)
    assert "is missing" in state.aside[0].reason
    assert "Traceback" in state.aside[0].traceback
    assert all(s.done == 0 for s in later)
    target.put(names[0], source.read(names[0]))
    run_stages(run_config, Options(workers=1))
    same = made(probability[0], tmp_path / "same")
    run_here(same)
    assert fingerprint(run_config) == fingerprint(same)


def test_bounds_that_are_multiples_of_nothing(probability, tmp_path, fingerprint, run_here) -> None:
    bounds = {"start": (1010, -30, 6), "stop": (1055, 3, 14)}
    inside = Box(bounds["start"], bounds["stop"], BOX.resolution)
    cut = np.zeros(SHAPE, bool)
    cut[inside.slices(BOX)] = (probability[1] >= 179)[inside.slices(BOX)]
    truth = cc3d.connected_components(cut, connectivity=26)
    prints = []
    for number, block in enumerate([(16, 16, 4), (48, 32, 8), (80, 64, 12)]):
        run_config = made(probability[0], tmp_path / str(number), bounds=bounds, block=block)
        run_here(run_config)
        prints.append(fingerprint(run_config))
    layer = open_layer(f"{run_config.output}/synapses", mip=0)
    found = layer.read(layer.bounds)
    assert prints[0] == prints[1] == prints[2]
    np.testing.assert_array_equal(found > 0, cut)
    assert len(np.unique(found)) == truth.max() + 1


def test_mistakes_are_named(probability, tmp_path) -> None:
    path = probability[0]
    with pytest.raises(
        ConfigError, match=r"block \[30, 30, 4\] of label is no multiple.*\[32, 32, 4\]"
    ):
        run_stages(made(path, tmp_path / "o", block=(30, 30, 4)), Options())
    bounds = {"start": (0, 0, 0), "stop": (9, 9, 9)}
    with pytest.raises(BoundsError, match=r"bounds \[0:9 0:9 0:9\].* lie outside of .*probability"):
        run_stages(made(path, tmp_path / "o", bounds=bounds), Options())
    assert not (tmp_path / "o").exists()


def test_a_dry_run_counts_and_writes_nothing(config) -> None:
    costs = dict(plan_costs(config, Options()))
    assert list(costs) == ["label", "stitch", "relabel", "pyramid"]
    assert costs["label"].tasks == 3 * 2 * 2
    assert costs["label"].voxels > BOX.voxels
    assert costs["relabel"].bytes_written == 8 * BOX.voxels
    assert not Path(config.output.removeprefix("file://")).exists()


def test_a_damaged_record_is_made_again(config, fingerprint, run_here) -> None:
    run_here(config)
    before = fingerprint(config)
    store = Store(config.output).child(".cnapse/label")
    name = "done/000000000/000000000003.json"
    whole = store.read(name)
    store.put(name, whole[: len(whole) // 2])
    run_here(config)
    assert store.get_json(name)["key"] == json.loads(whole)["key"]
    assert fingerprint(config) == before


class At:
    """Does something when a stage is at its first tasks."""

    def __init__(self, stage, do):
        self.stage, self.do = stage, do

    def begin(self, stage, total, done):
        if stage == self.stage:
            self.do()

    def update(self, done): ...
    def end(self): ...


def test_a_cancelled_run_stops_and_goes_on(
    config, probability, tmp_path, fingerprint, run_here
) -> None:
    with pytest.raises(RunStateError, match="has no run to cancel"):
        cancel(config)
    with pytest.raises(RunStateError, match="was cancelled: `cnapse run` goes on"):
        run_here(config, At("stitch", lambda: cancel(config)))
    assert not status(config)[1].complete
    run_here(config)
    assert all(state.complete for state in status(config))


def test_a_driver_notices_another_that_begins_anew(config, run_here) -> None:
    def reset():
        store = Store(config.output).child(".cnapse/stitch")
        store.delete(["stage.json"])

    with pytest.raises(RunStateError, match="is being made anew by another driver"):
        run_here(config, At("stitch", reset))


def test_what_was_set_aside_is_new_after_a_retry(config, run_here) -> None:
    run_here(config, last="label")
    ledger = Ledger(Store(config.output).child(".cnapse"), "label")
    ledger.fail(3, ValueError("no"))
    ledger.set_aside(3)
    assert len(status(config)[0].aside) == 1
    assert retry(config) == {"label": 1}
    assert status(config)[0].aside == []
    assert retry(config) == {}
