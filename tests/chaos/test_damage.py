"""Intermediate files and records that are damaged in a run: made again, or named."""

import json
import shutil

import pytest

from cnapse.errors import CnapseError
from cnapse.store import Store
from cnapse_tasks.driver import status
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of


class Damage:
    """Damages what a stage left when it ends, before the next one begins."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.hit: dict[str, int] = {}

    def begin(self, stage: str, total: int, done: int) -> None:
        self.stage = stage

    def update(self, done: int) -> None: ...

    def end(self) -> None:
        folder = f".cnapse/{self.stage}/data"
        for number, name in enumerate(self.store.names(folder)[::2]):
            path = f"{folder}/{name}"
            self.store.put(path, damaged(self.store.read(path), number % 2))
            self.hit[self.stage] = self.hit.get(self.stage, 0) + 1


def damaged(content: bytes, how: int) -> bytes:
    """Cut in half, or one byte flipped in the last quarter: in the values, not in a header."""
    if how == 0:
        return content[: len(content) // 2]
    place = len(content) - 1 - len(content) // 8
    return content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]


@pytest.fixture(scope="module")
def quiet(tissue, tmp_path_factory, run_here):
    """An undisturbed run."""
    config = tissue.config(tmp_path_factory.mktemp("quiet") / "out")
    run_here(config)
    return config


@pytest.fixture
def again(quiet, tmp_path):
    """The same run in another folder, complete."""
    shutil.copytree(quiet.output.removeprefix("file://"), tmp_path / "out")
    return quiet.model_copy(update={"output": f"file://{tmp_path}/out"})


def test_data_damaged_between_stages_is_made_again(quiet, tmp_path, fingerprint, run_here) -> None:
    config = quiet.model_copy(update={"output": f"file://{tmp_path}/out"})
    damage = Damage(Store(config.output))
    run_here(config, damage)
    assert {"label", "stitch", "measure", "tabulate", "assign"} <= damage.hit.keys()
    assert sum(damage.hit.values()) > 20
    assert fingerprint(config) == fingerprint(quiet)


def test_damaged_records_are_made_again(quiet, again, fingerprint, run_here) -> None:
    """Each stage loses some records, and every other one what it was made of."""
    store = Store(again.output)
    spoiled = []
    for n, stage in enumerate(stages_of(Run(again))):
        for number, name in enumerate(store.names(f".cnapse/{stage.name}/done")[:2]):
            spoiled.append(f".cnapse/{stage.name}/done/{name}")
            store.put(spoiled[-1], damaged(store.read(spoiled[-1]), (number + n) % 2))
        if n % 2:
            path = f".cnapse/{stage.name}/stage.json"
            store.put(path, damaged(store.read(path), n // 2 % 2))
    run_here(again)
    assert all(state.complete for state in status(again))
    for name in spoiled:
        assert "key" in json.loads(store.read(name))
    assert fingerprint(again) == fingerprint(quiet)


def test_what_no_task_made_is_named(again, run_here) -> None:
    """A damaged info of a layer: the run stops, in one line."""
    store = Store(again.output)
    store.put("synapses/info", store.read("synapses/info")[:-20])
    store.delete([f".cnapse/measure/done/{n}" for n in store.names(".cnapse/measure/done")])
    with pytest.raises(CnapseError, match=r"synapses.*info") as caught:
        run_here(again)
    assert "\n" not in str(caught.value)
