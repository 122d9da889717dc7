"""Damaged intermediate files are found, made again by the task that made them, and named."""

import contextlib
import random

import pytest

from cnapse.errors import DamagedFileError
from cnapse.store import Store
from cnapse_tasks import recovery
from cnapse_tasks.recovery import execute_repairing, maker_of
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

HANDED_ON = ("label", "stitch", "measure", "tabulate", "assign")


def do_stages(config, after=lambda stage, store: None) -> dict[str, int]:
    """All tasks of all stages in this process; how many files were made again, by stage."""
    repaired: dict[str, int] = {}
    for stage in stages_of(Run(config)):
        run = Run(config)
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            facts = execute_repairing(run, stage.name, index)
            repaired[stage.name] = repaired.get(stage.name, 0) + int(facts.get("repaired", 0))
        after(stage.name, Store(config.output))
    return repaired


def flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


@pytest.fixture(scope="module")
def undisturbed(tissue, tmp_path_factory):
    config = tissue.config(
        tmp_path_factory.mktemp("undisturbed") / "out", pyramid={"levels": 0},
        assign={"method": "contact"},
    )  # fmt: skip
    assert sum(do_stages(config).values()) == 0
    return config


@pytest.mark.parametrize("damage", [flipped, truncated])
def test_damaged_files_are_made_again(undisturbed, tmp_path, fingerprint, damage) -> None:
    """Every stage's files, several of each."""
    rng = random.Random(5)
    hit: dict[str, int] = {}

    def spoil(stage, store):
        if stage not in HANDED_ON:
            return
        names = store.names(f".cnapse/{stage}/data")
        for name in rng.sample(names, min(3, len(names))):
            path = f".cnapse/{stage}/data/{name}"
            if damage is flipped and name.endswith(".parquet"):
                # Their checksums cover the pages, not a flag of the footer.
                store.put(path, store.read(path)[:-9])
            else:
                store.put(path, damage(store.read(path), rng))
            hit[stage] = hit.get(stage, 0) + 1

    config = undisturbed.model_copy(update={"output": f"file://{tmp_path}/out"})
    repaired = do_stages(config, spoil)
    assert min(hit[stage] for stage in HANDED_ON) >= 1
    # A task may have made several of them, so there may be fewer repairs than files.
    assert all(repaired[reader] for reader in ("stitch", "relabel", "tabulate", "assign", "gather"))
    assert fingerprint(config) == fingerprint(undisturbed)


def test_every_flipped_bit_of_arrays_is_found(undisturbed, tmp_path) -> None:
    source = Store(undisturbed.output).child(".cnapse/label/data")
    content = min((source.read(name) for name in source.names()), key=len)
    store = Store(tmp_path)
    store.put("a.st", content)
    expected = {name: array.tobytes() for name, array in store.get_arrays("a.st").items()}
    unnoticed = 0
    rng = random.Random(1)
    for _ in range(300):
        store.put("a.st", flipped(content, rng))
        with contextlib.suppress(DamagedFileError):
            # Only where nothing that is read was hit, such as the padding of the header.
            found = store.get_arrays("a.st")
            assert {k: v.tobytes() for k, v in found.items()} == expected
            unnoticed += 1
    assert unnoticed < 15
    store.put("a.st", content[:-1])
    with pytest.raises(
        DamagedFileError, match=r"/a.st is damaged \(.*\): delete it, and"
    ) as caught:
        store.get_arrays("a.st")
    assert caught.value.path == f"file://{tmp_path}/a.st"


def test_what_is_damaged_again_is_named(undisturbed, tmp_path, monkeypatch) -> None:
    config = undisturbed.model_copy(update={"output": f"file://{tmp_path}/out"})
    run = Run(config)

    def execute(_run, _index):
        raise DamagedFileError(f"{config.output}/.cnapse/label/data/000000000001.st", "flipped")

    for name in ("label", "stitch"):
        monkeypatch.setattr(f"cnapse_tasks.{name}.execute", execute)
    with pytest.raises(DamagedFileError, match=r"000000000001.st is damaged \(flipped\): delete"):
        execute_repairing(run, "stitch", 0)


def test_who_made_a_file(undisturbed, monkeypatch) -> None:
    run = Run(undisturbed)
    output = undisturbed.output
    for name, maker in {
        ".cnapse/label/data/000000000007.st": ("label", 7),
        ".cnapse/stitch/data/000000000007.st": ("stitch", 0),
        ".cnapse/stitch/data/open/000000000007.st": ("stitch", 0),
        ".cnapse/measure/data/000000000003/000000000007.st": ("measure", 7),
        ".cnapse/tabulate/data/000000000007/part-00000003.parquet": ("tabulate", 3),
        ".cnapse/assign/data/partners/000000000003/000000000007.st": ("assign", 7),
        "measures/part-00000003.parquet": ("tabulate", 3),
        "tables/synapses/part-00000003.parquet": ("gather", 3),
        ".cnapse/join/data/open/000000000002.st": ("join", 2),
        "synapses/info": None,
        ".cnapse/label/stage.json": None,
    }.items():
        assert maker_of(run, f"{output}/{name}") == maker
    assert maker_of(run, "file:///elsewhere/measures/part-00000003.parquet") is None
    # Blocks of a superblock.
    grid = recovery.label.grid_of(run)
    monkeypatch.setattr(recovery.join, "is_needed", lambda run: True)
    monkeypatch.setattr(recovery.join, "_BLOCKS_PER_AXIS", 2)
    superblocks = recovery.join.grid_of(run)
    assert len(superblocks) < len(grid)
    for index in range(len(grid)):
        stage, task = maker_of(run, f"{output}/.cnapse/join/data/{index:012d}.st")
        assert stage == "join"
        assert superblocks[task].write.contains(grid[index].write)
