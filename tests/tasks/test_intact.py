"""Chunks of a run's own layers that are cut, lost or changed on disk."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnapse.checksums import crcs_as_text, crcs_of_text
from cnapse.errors import DamagedFileError, RunStateError, TasksFailedError
from cnapse.geometry import Box, Grid
from cnapse.store import Store
from cnapse.volumes.channels import create_channels
from cnapse.volumes.damage import is_cut
from cnapse.volumes.writer import create_layer
from cnapse_tasks.intact import KEY, ChunkCheck, start_of_chunk
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.run import Run

AFTER = ("measure", "tabulate", "assign", "gather", "export", "pyramid")


@pytest.fixture(scope="module")
def whole(tissue, tmp_path_factory, run_here):
    config = tissue.config(
        tmp_path_factory.mktemp("whole") / "out", assign={"method": "contact"},
        pyramid={"levels": 0}, viewer={"properties": False, "annotations": False},
    )  # fmt: skip
    run_here(config)
    return config


@pytest.fixture
def half(whole, tmp_path):
    """The same run in another folder, up to the layer of synapses."""
    shutil.copytree(whole.output.removeprefix("file://"), tmp_path / "out")
    for stage in AFTER:
        shutil.rmtree(tmp_path / f"out/.cnapse/{stage}", ignore_errors=True)
    return whole.model_copy(update={"output": f"file://{tmp_path}/out"})


def largest_chunks(config) -> list[Path]:
    """Those that hold the most."""
    folder = Path(config.output.removeprefix("file://")) / "synapses/4_4_50"
    return sorted(folder.iterdir(), key=lambda file: (-file.stat().st_size, file.name))


def test_what_is_cut_or_lost_is_made_again(whole, half, fingerprint, run_here) -> None:
    cut, empty, lost = largest_chunks(half)[:3]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    empty.write_bytes(b"")
    lost.unlink()
    run_here(half)
    assert fingerprint(half) == fingerprint(whole)
    records = Path(half.output.removeprefix("file://")).glob(".cnapse/measure/done/*/*.json")
    assert sum(json.loads(file.read_text()).get("repaired", 0) for file in records) == 3


def test_a_changed_chunk_is_named_and_kept(whole, half, fingerprint, run_here) -> None:
    """It may be somebody's correction; deleted, it is made again."""
    changed = largest_chunks(half)[0]
    # Well-formed, and of other ids.
    other = largest_chunks(half)[1].read_bytes()
    changed.write_bytes(other)
    with pytest.raises(TasksFailedError) as caught:
        run_here(half)
    assert f"synapses/4_4_50/{changed.name} is not what stage relabel wrote" in str(caught.value)
    assert changed.read_bytes() == other
    changed.unlink()
    run_here(half)
    assert fingerprint(half) == fingerprint(whole)


def test_a_corrected_layer_that_is_given_is_not_checked(half) -> None:
    """The way out of the message: a run that begins with the layer of another one."""
    largest_chunks(half)[0].write_bytes(largest_chunks(half)[1].read_bytes())
    path = f"{half.output}/synapses"
    given = half.layers.model_copy(
        update={"synapses": half.layers.cells.model_copy(update={"path": path})}
    )
    corrected = Run(half.model_copy(update={"layers": given}))
    assert corrected.layer("synapses").read(corrected.frame).any()
    with pytest.raises(RunStateError, match="is not what stage relabel wrote"):
        Run(half).layer("synapses").read(corrected.frame)


@pytest.fixture(params=["raw", "png", "channels"])
def probability(request, tmp_path):
    """A layer that two tasks of a detection wrote slab by slab, and what checks it."""
    box = Box.from_shape((70, 40, 12), (8, 8, 30), (-5, 3, 100))
    values = np.random.default_rng(1).integers(0, 255, (*box.shape, 2), np.uint8)
    if request.param == "channels":
        writer = create_channels(
            str(tmp_path / "map"), bounds=box, chunk_size=(32, 32, 4), names=("a", "b")
        )
    else:
        values = values[..., 0]
        writer = create_layer(
            tmp_path / "map", kind="image", dtype="uint8", bounds=box, chunk_size=(32, 32, 4),
            encoding=request.param,
        )  # fmt: skip
    ledger, grid = Ledger(Store(tmp_path), "detect"), Grid(box, (64, 64, 12))
    for index, block in enumerate(grid):
        slabs = [slab.write for slab in Grid(block.write, (64, 64, 4))]
        crcs = [crc for slab in slabs for crc in writer.write(values[slab.slices(box)], slab)]
        ledger.record(index, "key", {KEY: crcs_as_text(crcs)})
    return ChunkCheck(f"file://{tmp_path}/map", ledger, grid), box, tmp_path / "map/8_8_30"


def test_each_chunk_has_its_own_checksum(probability) -> None:
    check, box, folder = probability
    check(0, box)
    files = sorted(folder.iterdir())
    assert len(files) == 3 * 2 * 3
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        fresh = ChunkCheck(check.layer.path, check.ledger, check.grid)
        with pytest.raises(RunStateError, match=f"{file.name} is not what stage detect wrote"):
            fresh(0, box)
        file.write_bytes(content)
        fresh(0, box)
        # Each chunk is looked at once.
        file.write_bytes(b"")
        fresh(0, box)
        with pytest.raises(DamagedFileError, match=f"{file.name} is damaged .it is cut"):
            ChunkCheck(check.layer.path, check.ledger, check.grid)(0, box)
        file.write_bytes(content)


def test_records_of_earlier_versions_tell_nothing(probability) -> None:
    check, box, folder = probability
    next(folder.iterdir()).write_bytes(b"")
    for index in range(len(check.grid)):
        check.ledger.record(index, "key", {"voxels": 1})
    ChunkCheck(check.layer.path, check.ledger, check.grid)(0, box)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_a_cut_segmentation_is_known_without_a_checksum(tmp_path, dtype) -> None:
    """Cuts at every 50th byte up to where the last table begins; the whole one passes."""
    box = Box.from_shape((40, 33, 9), (4, 4, 50))
    values = np.random.default_rng(2).integers(0, 9, box.shape).astype(dtype)
    writer = create_layer(
        tmp_path / "ids", kind="segmentation", dtype=dtype, bounds=box, chunk_size=(64, 64, 16)
    )
    writer.write(values, box)
    content = next((tmp_path / "ids/4_4_50").iterdir()).read_bytes()
    assert not is_cut(content, writer.info, box.shape)
    # The last table has at most 9 values.
    for length in range(0, len(content) - 9 * np.dtype(dtype).itemsize, 50):
        assert is_cut(content[:length], writer.info, box.shape), length


def test_names_of_chunks_tell_where_they_begin() -> None:
    assert start_of_chunk("-64--32_0-64_-8-8") == (-64, 0, -8)
    assert start_of_chunk("info") is None
    assert crcs_of_text(crcs_as_text([0, 1, 2**32 - 1])) == [0, 1, 2**32 - 1]
