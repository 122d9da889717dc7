"""A run replaces nothing that no run has made."""

from dataclasses import replace

import numpy as np
import pytest

from cnapse.errors import ConfigError, LayerExistsError
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.driver import Options, run_stages
from cnapse_tasks.outputs import APPLIED

ONE = Options(last="label", workers=1)


def test_a_layer_of_others_stays_until_redo(tissue, tmp_path) -> None:
    box = tissue.box
    drawn = create_layer(
        tmp_path / "synapses", kind="segmentation", dtype="uint64", bounds=box, chunk_size=32
    )
    drawn.write(np.full(box.shape, 7, np.uint64), box)
    with pytest.raises(LayerExistsError, match=r"synapses already, which no run made: .*--redo"):
        run_stages(tissue.config(tmp_path), ONE)
    assert (open_layer(tmp_path / "synapses").read(box) == 7).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["synapses"]


def test_a_table_of_others_stays_and_its_own_is_gone_on_with(tissue, tmp_path) -> None:
    notes = tmp_path / "partners.csv"
    notes.write_text("my notes")
    with pytest.raises(LayerExistsError, match=r"has partners\.csv already, which no run made"):
        run_stages(tissue.config(tmp_path), ONE)
    assert notes.read_text() == "my notes"
    notes.unlink()
    run_stages(tissue.config(tmp_path), ONE)
    notes.write_text("written while a run is there")
    run_stages(tissue.config(tmp_path), ONE)


def test_corrections_are_not_computed_over(tissue, tmp_path) -> None:
    (tmp_path / APPLIED).parent.mkdir()
    (tmp_path / APPLIED).write_text("{}")
    for redo in (False, True):
        with pytest.raises(LayerExistsError, match="has the corrections of `cnapse apply`"):
            run_stages(tissue.config(tmp_path), replace(ONE, redo=redo))


@pytest.mark.parametrize("inside", ["probability", "cells/run"])
def test_no_output_in_a_layer(tissue, inside) -> None:
    with pytest.raises(ConfigError, match=rf"lies in layers.{inside.split('/')[0]}, .*of its own"):
        run_stages(tissue.config(tissue.folder / inside), ONE)
