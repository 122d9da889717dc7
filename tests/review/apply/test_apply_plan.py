"""What stands against each other, or cannot be done, is listed; nothing is silent."""

import numpy as np
import pandas as pd
import pytest

from cnapse.review.apply_editors import sheet_of
from cnapse.review.apply_repaint import repaint_of, write_repaint
from cnapse.store import Store
from cnapse.tables import read_table
from cnapse.volumes.reader import open_layer


def conflicts(folder) -> list[tuple[str, str, str]]:
    table = pd.read_csv(folder / "conflicts.csv", dtype=str, keep_default_na=False)
    return list(zip(table["action"], table["kind"], table["what"], strict=True))


def test_later_decisions_about_what_is_gone(finished, tmp_path) -> None:
    a, b, c = finished.ids[:3]
    done = finished.apply(
        [
            finished.decide("delete", a, {}),
            finished.decide("verdict", a, {"verdict": "true"}),
            finished.decide("merge", a, {"syn_ids": [str(a), str(b)]}),
            finished.decide("partners", c, finished.cells(c)),
            finished.decide("verdict", c, {"verdict": "false"}),
        ],
        tmp_path,
    )
    gone = f"synapse {a} was removed before, by Ada"
    assert conflicts(tmp_path) == [
        ("verdict", "contradiction", gone),
        ("merge", "contradiction", gone),
    ]
    said = {(o.decision.action, o.what) for o in done.plan.outcomes}
    # To set cells first and to find later that it is no synapse is nobody's mistake.
    assert ("partners", "was removed later") in said
    assert ("merge", "nothing to merge with") in said


def test_decisions_of_an_earlier_run_are_found_by_place(finished, tmp_path) -> None:
    """Ids that the run does not have any more; a prediction that nobody has seen."""
    a, b, c = finished.ids[:3]
    cells = finished.cells(b)
    seen = {**cells, "partners": cells["partners"][:0]}
    chosen = {"pre_id": cells["pre_id"], "partners": [{"post_id": "12007", "share": 1.0}]}
    old = 2**40
    finished.apply(
        [
            finished.decide("verdict", old, {"verdict": "false"}, position_nm=finished.place(a)),
            finished.decide(
                "partners", old + 1, chosen, position_nm=finished.place(b), old=seen
            ),
            finished.decide("verdict", old + 2, {"verdict": "true"}),
            finished.decide("partners", c, finished.cells(c), old=finished.cells(c)),
        ],
        tmp_path,
    )  # fmt: skip
    table = read_table(tmp_path / "synapses.csv")["syn_id"].tolist()
    assert a not in table
    rows = read_table(tmp_path / "partners.csv")
    assert rows.loc[rows["syn_id"] == b, "post_id"].tolist() == [12007]
    changes = pd.read_csv(tmp_path / "changes.csv")
    assert changes["matched"].tolist() == ["place", "place", "id"]
    listed = [found for found in conflicts(tmp_path) if found[1] != "partner"]
    posts = ", ".join(str(p["post_id"]) for p in cells["partners"])
    told = (
        f"now predicted {cells['pre_id']} to {posts}, which was not what the reviewer saw: "
        "the decision counts"
    )
    assert listed == [
        (
            "partners", "prediction",
            told,
        ),
        ("verdict", "gone", f"no synapse {old + 2} in the table, and no place is known"),
    ]  # fmt: skip


def test_partners_of_what_became_one(finished, tmp_path) -> None:
    a, b = finished.ids[:2]
    pre, posts = finished.cells(a)["pre_id"], [{"post_id": "1007"}]
    finished.apply(
        [
            finished.decide("merge", a, {"syn_ids": [str(a), str(b)]}),
            finished.decide("partners", a, {"pre_id": pre, "partners": posts}),
            finished.decide("partners", b, {"pre_id": pre, "partners": []}, reviewer="Bo"),
            finished.decide("verdict", b, {"verdict": "true"}, reviewer="Cy"),
        ],
        tmp_path,
    )
    table = read_table(tmp_path / "synapses.csv").set_index("syn_id")
    assert b not in table.index
    assert (table.loc[a, "n_partners"], table.loc[a, "reviewer"]) == (0, "Cy")
    (found,) = conflicts(tmp_path)
    assert found[1:] == (
        "contradiction", f"decided otherwise by Ada for a part of {a}: the later counts",
    )  # fmt: skip


def test_what_cannot_be(finished, tmp_path) -> None:
    a = finished.ids[0]
    voxel = finished.voxels(a)[0]
    outside = (finished.box.start[0] - 5, *finished.box.start[1:])
    far = [v + 200 for v in finished.nm(voxel)]
    near = finished.nm(voxel)
    finished.apply(
        [
            finished.decide("add_synapse", 0, {"position_nm": near}),
            finished.decide("add_synapse", 0, {"position_nm": finished.nm(outside)}),
            finished.decide("split", a, {"markers": [[near], [[far[0] + 9e5, *far[1:]]]]}),
            finished.decide("split", a, {"markers": [[near], [near]]}),
        ],
        tmp_path,
    )
    said = [what for _, kind, what in conflicts(tmp_path) if kind == "impossible"]
    assert said[0] == f"synapse {a} is at the place: nothing was added"
    assert said[1].startswith("the place lies outside of the layer")
    assert "nm away from the object" in said[2]
    assert "mark the same voxel" in said[3]
    np.testing.assert_array_equal(
        open_layer(tmp_path / "synapses", mip=0).read(finished.box), finished.labels
    )


def test_added_synapses_are_the_components_of_the_map(finished, tissue, tmp_path) -> None:
    """One that is deleted and pointed at again comes back as it was: the map has no weaker rim."""
    sizes = finished.synapses.set_index("syn_id")["voxels"]
    syn_id = int(sizes.idxmax())
    again = finished.decide("add_synapse", 0, {"position_nm": list(finished.place(syn_id))})
    done = finished.apply([finished.decide("delete", syn_id, {}), again], tmp_path)
    (outcome,) = [o for o in done.plan.outcomes if o.decision.action == "add_synapse"]
    labels = open_layer(tmp_path / "synapses", mip=0).read(finished.box)
    (added,) = outcome.now
    assert outcome.what.startswith("added: component")
    np.testing.assert_array_equal(labels == added, finished.labels == syn_id)
    assert added == syn_id


def test_painted_boxes_and_dust(finished, tmp_path, tissue) -> None:
    a, b = finished.synapses.nlargest(2, "voxels")["syn_id"].tolist()
    first = finished.voxels(a)
    low, high = np.minimum(first.min(0), finished.voxels(b).min(0)), first.max(0) + 1
    high = np.maximum(high, finished.voxels(b).max(0) + 1)
    box = finished.box.from_shape(high - low, finished.box.resolution, low)
    labels = finished.labels[box.slices(finished.box)]
    sheet = sheet_of(labels, box)
    drawn = sheet.labels.astype(np.int64)
    numbers = {syn_id: number for number, (syn_id, _) in sheet.known.items()}
    of_a = np.argwhere(drawn == numbers[a])
    drawn[tuple(of_a[3:].T)] = 0  # dust: the run's least is 5 voxels
    drawn[tuple(np.argwhere(drawn == numbers[b])[:6].T)] = 999
    store = Store(f"{finished.config.output}/review/repaints")
    repaint = repaint_of(sheet.labels.astype(np.int64), drawn, box, sheet.known)
    digest = write_repaint(store, repaint, box)
    new = {"start_nm": box.start_nm, "stop_nm": box.stop_nm, "source": "t", "digest": digest}
    finished.apply([finished.decide("repaint", 0, new)], tmp_path)
    found = open_layer(tmp_path / "synapses", mip=0).read(finished.box)
    expected = finished.labels.copy()
    cut = expected[box.slices(finished.box)]
    cut[drawn == 0] = 0
    cut[drawn == numbers[a]] = 0
    (made,) = set(np.unique(found).tolist()) - set(np.unique(finished.labels).tolist())
    cut[drawn == 999] = made
    np.testing.assert_array_equal(found, expected)
    assert conflicts(tmp_path) == [
        ("repaint", "dust", "3 voxels are left, fewer than label.min_voxels: dropped as dust")
    ]
    table = read_table(tmp_path / "synapses.csv").set_index("syn_id")
    assert table.loc[[b, made], "provenance"].tolist() == ["corrected", "corrected"]


@pytest.mark.parametrize("kind", ["cleft", "presynaptic"])
def test_the_chosen_presynaptic_cell_is_taken(finished, tissue, tmp_path, run_here, kind) -> None:
    """Partners of the run's code, with that cell; also where objects cover the cleft."""
    config = finished.config
    if kind == "cleft":
        config = tissue.config(tmp_path / "run", assign={"density": "cleft"})
        run_here(config, last="export")
    mine = type(finished)(
        config, read_table(f"{config.output}/tables/synapses"),
        read_table(f"{config.output}/tables/partners"), finished.labels, finished.box,
    )  # fmt: skip
    # Where the pipeline's own cell is chosen on a changed object, its own answer comes out.
    row = mine.synapses[mine.synapses["n_partners"] > 0].iloc[0]
    syn_id = int(row["syn_id"])
    other = next(i for i in mine.ids if i > syn_id)
    merge = mine.decide("merge", syn_id, {"syn_ids": [str(syn_id), str(other)]})
    mine.apply([merge], tmp_path / "plain")
    plain = read_table(tmp_path / "plain/partners.csv")
    plain = plain[plain["syn_id"] == syn_id]
    posts = [{"post_id": str(p), "share": s} for p, s in
             zip(plain["post_id"], plain["share"], strict=True)]  # fmt: skip
    synapses = read_table(tmp_path / "plain/synapses.csv").set_index("syn_id")
    pre = {"pre_id": str(synapses.loc[syn_id, "pre_id"]), "partners": posts}
    mine.apply([merge, mine.decide("partners", syn_id, pre)], tmp_path / "chosen")
    chosen = read_table(tmp_path / "chosen/partners.csv")
    chosen = chosen[chosen["syn_id"] == syn_id]
    for name in ("pre_id", "post_id", "share", "raw_share", "lost", "post_x"):
        np.testing.assert_array_equal(chosen[name], plain[name], err_msg=name)
    assert set(chosen["provenance"]) == {"confirmed"}
