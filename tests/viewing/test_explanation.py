"""`cnapse explain`: what a run found, found again; and pictures that show it."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnapse.errors import TableError
from cnapse.partners.emitters import find_emitters
from cnapse.partners.harmonic import potential
from cnapse.partners.labels import Tissue
from cnapse.partners.parameters import AssignParameters
from cnapse.runs import RunData, open_run
from cnapse.viewing import explanation_panels as drawn
from cnapse.viewing.connections import Connections
from cnapse.viewing.explanation import Explanation, Slab, chosen_slabs, explain
from cnapse.viewing.explanation_picture import page_of
from cnapse.viewing.explanation_shares import facts, share_lines, wrapped
from cnapse.viewing.marks import disc, line, thick
from cnapse.viewing.page import Page, text_width
from cnapse.viewing.palette import rgb
from cnapse.viewing.panels import Screen
from cnapse_tasks.assign import parameters
from cnapse_tasks.run import Run
from cnapse_tasks.stages import stages_of

BIG = 2**63 + 5


@pytest.fixture(scope="module")
def runs(tissue, tmp_path_factory) -> Callable[[str], Run]:
    """Finished runs of the hand-made tissue, by method; with walks, of cells that were grown."""
    made: dict[str, Run] = {}

    def of(method: str) -> Run:
        if method not in made:
            layers = {
                "probability": f"file://{tissue.folder}/probability",
                "cells": {
                    "path": f"file://{tissue.folder}/cells",
                    "grow_nm": 4 if method == "montecarlo" else 0,
                },
            }
            assign = {"method": method, "particles": 400, "min_share": 0.02}
            output = tmp_path_factory.mktemp(method) / "out"
            config = tissue.config(output, layers=layers, assign=assign, seed=5)
            made[method] = in_this_process(Run(config))
        return made[method]

    return of


def in_this_process(run: Run) -> Run:
    """Do the stages up to the tables one after another, without a queue."""
    for stage in stages_of(run):
        if stage.name != "pyramid":
            stage.module.prepare(run)
            for index in stage.module.indices(run):
                stage.module.execute(run, index)
    return run


@pytest.fixture(scope="module")
def shown(runs) -> Explanation:
    """A synapse with several partners, a dropped cell and some lost."""
    run = runs("both")
    best = max(run.synapses["syn_id"].tolist(), key=lambda i: len(run.connections.partners_of(i)))
    return explain(run, best, parameters(run))


def changed(run: RunData, syn_id: int, **values: object) -> RunData:
    """The run with another row for a synapse, and no partners."""
    table = run.synapses.copy()
    for name, value in values.items():
        table.loc[table["syn_id"] == syn_id, name] = value
    other = RunData(run.config)
    other.connections = Connections(table, run.partners[:0])
    return other


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """What stands on a page."""
    lines: list[str] = []
    monkeypatch.setattr(Page, "text", lambda page, x, y, text, **style: lines.append(text))
    return lines


def pixels_of(shown: Explanation) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page_of(shown).png())).convert("RGB"))


# --- what is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "own"), [("both", "harmonic"), ("montecarlo", "montecarlo")])
def test_the_shares_are_those_of_the_runs_table(runs, method: str, own: str) -> None:
    run = runs(method)
    assert len(run.synapses) > 5
    for syn_id in run.synapses["syn_id"].tolist()[:12]:
        shown = explain(run, syn_id, parameters(run), methods=[own])
        table = run.connections.partners_of(syn_id).set_index("post_id")
        found = shown.diffusion.portions(own) if shown.diffusion else {}
        kept = {cell: portion for cell, portion in found.items() if portion.kept}
        assert {cell: p.share for cell, p in kept.items()} == table["share"].to_dict()
        assert {cell: p.share_error for cell, p in kept.items()} == table["share_error"].to_dict()
        assert [p.raw for p in kept.values()] == [table["raw_share"][cell] for cell in kept]
        assert bool(shown.reason) == table.empty
        assert not shown.differs
        assert [partner.id for partner in shown.view.partners] == table.index.tolist()


def test_both_methods_are_explained_whatever_the_run_used(runs) -> None:
    run = runs("montecarlo")
    syn_id = int(run.synapses["syn_id"][0])
    shown = explain(run, syn_id, parameters(run))
    assert shown.methods == ["harmonic", "montecarlo"]
    exact, walked = (shown.diffusion.portions(m) for m in shown.methods)
    assert exact.keys() >= {cell for cell, p in walked.items() if p.kept}
    for cell, portion in walked.items():
        assert abs(portion.raw - exact[cell].raw) < 5 * max(portion.raw_error, 1 / 400)


def test_particles_start_at_emitters_and_end_where_the_shares_say(shown: Explanation) -> None:
    diffusion = shown.diffusion
    assert len(diffusion.ends) == 400
    for cell, portion in diffusion.portions("montecarlo").items():
        assert np.count_nonzero(diffusion.ends == cell) / 400 == portion.raw
    emitters = {tuple(e) for e in diffusion.emitters.tolist()}
    h = np.asarray(shown.view.box.resolution)
    for path, place in zip(diffusion.paths, diffusion.places, strict=False):
        assert tuple((path[0] - 0.5).tolist()) in emitters
        np.testing.assert_array_equal(path[-1], place)
        steps = np.linalg.norm(np.diff(path, axis=0) * h, axis=1)
        moved = steps[steps > 0]
        np.testing.assert_allclose(moved, 4, rtol=1e-6)


def test_the_potential_is_that_of_the_whole_cutout(runs, shown: Explanation) -> None:
    run, how, diffusion = runs("both"), shown.how, shown.diffusion
    cells = run.read_cells(diffusion.cutout)
    density = run.layer("synapses").read(diffusion.cutout) == shown.view.syn_id
    rule = how.emitter_rule(run.config.resolution)
    pre = shown.view.pre.id
    emitters = find_emitters(cells, density, (0, 0, 0), pre, rule)
    tissue = Tissue(cells, density, (0, 0, 0), pre, rule.paints, run.config.resolution)
    whole = potential(tissue, emitters, how.laplace)
    np.testing.assert_array_equal(diffusion.emitters, emitters + diffusion.cutout.start)
    part = whole[diffusion.potential_box.slices(diffusion.cutout)]
    np.testing.assert_allclose(diffusion.potential, part, atol=1e-3 * whole.max())
    assert whole.sum() == pytest.approx(part.sum())


def test_places_of_contact_are_those_of_the_table(runs, shown: Explanation) -> None:
    table = runs("both").connections.partners_of(shown.view.syn_id).set_index("post_id")
    contacts = shown.diffusion.contacts("harmonic")
    assert contacts.keys() == set(table.index)
    for cell, place in contacts.items():
        expected = table.loc[cell, ["post_x", "post_y", "post_z"]].tolist()
        assert (place * shown.view.box.resolution).tolist() == pytest.approx(expected)


def test_a_table_of_other_parameters_is_noticed(runs, shown: Explanation) -> None:
    run = runs("both")
    how = parameters(run).changed(min_share=0.4)
    other = explain(run, shown.view.syn_id, how, methods=["harmonic"])
    assert other.differs
    # Partners of the table are still drawn, and said to be none now.
    lines = share_lines(other, other.diffusion)
    names = {c.called: c.id for c in other.view.partners}
    kept = [line for line in lines if line.name in names and line.portions["harmonic"].kept]
    assert len(kept) < len(other.view.partners)
    walks_only = explain(run, shown.view.syn_id, how, methods=["montecarlo"])
    assert not walks_only.differs  # the table is of the other method: nothing to compare with


@pytest.mark.parametrize(
    ("values", "how", "reason"),
    [
        ({"pre_id": 0}, {}, "No presynaptic cell: no voxel of the object lies on a cell"),
        ({}, {"max_box_voxels": 9}, "Too large to be one synapse: the box around it has"),
        ({"pre_id": 999_999_999}, {}, "No emitters: beside the density there is no voxel"),
        ({}, {"min_share": 0.99}, "Nothing hit: no cell took up more than 99 %"),
    ],
)
def test_without_partners_the_picture_says_why(
    runs, shown: Explanation, written: list[str], values: dict, how: dict, reason: str
) -> None:
    syn_id = shown.view.syn_id
    run = changed(runs("both"), syn_id, **values)
    none = explain(run, syn_id, parameters(runs("both")).changed(**how))
    assert none.reason.startswith(reason)
    page_of(none)
    assert none.reason in " ".join(written)


def test_a_layer_made_anew_is_noticed(runs, shown: Explanation) -> None:
    row = runs("both").connections.synapse(shown.view.syn_id)
    moved = {"start_x": row["start_x"] - 9, "stop_x": row["start_x"] - 8}
    run = changed(runs("both"), shown.view.syn_id, **moved)
    with pytest.raises(
        TableError, match=r"has no voxel in its bounding box .* was made anew since"
    ):
        explain(run, shown.view.syn_id, parameters(runs("both")))


# --- what is shown ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.integers(-5, 30), st.integers(1, 9), min_size=1),
    st.integers(0, 2),
    st.integers(1, 4),
)
def test_sections_with_most_emitters_are_shown(counts: dict, half: int, most: int) -> None:
    slabs = chosen_slabs(counts, half, most)
    held = [sum(n for z, n in counts.items() if slab.holds(np.array([z]))[0]) for slab in slabs]
    middles = [slab.middle for slab in slabs]
    step = 2 * half + 1
    assert 1 <= len(slabs) <= most
    assert all(b - a == step for a, b in itertools.pairwise(middles))
    assert all(held)
    best = max(sum(counts.get(z + d, 0) for d in range(-half, half + 1)) for z in counts)
    assert max(held) >= best
    if len(slabs) < most:
        beyond = {middles[0] - step + d for d in range(-half, half + 1)}
        beyond |= {middles[-1] + step + d for d in range(-half, half + 1)}
        assert not beyond & counts.keys()


def test_what_lies_in_a_slab() -> None:
    places = np.array([2.9, 3.0, 4.5, 5.99, 6.0])
    assert Slab(4, 1).holds(places).tolist() == [False, True, True, True, False]
    assert Slab(4).holds(places).tolist() == [False, False, True, False, False]


def test_places_have_the_colours_of_their_cells(shown: Explanation) -> None:
    screen, slab = shown.view.screen(900), shown.slabs[0]
    panel = np.rint(drawn.walk_panel(shown, shown.diffusion, slab, screen) * 255).astype(int)
    within = slab.holds(shown.diffusion.places[:, 2])
    for cell, colour in shown.view.colours.items():
        places = shown.diffusion.places[within & (shown.diffusion.ends == cell)]
        full = (panel == rgb(colour)).all(axis=2)
        if not len(places):
            continue
        corner = np.asarray(shown.view.box.start[:2])
        column, row = screen.pixel((places[-1, :2] - corner).tolist())
        assert full[int(row), int(column)]


def test_the_potential_is_painted_where_it_is(shown: Explanation) -> None:
    screen, slab = shown.view.screen(600), shown.slabs[0]
    nothing = dataclasses.replace(shown.diffusion, potential=None, potential_box=None)
    with_it, without = (
        drawn.potential_panel(shown, diffusion, slab, screen)
        for diffusion in (shown.diffusion, nothing)
    )
    painted = (with_it != without).any(axis=2)
    pre = drawn.cell_shape(shown, slab, screen, shown.view.pre.id)
    assert painted.sum() > 500
    assert not (painted & pre)[4:-4].any()


def test_the_picture_holds_the_panels_and_clips_nothing(shown: Explanation) -> None:
    page = pixels_of(shown)
    assert_nothing_is_clipped(page)
    width = {1: 540, 2: 520, 3: 440}[len(shown.slabs)]
    screen = shown.view.screen(width)
    for panel in (
        drawn.em_panel(shown, shown.slabs[-1], screen),
        drawn.walk_panel(shown, shown.diffusion, shown.slabs[-1], screen),
        drawn.potential_panel(shown, shown.diffusion, shown.slabs[-1], screen),
    ):
        pixels = np.rint(panel * 255).astype(np.uint8)
        row = pixels[pixels.shape[0] // 9].tobytes()
        assert any(row in line.tobytes() for line in page)


@pytest.mark.parametrize(("method", "sections"), [("harmonic", 1), ("montecarlo", 2)])
def test_one_method_alone(runs, shown: Explanation, method: str, sections: int) -> None:
    run = runs("both")
    syn_id = shown.view.syn_id
    one = explain(run, syn_id, parameters(run), methods=[method], sections=sections)
    assert one.methods == [method]
    assert len(one.slabs) == min(sections, len(shown.slabs))
    page = pixels_of(one)
    assert_nothing_is_clipped(page)
    if sections == 1:
        np.testing.assert_array_equal(page, pixels_of(one))


def assert_nothing_is_clipped(page: np.ndarray) -> None:
    """The margins are white: no text runs out of the page."""
    for edge in (page[:20], page[-20:], page[:, :20], page[:, -20:]):
        assert (edge == 255).all()


def test_lines_add_up_to_all_of_the_transmitter(shown: Explanation) -> None:
    lines = share_lines(shown, shown.diffusion)
    for method in shown.methods:
        assert sum(line.portions[method].raw for line in lines) == pytest.approx(1)
        kept = [line.portions[method] for line in lines if line.portions[method].kept]
        assert sum(portion.share for portion in kept) == pytest.approx(1)
    assert lines[-1].name.startswith("lost")


def test_what_was_used_is_said(shown: Explanation) -> None:
    said = dict(facts(shown))
    assert said["preset"] == "cnapse, with particles = 400, min_share = 0.02"
    assert said["padding"] == "25 x 25 x 2 voxels (100 x 100 x 100 nm)"
    assert said["   near the cell"] == "ball of 2 x 2 x 2 voxels (8 x 8 x 100 nm)"
    assert "-5 to +4 voxels (-20 to +16 nm)" in said["   near density"]
    assert said["emitters"] == f"{len(shown.diffusion.emitters):,} voxels"
    assert said["walks"].startswith("400 particles, 4 nm steps in 10,000 directions")
    assert said["walks"].endswith("seed 5")
    assert said["doubt"].startswith(f"{shown.row['doubt']:.2f}")
    bare = dataclasses.replace(shown, row=shown.row.drop(["doubt", "doubts"]), diffusion=None)
    assert not {"doubt", "walks", "exact", "emitters"} & dict(facts(bare)).keys()


def test_the_rule_of_witvliet_is_said(finished_run: Path) -> None:
    run = open_run(finished_run / "cnapse.toml")
    how = AssignParameters.witvliet(padding_nm=100)
    shown = dataclasses.replace(explain(run, 7, how), preset="witvliet")
    said = dict(facts(shown))
    assert said["preset"] == "witvliet, with padding_nm = 100"
    assert "disk of -6 to +6 voxels" in said["   near density"]
    assert said["least share"] == "0.1 % of all the transmitter"
    assert shown.differs  # the tables of that run are made up


def test_names_are_those_of_the_tables(finished_run: Path, written: list[str]) -> None:
    run = open_run(finished_run / "cnapse.toml")
    shown = explain(run, 7, AssignParameters.cnapse(particles=50))
    assert [(p.id, p.called) for p in shown.view.partners][:2] == [(13, "$100 神経"), (12, "RIML")]
    assert shown.view.pre.called == "AVAL"
    assert shown.view.image.std() > 10
    page_of(shown)
    assert {"AVAL", "RIML", "$100 神経"} <= set(written)


def test_text_is_wrapped() -> None:
    text = "a cell whose words are many " * 5
    lines = wrapped(text, 300)
    assert " ".join(lines) == text.strip()
    assert len(lines) > 3
    assert all(text_width(part, 8) <= 300 for part in lines)
    assert wrapped("", 10) == [""]


# --- marks --------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 33), st.floats(-3, 33), st.floats(1, 6))
def test_a_disc_covers_its_area(x: float, y: float, radius: float) -> None:
    picture = np.zeros((30, 30, 3), np.float32)
    disc(picture, [(x, y)], radius, "#ffffff")
    assert picture.min() >= 0
    assert picture.max() <= 1
    if min(x, y) - radius > 1 and max(x, y) + radius < 29:
        assert picture[:, :, 0].sum() == pytest.approx(math.pi * radius**2, rel=0.1, abs=0.6)
        column = (picture[:, :, 0].sum(0) * (np.arange(30) + 0.5)).sum() / picture[:, :, 0].sum()
        assert column == pytest.approx(x, abs=0.1)


def test_a_line_is_as_wide_as_asked_and_no_darker_where_it_crosses() -> None:
    picture = np.zeros((40, 40, 3), np.float32)
    line(picture, [(5, 20), (35, 20), (20, 20), (20, 60)], 3, "#ffffff", alpha=0.5)
    assert picture.max() == pytest.approx(0.5)
    assert picture[:, 12, 0].sum() == pytest.approx(1.5)
    assert picture[-1, 18:22, 0].any()
    line(picture, [(-50, -50), (-20, -90)], 3, "#ff0000")
    assert picture.max() == pytest.approx(0.5)


def test_a_thick_contour() -> None:
    contour = np.zeros((4, 5), bool)
    contour[1, 2] = contour[3, 4] = True
    expected = np.zeros((4, 5), bool)
    expected[1:3, 2:4] = expected[3, 4] = True
    np.testing.assert_array_equal(thick(contour), expected)


def test_emitters_in_cells_stay_inside_of_the_picture(shown: Explanation) -> None:
    """A window smaller than the emitters' reach draws those that are in it."""
    box = shown.view.box
    cut = dataclasses.replace(box, stop=(box.start[0] + 30, *box.stop[1:]))
    view = dataclasses.replace(
        shown.view,
        box=cut,
        **{n: getattr(shown.view, n)[:30] for n in ("image", "cells", "synapses")},
    )
    small = dataclasses.replace(shown, view=view)
    screen = Screen.fitted(cut.shape[:2], cut.resolution[:2], 200)
    panel = drawn.potential_panel(small, shown.diffusion, shown.slabs[0], screen)
    assert panel.shape == (*screen.shape, 3)
