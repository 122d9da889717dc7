"""A stage is made anew while a worker is still at one of its tasks."""

import logging

import pytest

from cnapse.store import Store
from cnapse_tasks import driver
from cnapse_tasks.ledger import Ledger

SECONDS = 0.6


@pytest.fixture(scope="module")
def config(tissue, tmp_path_factory, run_here):
    made = tissue.config(
        tmp_path_factory.mktemp("stragglers") / "out", assign={"method": "contact"},
        pyramid={"levels": 0}, viewer={"properties": False, "annotations": False},
    )  # fmt: skip
    run_here(made, last="relabel")
    return made


def test_redo_waits_for_those_still_at_work(config, run_here, monkeypatch, caplog) -> None:
    """What they write would else lie among the new."""
    ledger = Ledger(Store(config.output).child(".cnapse"), "relabel")
    at_hand: list[list[int]] = []
    reset = Ledger.reset

    def noted(self: Ledger) -> None:
        if self.stage == "relabel":
            # Its plan is gone, so that nobody begins another task of it; and nobody is at one.
            at_hand.append(self.at_hand())
            assert self.plan() is None
        reset(self)

    monkeypatch.setattr(Ledger, "reset", noted)
    monkeypatch.setattr(driver, "_STRAGGLER_LOOK_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    ledger.begin(3, SECONDS)
    assert ledger.at_hand() == [3]
    run_here(config, first="relabel", last="relabel", redo=True)
    assert at_hand == [[]]
    assert caplog.text.count("still at tasks of older parameters") == 1
    assert len(ledger.done()) == 18


def test_without_any_nobody_is_waited_for(config, run_here, caplog) -> None:
    caplog.set_level(logging.WARNING)
    run_here(config, first="relabel", last="relabel", redo=True)
    assert "still at" not in caplog.text
