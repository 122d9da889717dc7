"""Applying a log: rows equal the pipeline's on the corrected layer, and nothing is done twice."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.config import Config
from cnapse.errors import ConfigError, LayerExistsError, RunStateError
from cnapse.partners.assign import assign_many, parameters_of
from cnapse.store import Store
from cnapse.synapses.measure import measure
from cnapse.tables import PARTNERS, SYNAPSES, read_table
from cnapse.volumes.reader import open_layer
from cnapse_tasks import correct as correct_module
from cnapse_tasks.correct_layer import LayerCopy
from cnapse_tasks.exclusive import LOCK, alone_in


def read_labels(out: Path, finished) -> np.ndarray:
    return open_layer(out / "synapses", mip=0).read(finished.box)


def read_tables(out: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_table(f"{out}/tables/synapses"), read_table(f"{out}/tables/partners")


def chunks_that_differ(a: np.ndarray, b: np.ndarray, chunk=(32, 32, 4)) -> int:
    differs = a != b
    for axis, size in enumerate(chunk):
        starts = np.arange(0, differs.shape[axis], size)
        differs = np.logical_or.reduceat(differs, starts, axis=axis)
    return int(differs.sum())


def split_markers(finished, syn_id: int) -> list:
    voxels = finished.voxels(syn_id)
    return [[finished.nm(voxels[0])], [finished.nm(voxels[-1])]]


@st.composite
def corrections(draw, finished) -> list:
    """Decisions of all kinds that concern voxels, in any order, about the same objects."""
    ids = finished.ids
    decisions = []
    for _ in range(draw(st.integers(1, 6))):
        syn_id = draw(st.sampled_from(ids))
        kind = draw(st.sampled_from(["false", "true", "delete", "merge", "split", "add"]))
        if kind in ("false", "true"):
            new = {"verdict": kind}
            decisions.append(finished.decide("verdict", syn_id, new))
        elif kind == "delete":
            decisions.append(finished.decide("delete", syn_id, {}))
        elif kind == "merge":
            others = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=2, unique=True))
            group = [syn_id, *(i for i in others if i != syn_id)]
            if len(group) > 1:
                new = {"syn_ids": [str(i) for i in group]}
                decisions.append(finished.decide("merge", syn_id, new))
        elif kind == "split":
            markers = split_markers(finished, syn_id)
            decisions.append(finished.decide("split", syn_id, {"markers": markers}))
        else:
            voxel = [
                draw(st.integers(a, b - 1))
                for a, b in zip(finished.box.start, finished.box.stop, strict=True)
            ]
            new = {"position_nm": finished.nm(voxel)}
            decisions.append(finished.decide("add_synapse", 0, new))
    return decisions


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_rows_are_the_librarys_on_the_corrected_layer(data, finished, tissue) -> None:
    """Whole arrays at once, as an independent way to the same tables."""
    decisions = data.draw(corrections(finished))
    with tempfile.TemporaryDirectory() as folder:
        done = finished.apply(decisions, Path(folder))
        labels = read_labels(Path(folder), finished)
        synapses, partners = read_tables(folder)
    assert done.blocks_again == chunks_that_differ(labels, finished.labels)
    expected = measure(labels, tissue.cells, tissue.box, tissue.probability)
    same = [name for name in expected if name != "flags"]
    pd.testing.assert_frame_equal(synapses[same], expected[same])
    rows, found = assign_many(labels, tissue.cells, tissue.box, expected, parameters_of("cnapse"))
    flags = expected["flags"].to_numpy() | found["flags"].to_numpy()
    np.testing.assert_array_equal(synapses["flags"], flags)
    rows = rows.sort_values(["syn_id", "post_id"], ignore_index=True)
    for name in ("syn_id", "pre_id", "post_id", "size", "share", "raw_share", "lost", "post_x"):
        np.testing.assert_array_equal(partners[name], rows[name], err_msg=name)
    kept = finished.synapses[finished.synapses["syn_id"].isin(synapses["syn_id"])]
    untouched = synapses[synapses["provenance"].isin(["predicted", "confirmed"])]
    before = kept[kept["syn_id"].isin(untouched["syn_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(untouched[SYNAPSES.names].reset_index(drop=True), before)


def everything(finished) -> list:
    """One decision of each kind, on objects of their own."""
    a, b, c, d, e, f, g, h, i, j = finished.ids[:10]
    cells = finished.cells(h)
    fewer = {**cells, "partners": cells["partners"][1:]}
    free = np.argwhere(finished.labels == 0)[1234] + finished.box.start
    return [
        finished.decide("verdict", a, {"verdict": "false"}),
        finished.decide("verdict", b, {"verdict": "true"}, reviewer="Bo"),
        finished.decide("verdict", c, {"verdict": "unsure"}),
        finished.decide("merge", d, {"syn_ids": [str(d), str(e)]}),
        finished.decide("split", f, {"markers": split_markers(finished, f)}),
        finished.decide("delete", g, {}),
        finished.decide("partners", h, fewer, old=cells),
        finished.decide("partners", i, finished.cells(i), old=finished.cells(i)),
        finished.decide("partners", j, {"pre_id": "8007", "partners": [{"post_id": "7"}]}),
        finished.decide("add_synapse", 0, {"position_nm": finished.nm(free), "pre_id": "3007"}),
    ]


def test_rows_are_the_pipelines_on_the_corrected_layer(finished, tmp_path, run_here) -> None:
    """All columns, those of what is doubtful too."""
    decisions = [d for d in everything(finished) if d.action not in ("partners", "add_synapse")]
    finished.apply(decisions, tmp_path / "corrected")
    values = finished.config.model_dump(exclude_none=True, exclude_unset=True)
    layers = values["layers"] | {"synapses": {"path": f"file://{tmp_path}/corrected/synapses"}}
    again = Config.from_dict(values | {"layers": layers, "output": f"file://{tmp_path}/again"})
    run_here(again, last="gather")
    for mine, pipelines, schema in zip(
        read_tables(tmp_path / "corrected"), read_tables(again.output), (SYNAPSES, PARTNERS),
        strict=True,
    ):  # fmt: skip
        pd.testing.assert_frame_equal(mine[schema.names], pipelines)


def test_later_calls_give_what_a_fresh_one_gives(finished, tmp_path, contents) -> None:
    """Decisions are added, undone, and added again; each time only what changed is done."""
    decisions = everything(finished)
    out = tmp_path / "out"
    first = finished.apply(decisions[:5], out)
    finished.apply(decisions[:5], tmp_path / "fresh5")
    assert first.blocks_again == first.blocks_touched > 0
    assert contents(out) == contents(tmp_path / "fresh5")
    second = finished.apply(decisions, out)
    finished.apply(decisions, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
    assert 0 < second.blocks_again < second.blocks_touched
    assert 0 < second.synapses_again < 5
    before = contents(out)
    third = finished.apply(decisions, out)
    assert (third.blocks_again, third.synapses_again) == (0, 0)
    assert contents(out) == before
    finished.apply(decisions[:5], out)
    assert contents(out) == contents(tmp_path / "fresh5")
    finished.apply([], out)
    np.testing.assert_array_equal(read_labels(out, finished), finished.labels)
    synapses, partners = read_tables(out)
    pd.testing.assert_frame_equal(synapses[SYNAPSES.names], finished.synapses)
    pd.testing.assert_frame_equal(partners[PARTNERS.names], finished.partners)


@pytest.mark.parametrize("where", ["layer", "rows", "record"])
def test_killed_and_called_again(finished, tmp_path, contents, monkeypatch, where) -> None:
    """Wherever it stops, the next call gives what an undisturbed one gives."""
    decisions = everything(finished)
    finished.apply(decisions[::-1], tmp_path / "fresh")
    out = tmp_path / "out"
    finished.apply(decisions[:4], out)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if where == "layer":
            edit, calls = LayerCopy._edit, []

            def few(self, objects, box):
                calls.append(box)
                return stop() if len(calls) > 3 else edit(self, objects, box)

            patched.setattr(LayerCopy, "_edit", few)
        elif where == "rows":
            patched.setattr(correct_module, "compute_rows", stop)
        else:
            patched.setattr(correct_module, "_end", stop)
        with pytest.raises(KeyboardInterrupt):
            finished.apply(decisions, out)
    # Meanwhile the reviewers went on.
    finished.apply(decisions[::-1], out)
    assert contents(out) == contents(tmp_path / "fresh")


def test_what_each_decision_does(finished, tmp_path) -> None:
    decisions = everything(finished)
    a, b, c, d, e, f, g, h, i, j = finished.ids[:10]
    done = finished.apply(decisions, tmp_path)
    table = read_table(tmp_path / "synapses.csv").set_index("syn_id")
    partners = read_table(tmp_path / "partners.csv")
    assert not {a, e, g} & set(table.index)
    assert table["provenance"][[b, c, d, f, h, i, j]].tolist() == [
        "confirmed", "predicted", "corrected", "corrected", "corrected", "confirmed", "corrected",
    ]  # fmt: skip
    assert table["reviewer"][[b, c, d]].tolist() == ["Bo", "", "Ada"]
    (added,) = table.index[table["provenance"] == "added"]
    assert table["pre_id"][added] == 3007
    (new,) = set(table.index) - set(finished.ids) - {added}
    assert table["provenance"][new] == "corrected"
    before = finished.partners
    dropped = before[before["syn_id"] == h]
    rows = partners[partners["syn_id"] == h]
    assert rows["post_id"].tolist() == dropped["post_id"].tolist()[1:]
    assert rows["share"].sum() == pytest.approx(1)
    np.testing.assert_allclose(rows["size"], rows["share"] * table["size"][h])
    chosen = partners[partners["syn_id"] == j].iloc[0]
    assert (chosen["pre_id"], chosen["post_id"], chosen["share"]) == (8007, 7, 1)
    assert chosen["provenance"] == "added"
    assert table["pre_id"][j] == 8007
    assert (partners.groupby("syn_id").size() == table["n_partners"][table["n_partners"] > 0]).all()
    assert (partners["flags"].to_numpy() == table["flags"][partners["syn_id"]].to_numpy()).all()
    assert sum(done.provenance.values()) == len(table) == done.synapses
    listed = pd.read_csv(tmp_path / "changes.csv")
    assert sorted(listed["uuid"]) == sorted(d.uuid for d in decisions)


def test_a_dry_run_writes_nothing_and_counts_the_same(finished, tmp_path) -> None:
    decisions = everything(finished)
    dry = finished.apply(decisions, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    done = finished.apply(decisions, tmp_path / "out")
    assert dry.synapses_again == done.synapses_again
    assert dry.blocks_again >= done.blocks_again
    assert dry.synapses == done.synapses


def test_unsure_ones_can_be_dropped(finished, tmp_path) -> None:
    syn_id = finished.ids[0]
    unsure = [finished.decide("verdict", syn_id, {"verdict": "unsure"})]
    finished.apply(unsure, tmp_path, unsure="drop")
    assert syn_id not in read_tables(tmp_path)[0]["syn_id"].tolist()
    finished.apply(unsure, tmp_path)
    assert syn_id in read_tables(tmp_path)[0]["syn_id"].tolist()


def test_folders_of_others_are_refused(finished, tmp_path) -> None:
    with pytest.raises(ConfigError, match="is where the run itself lies, which is never changed"):
        finished.apply([], Path(finished.config.output.removeprefix("file://")))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LayerExistsError, match="there is something else in this folder"):
        finished.apply([], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_one_at_a_time_in_a_folder(finished, tmp_path, contents) -> None:
    out = tmp_path / "out"
    with alone_in(Store(out)):
        with pytest.raises(RunStateError, match="out: another process works in this folder: wait"):
            finished.apply(everything(finished), out)
        assert not contents(out).keys() - {LOCK}
        finished.apply(everything(finished), out, dry_run=True)
    # What a killed process leaves is nobody's.
    (out / LOCK).touch()
    finished.apply(everything(finished), out)
    assert not (out / LOCK).exists()


def test_the_run_stays_as_it_is(finished, tmp_path, fingerprint) -> None:
    before = fingerprint(finished.config)
    finished.apply(everything(finished), tmp_path / "out")
    assert fingerprint(finished.config) == before


def test_another_run_is_applied_from_the_start(finished, tmp_path, contents) -> None:
    """The same output with other tables: nothing of the earlier corrections is used."""
    moved = tmp_path / "run"
    shutil.copytree(finished.config.output.removeprefix("file://"), moved)
    other = type(finished)(
        finished.config.model_copy(update={"output": f"file://{moved}"}),
        finished.synapses, finished.partners, finished.labels, finished.box,
    )  # fmt: skip
    decisions = everything(finished)
    other.apply(decisions, tmp_path / "out")
    part = next((moved / "tables/partners").iterdir())
    shutil.copyfile(part, tmp_path / "kept")
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(part), part, compression="none")
    again = other.apply(decisions, tmp_path / "out")
    assert again.blocks_again == again.blocks_touched > 0
    assert again.synapses_again > 0


def test_corrections_are_corrected_again(finished, tmp_path) -> None:
    """The corrected run is a run: rows nobody touches keep where they are from."""
    decisions = everything(finished)
    finished.apply(decisions, tmp_path / "first")
    values = finished.config.model_dump(exclude_none=True, exclude_unset=True)
    layers = values["layers"] | {"synapses": {"path": f"file://{tmp_path}/first/synapses"}}
    config = Config.from_dict(values | {"layers": layers, "output": f"file://{tmp_path}/first"})
    synapses, partners = read_tables(tmp_path / "first")
    labels = read_labels(tmp_path / "first", finished)
    first = type(finished)(config, synapses, partners, labels, finished.box)
    h, other = decisions[6].syn_id, finished.ids[12]
    merge = first.decide("merge", h, {"syn_ids": [str(h), str(other)]}, reviewer="Cy")
    done = first.apply([merge], tmp_path / "second")
    again, rows = read_tables(tmp_path / "second")
    kept = ~synapses["syn_id"].isin([h, other])
    pd.testing.assert_frame_equal(
        again[again["syn_id"] != min(h, other)].reset_index(drop=True),
        synapses[kept].reset_index(drop=True),
    )
    kept = ~partners["syn_id"].isin([h, other])
    pd.testing.assert_frame_equal(
        rows[rows["syn_id"] != min(h, other)].reset_index(drop=True),
        partners[kept].reset_index(drop=True),
    )
    # What somebody chose for a part of it does not count for the whole, and that is told.
    (lost,) = done.conflicts
    assert (lost.kind, lost.now) == ("partner", min(h, other))
    assert lost.what.startswith(f"cells that were chosen for {h} before were found anew")


def test_into_a_bucket(finished, tmp_path, contents, aws) -> None:
    """The same tables and voxels; chunks are gzip'd there."""
    decisions = everything(finished)
    finished.apply(decisions, tmp_path / "local")
    bucket = aws.bucket("corrected") + "/out"
    finished.apply(decisions[:3], bucket)
    done = finished.apply(decisions, bucket)
    assert 0 < done.blocks_again < done.blocks_touched
    labels = open_layer(f"{bucket}/synapses", mip=0).read(finished.box)
    np.testing.assert_array_equal(labels, read_labels(tmp_path / "local", finished))
    assert contents(bucket) == contents(tmp_path / "local")
    assert finished.apply(decisions, bucket).blocks_again == 0
