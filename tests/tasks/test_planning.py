"""What a plan says is what a run then does."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cloudfiles.interfaces import FileInterface

from cnapse.config import Config
from cnapse.errors import ConfigError, LayerNotFoundError
from cnapse.geometry import Box, Grid
from cnapse.store import Store
from cnapse.volumes.writer import create_layer
from cnapse_tasks.planning.estimate import Machines, plan_of
from cnapse_tasks.planning.loads import OF_A_TASK, load_of
from cnapse_tasks.planning.prices import Prices, default_text, prices
from cnapse_tasks.planning.rates import Rate, Rates, reference
from cnapse_tasks.planning.tissue import USUAL, Scatter, Tissue
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, stages_of

OF_VOXELS = ("detect", "label", "relabel", "pyramid")


@pytest.fixture
def requests(monkeypatch) -> Counter[str]:
    """What is asked of the store: our own small files, and CloudVolume's chunks."""
    asked: Counter[str] = Counter()

    def counted(owner: type, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def call(self, *args, **kwargs):
            asked[kind] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    kinds = {"put": "put", "get": "get", "exists": "get", "names": "list", "delete": "delete"}
    for name, kind in kinds.items():
        counted(Store, name, kind)
    counted(FileInterface, "get_file", "get")
    counted(FileInterface, "put_file", "put")
    return asked


def made(run: Run, requests: Counter[str]) -> dict[str, Counter[str]]:
    """Every stage, task by task in this process, and what each asked."""
    found = {}
    for stage in stages_of(run):
        stage.module.prepare(run)
        indices = list(stage.module.indices(run))
        requests.clear()
        for index in indices:
            stage.module.execute(run, index)
        found[stage.name] = Counter(requests, tasks=len(indices))
    return found


def tissue_of(run: Run) -> Tissue:
    """The density and size that the run found, so that expectations are put to the test."""
    table = run.synapses
    um3 = run.region.voxels * run.region.voxel_volume_nm3 / 1e9
    starts = table[["start_x", "start_y", "start_z"]].to_numpy()
    stops = table[["stop_x", "stop_y", "stop_z"]].to_numpy()
    x, y, z = ((stops - starts).mean(0) * run.config.resolution).tolist()
    density = len(table) / um3
    return Tissue(density, density, density, (x, y, z))


@pytest.mark.parametrize(
    "changes",
    [
        {"block": (64, 64, 8)},
        {"block": (160, 128, 20)},
        {"block": (64, 64, 8), "bounds": {"start": (1021, -20, 9), "stop": (1133, 49, 25)}},
    ],
    ids=["small blocks", "one block", "bounds"],
)
def test_requests_are_those_of_the_run(tissue, tmp_path, requests, changes) -> None:
    run = Run(tissue.config(tmp_path / "out", **changes))
    found = made(run, requests)
    known = tissue_of(run)
    for stage in stages_of(run):
        load = load_of(stage, run, known)
        own, asked = load.requests, found[stage.name]
        records = OF_A_TASK.times(load.tasks)
        assert load.tasks == asked["tasks"], stage.name
        get, put = own.get - records.get, own.put - records.put
        assert own.list == asked["list"], stage.name
        if stage.name == "pyramid":
            assert put == asked["put"]
            assert get <= asked["get"] <= get + 2
        elif stage.name == "relabel":
            # Chunks are exact, records of blocks with objects expected.
            assert put == asked["put"]
            assert get == pytest.approx(asked["get"], rel=0.05)
        elif stage.name == "label":
            # The first task also opens the layer.
            chunks = asked["get"] - 1
            assert get == chunks
            assert put == pytest.approx(asked["put"], rel=0.5)
        elif stage.name not in ("gather", "export"):
            assert get == pytest.approx(asked["get"], rel=0.6, abs=8), stage.name
            assert put == pytest.approx(asked["put"], rel=0.5, abs=4), stage.name


def test_every_file_that_a_run_leaves_was_planned(tissue, tmp_path, run_here) -> None:
    """With a block that holds everything nothing is left to chance: the count is exact."""
    config = tissue.config(tmp_path / "out", block=(160, 128, 20), storage={"sharded": True})
    run_here(config)
    run = Run(config)
    crowded = replace(USUAL, density_um3=1e6)  # there are synapses, for certain
    planned = {s.name: load_of(s, run, crowded).files for s in stages_of(run)}
    assert sum(planned.values()) == len(Store(config.output).names())
    for stage in stages_of(run):
        left = Store(config.output).names(f".cnapse/{stage.name}")
        public = len(OUTSIDE[stage.name](run)) if stage.name in OUTSIDE else 0
        assert planned[stage.name] == len(left) + public, stage.name


OUTSIDE = {
    "relabel": lambda run: [
        name for name in run.output.names("synapses") if "/" not in name or name.startswith("4_")
    ],
    "pyramid": lambda run: [
        name for name in run.output.names("synapses") if name.startswith(("8_", "16_"))
    ],
    "tabulate": lambda run: run.output.names("measures"),
    "gather": lambda run: run.output.names("tables"),
    "export": lambda run: ["synapses.csv", "partners.csv"],
    "shard": lambda run: run.output.names("sharded"),
}


def test_detect_is_counted_to_the_chunk_and_the_pixel(tmp_path, requests, monkeypatch) -> None:
    from cnapse.detection import inference

    box = Box.from_shape((300, 150, 6), (4, 4, 50), (100, -20, 3))
    rng = np.random.default_rng(3)
    writer = create_layer(
        tmp_path / "image", kind="image", dtype="uint8", bounds=box, chunk_size=(64, 64, 4)
    )
    writer.write(np.asfortranarray(rng.integers(1, 255, box.shape, np.uint8)), box)
    run = Run(
        Config.from_dict(
            {
                "output": f"file://{tmp_path}/run",
                "resolution": (4, 4, 50),
                "layers": {"image": f"file://{tmp_path}/image"},
                "detect": {"model": "phantom", "tile": (128, 128)},
                "bounds": {"start": (230, -20, 4), "stop": (390, 60, 7)},
            }
        )
    )
    pixels = 0
    original = inference._predicted

    def counted(image, read, write, *rest):
        nonlocal pixels
        for tile, levels in original(image, read, write, *rest):
            pixels += math.prod(n + 2 * run.tiled_model.halo for n in tile.shape[:2])
            yield tile, levels

    monkeypatch.setattr(inference, "_predicted", counted)
    asked = _detect(run, requests)
    load = load_of(STAGES["detect"], run, USUAL)
    width = run.model.options["widths"][0]
    assert load.tasks == asked["tasks"]
    assert load.requests.get - OF_A_TASK.get * load.tasks == asked["get"] - _opened(asked)
    assert load.requests.put - OF_A_TASK.put * load.tasks == asked["put"]
    assert load.work["pixel"] == pixels * (width / 16) ** 2
    assert load.predicted == run.region.voxels
    assert load.bytes_written == run.frame.voxels


def _detect(run: Run, requests: Counter[str]) -> Counter[str]:
    stage = STAGES["detect"]
    stage.module.prepare(run)
    run.layer("image").read(Box.from_shape((1, 1, 1), (4, 4, 50), run.frame.start))
    requests.clear()
    indices = list(stage.module.indices(run))
    for index in indices:
        stage.module.execute(run, index)
    return Counter(requests, tasks=len(indices))


def _opened(asked: Counter[str]) -> int:
    """Requests for the info of the layer that is written."""
    return 1


def test_tasks_and_voxels_are_those_of_the_dry_run(tissue, tmp_path) -> None:
    run = Run(tissue.config(tmp_path / "out"))
    crowded = replace(USUAL, density_um3=1e6)  # no block is passed over
    for stage in stages_of(run):
        cost, load = stage.module.cost(run), load_of(stage, run, crowded)
        assert load.tasks == cost.tasks, stage.name
        if stage.name in ("label", "relabel", "measure", "pyramid"):
            assert load.voxels == cost.voxels, stage.name
            assert load.bytes_read == pytest.approx(cost.bytes_read), stage.name


def test_objects_scattered_at_random_are_cut_as_expected() -> None:
    region = Box.from_shape((4000, 4000, 400), (4, 4, 50))
    tissue = Tissue(1.0, 1.0, 1.0, (120.0, 200.0, 300.0))
    scatter = Scatter(tissue, region)
    assert scatter.extent == (30, 50, 6)
    rng = np.random.default_rng(5)
    block = np.array([256, 128, 32])
    first = rng.integers(0, 10**6, (20_000, 3)) * 1
    last = first + np.array([30, 50, 6]) - 1
    parts = (last // block - first // block + 1).prod(1)
    grid = Grid(region, (256, 128, 32))
    assert scatter.pieces(grid) == pytest.approx(parts.mean(), rel=0.03)
    assert scatter.whole(grid) == pytest.approx((parts == 1).mean(), rel=0.05)
    assert scatter.pieces(Grid(region, region.shape)) == scatter.whole(Grid(region, region.shape))
    assert scatter.synapses == pytest.approx(4000 * 4000 * 400 * 16 * 50 / 1e9)


# --- hours and money ----------------------------------------------------------------------------

EXAMPLE = Prices.from_dict(
    {
        "as_of": "today",
        "cpu": {"per_hour": 8.0, "cores": 8, "memory_gb": 1000, "spot": 0.25},
        "gpu": {"per_hour": 3.0, "gpus": 2, "spot": 0.5},
        "store": {"per_1000_put": 1.0, "per_1000_get": 0, "per_1000_list": 0, "per_gb_month": 0},
        "queue": {"per_million": 0},
    }
)


def even(seconds: float) -> Rates:
    """An hour of work for every unit of label, none for the rest."""
    rates = {name: Rate(0, 0, 0) for name in reference().rates}
    rates["label.voxel"] = Rate(seconds, seconds / 2, seconds * 3)
    return replace(reference(), rates=rates)


def test_hours_wall_time_and_money_follow_from_the_rates(tissue, tmp_path) -> None:
    run = Run(tissue.config(tmp_path / "out"))
    stages = stages_of(run)
    load = load_of(STAGES["label"], run, USUAL)
    rates = even(3600 / load.voxels)
    one = plan_of(run, stages, USUAL, rates, Machines(1), EXAMPLE)
    assert one.core_hours.middle == pytest.approx(1)
    assert one.core_hours.low == pytest.approx(0.5)
    assert one.core_hours.high == pytest.approx(3)
    assert one.wall_seconds.middle == pytest.approx(3600)
    bill = {money.what: money for money in one.money}
    assert bill["CPU instances"].on_demand.middle == pytest.approx(1.0)
    assert bill["CPU instances"].spot.middle == pytest.approx(0.25)
    assert bill["store: requests"].on_demand.middle == pytest.approx(one.requests.put / 1000)
    # 18 tasks on 4 workers: the busiest has 5 of them.
    assert load.tasks == 18
    four = plan_of(run, stages, USUAL, rates, Machines(4), EXAMPLE)
    assert four.wall_seconds.middle == pytest.approx(3600 * 5 / 18)
    many = plan_of(run, stages, USUAL, rates, Machines(1000), EXAMPLE)
    assert many.wall_seconds.middle == pytest.approx(3600 / 18)
    assert many.core_hours == one.core_hours


def test_workers_that_need_more_memory_leave_cores_idle(tissue, tmp_path) -> None:
    run = Run(tissue.config(tmp_path / "out"))
    needs = load_of(STAGES["label"], run, USUAL).memory_bytes
    small = EXAMPLE.cpu.model_copy(update={"memory_gb": 2.5 * needs / 1e9})
    table = EXAMPLE.model_copy(update={"cpu": small})
    voxels = load_of(STAGES["label"], run, USUAL).voxels
    plan = plan_of(run, stages_of(run), USUAL, even(3600 / voxels), Machines(1), table)
    bill = {money.what: money.on_demand.middle for money in plan.money}
    assert bill["CPU instances"] == pytest.approx(8.0 / 2)


def test_a_gpu_is_paid_for_only_if_its_speed_is_given(tmp_path) -> None:
    box = Box.from_shape((512, 512, 32), (4, 4, 50))
    create_layer(
        tmp_path / "image", kind="image", dtype="uint8", bounds=box, chunk_size=(64, 64, 16)
    )
    values = {
        "output": f"file://{tmp_path}/run",
        "resolution": (4, 4, 50),
        "layers": {"image": f"file://{tmp_path}/image"},
        "detect": {"model": "phantom", "device": "cuda"},
    }
    run = Run(Config.from_dict(values))
    unknown = plan_of(run, stages_of(run), USUAL, reference(), Machines(4), EXAMPLE)
    assert unknown.gpu_hours is None
    assert unknown.stages[0].wall_seconds is None
    assert "GPU instances" not in [money.what for money in unknown.money]
    known = plan_of(run, stages_of(run), USUAL, reference(), Machines(4, 2, 0.5), EXAMPLE)
    assert known.gpu_hours is not None
    hours = box.voxels / 0.5e6 / 3600
    assert known.gpu_hours.middle == pytest.approx(hours)
    bill = {money.what: money.on_demand.middle for money in known.money}
    assert bill["GPU instances"] == pytest.approx(hours * 3.0 / 2)


def test_more_synapses_take_more_of_everything(tissue, tmp_path) -> None:
    run = Run(tissue.config(tmp_path / "out"))

    def of(density: float):
        known = replace(USUAL, density_um3=density, low=density, high=density)
        return plan_of(run, stages_of(run), known, reference(), Machines(1), EXAMPLE)

    few, many = of(0.1), of(10)
    assert few.requests.get < many.requests.get
    assert few.core_hours.middle < many.core_hours.middle
    assert few.stored_bytes < many.stored_bytes


# --- the price table ----------------------------------------------------------------------------


def test_the_price_table_says_that_it_is_an_example() -> None:
    assert prices(None).example
    assert "EXAMPLE" in default_text().splitlines()[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("per_hour = 0.34\n", "", "{file}: key 'cpu.per_hour' is missing"),
        ("spot = 0.35", "spott = 0.35", "{file}: unknown key 'cpu.spott'; did you mean 'spot'?"),
        (
            "per_1000_put = 0.005",
            'per_1000_put = "free"',
            (
                "{file}: store.per_1000_put = 'free': input should be a valid number, unable to "
                "parse string as a number"
            ),
        ),
        (
            "cores = 8",
            "cores = 0",
            "{file}: cpu.cores = 0: input should be greater than or equal to 1",
        ),
    ],
)
def test_a_bad_price_is_named(tmp_path, old, new, message) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(default_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        prices(file)
    assert str(error.value) == message.format(file=file)


def test_no_price_table(tmp_path) -> None:
    with pytest.raises(LayerNotFoundError, match=r"prices\.toml: no such price table"):
        prices(tmp_path / "prices.toml")


def test_reference_rates_cover_every_unit_of_every_stage(tissue, tmp_path) -> None:
    known = reference().rates
    run = Run(tissue.config(tmp_path / "out"))
    units = {
        f"{stage.name}.{unit}"
        for stage in stages_of(run)
        for unit in load_of(stage, run, USUAL).work
        if unit != "task"
    }
    assert units | {"task", "start", "detect.pixel", "pyramid.probability", "join.block"} <= set(
        known
    )
    assert all(0 <= r.low <= r.seconds <= r.high for r in known.values())
    assert Path(STAGES["label"].module.__file__).exists()
