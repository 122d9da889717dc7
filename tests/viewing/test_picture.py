"""Whole pictures: what is where, the same bytes again, no warning."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cnapse.errors import FormatError, TableError
from cnapse.geometry import Box
from cnapse.runs import RunData, open_run
from cnapse.viewing import panels
from cnapse.viewing.cutout import CellNote, SynapseView, cut_out
from cnapse.viewing.labels import round_length
from cnapse.viewing.page import Page, elided, flowed, printable, text_width
from cnapse.viewing.palette import SYNAPSE, rgb
from cnapse.viewing.picture import (
    compose,
    draw_contact_sheet,
    draw_overview,
    draw_run_picture,
)

BIG = 2**63 + 5


@pytest.fixture(scope="module")
def run(finished_run: Path) -> RunData:
    return open_run(finished_run / "cnapse.toml")


@pytest.fixture(scope="module")
def view(run: RunData) -> SynapseView:
    return cut_out(run, 7)


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def places_of(panel: np.ndarray, page: np.ndarray) -> list[tuple[int, int]]:
    """Where a panel's middle rows stand in a page, row and column of its corner."""
    third = panel.shape[0] // 3
    row = panel[third].tobytes()
    lines = [(number, line.tobytes()) for number, line in enumerate(page)]
    return [
        (number - third, found.start() // 3)
        for number, line in lines
        for found in re.finditer(re.escape(row), line)
    ]


def test_a_view_holds_what_lies_around_the_synapse(view: SynapseView, run: RunData) -> None:
    assert view.box.shape == (350, 350, 3)
    assert run.layer("image").bounds.contains(view.box)
    np.testing.assert_array_equal(view.synapses, run.layer("synapses").read(view.box))
    np.testing.assert_array_equal(view.image, run.layer("image").read(view.box))
    assert view.pre == CellNote(11, "AVAL")
    assert [(p.id, p.share) for p in view.partners] == [(13, 0.75), (12, 0.25)]
    assert view.box.start[2] + view.middle == 34
    assert view.note == "900,000 nm³   2 sections"


def test_flags_are_named(run: RunData) -> None:
    assert cut_out(run, BIG).note.endswith("border, near cut")


def test_a_synapse_at_the_rim_is_moved_in_and_a_wide_view_is_cut(run: RunData) -> None:
    rim = cut_out(run, BIG, sections=5)
    assert rim.box.start == (100, 200, 30)
    whole = cut_out(run, 9, width_nm=1e5, sections=99)
    assert whole.box == run.layer("image").bounds
    assert whole.pre == CellNote(14, "14")
    assert whole.partners == ()


def test_the_outline_lies_on_the_border_of_the_object(view: SynapseView) -> None:
    screen = view.screen(700)
    panel = compose(view, view.middle, screen)
    yellow = (panel == rgb(SYNAPSE)).all(axis=2)
    own = np.kron((view.synapses[:, :, view.middle] == 7).T, np.ones((2, 2), dtype=bool))
    assert yellow.any()
    assert not yellow[~own].any()
    np.testing.assert_array_equal(
        yellow, panels.outline(panels.shape_of(view.synapses[:, :, view.middle] == 7, screen))
    )
    rows, columns = np.nonzero(own)
    where = np.argwhere(yellow)
    assert where.min(axis=0).tolist() == [rows.min(), columns.min()]
    assert where.max(axis=0).tolist() == [rows.max(), columns.max()]


def test_each_cell_has_its_own_colour(view: SynapseView) -> None:
    panel = compose(view, view.middle, view.screen(350)).astype(int)
    plain = compose(view, view.middle, view.screen(350), plain=True).astype(int)
    cells = view.cells[:, :, view.middle].T
    quiet = view.synapses[:, :, view.middle].T == 0
    change = panel - plain
    means = {c: change[(cells == c) & quiet].mean(axis=0) for c in (11, 12, 13, 14)}
    np.testing.assert_array_equal(means[14], 0)
    coloured = [means[11], means[12], means[13]]
    for i, one in enumerate(coloured):
        assert np.abs(one).max() > 5
        for other in coloured[:i]:
            assert np.abs(one - other).max() > 10
    assert means[11][2] > max(means[11][:2])  # the presynaptic cell is blue


def test_without_probability_only_outline_and_cells_remain(view: SynapseView) -> None:
    bare = dataclasses.replace(view, probability=None)
    without = compose(bare, view.middle, view.screen(350)).astype(int)
    redder = compose(view, view.middle, view.screen(350)).astype(int) - without
    inside = ndimage.binary_erosion(view.synapses[:, :, view.middle].T == 7, iterations=2)
    outside = ~ndimage.binary_dilation(view.synapses[:, :, view.middle].T != 0, iterations=2)
    assert (redder[inside][:, 0] > redder[inside][:, 2]).all()
    np.testing.assert_array_equal(redder[outside], 0)


def test_the_overview_has_the_panels_pixel_by_pixel(view: SynapseView, tmp_path: Path) -> None:
    draw_overview(view, tmp_path / "a.png", width_px=350)
    page = pixels_of(tmp_path / "a.png")
    screen = view.screen(350)
    corners = [
        places_of(compose(view, section, screen, plain=True), page)[:1] for section in range(3)
    ]
    assert all(corners), "a plain panel is not on the page"
    (first,), (second,), (third,) = corners
    assert first[0] == second[0] == third[0]
    assert second[1] - first[1] == third[1] - second[1] == 360
    assert page[0, 0].tolist() == [255, 255, 255]


def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(
    view: SynapseView, tmp_path: Path
) -> None:
    import matplotlib as mpl

    draw_overview(view, tmp_path / "a.png")
    with mpl.rc_context(
        {
            "font.family": "serif",
            "savefig.facecolor": "red",
            "font.size": 20,
            "savefig.bbox": "tight",
            "savefig.dpi": 30,
            "text.usetex": False,
        }
    ):
        draw_overview(view, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"Matplotlib" not in (tmp_path / "a.png").read_bytes()


def test_a_contact_sheet_shows_all(run: RunData, tmp_path: Path) -> None:
    views = [cut_out(run, i, sections=1) for i in (7, BIG, 9)]
    draw_contact_sheet(views, tmp_path / "sheet.png", title="Three", columns=2, width_px=200)
    page = pixels_of(tmp_path / "sheet.png")
    found = [places_of(compose(v, v.middle, v.screen(200)), page) for v in views]
    assert [len(places) for places in found] == [1, 1, 1]
    (one,), (two,), (three,) = found
    assert one[0] == two[0] < three[0]
    assert one[1] == three[1] < two[1]
    with pytest.raises(FormatError, match="at least one synapse"):
        draw_contact_sheet([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_run_picture_is_an_overview_or_a_sheet(
    run: RunData, finished_run: Path, view: SynapseView, tmp_path: Path
) -> None:
    draw_run_picture(run, [7], tmp_path / "one.png")
    draw_overview(view, tmp_path / "same.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    plain = (finished_run / "cnapse.toml").read_text().replace('probability = "probability"', "")
    (finished_run / "plain.toml").write_text(plain + '[detect]\nmodel = "phantom"\n')
    without = open_run(finished_run / "plain.toml")
    assert "probability" not in without.read_cutout(view.box)
    draw_run_picture(without, [7, 9], tmp_path / "two.png")
    assert pixels_of(tmp_path / "two.png").shape[1] > pixels_of(tmp_path / "two.png").shape[0]
    with pytest.raises(TableError, match="synapse 3 is not in the table"):
        draw_run_picture(run, [3], tmp_path / "three.png")


def test_arrays_of_another_shape_are_refused(view: SynapseView) -> None:
    with pytest.raises(FormatError, match=r"synapse 7: cells has shape \(1, 1, 1\), its box"):
        dataclasses.replace(view, cells=np.zeros((1, 1, 1), np.uint64))
    empty = Box((0, 0, 0), (0, 4, 4), (4, 4, 50))
    nothing = np.zeros((0, 4, 4), np.uint8)
    with pytest.raises(FormatError, match="is empty"):
        SynapseView(7, empty, nothing, nothing, nothing, None, (0, 0, 0))


def test_flat_and_black_images_are_drawn(tmp_path: Path) -> None:
    box = Box.from_shape((40, 30, 1), (4, 4, 50))
    nothing = np.zeros(box.shape, np.uint8)
    bare = SynapseView(1, box, nothing, nothing, nothing, None, (80.0, 60.0, 25.0))
    draw_overview(bare, tmp_path / "black.png")
    draw_contact_sheet([bare], tmp_path / "sheet.png")
    assert pixels_of(tmp_path / "black.png").shape[1] < 600


def test_letters_that_the_font_lacks() -> None:
    assert printable("AVAL µ→ 神$_^") == "AVAL µ→ ?$_^"
    assert elided("x" * 30) == "x" * 23 + "…"
    assert elided("short") == "short"


def test_text_is_as_wide_as_it_was_measured() -> None:
    page = Page(400, 60)
    page.text(20, 30, "AVAL presynaptic $5", size=10)
    dark = np.asarray(Image.open(io.BytesIO(page.png())).convert("L")) < 128
    columns = np.nonzero(dark.any(axis=0))[0]
    width = text_width("AVAL presynaptic $5", 10)
    assert columns.min() == pytest.approx(20, abs=3)
    assert columns.max() - columns.min() == pytest.approx(width, abs=6)


def test_items_flow_over_lines() -> None:
    assert flowed([50, 40, 30], 100, 10) == [(0, 0.0), (0, 60.0), (1, 0.0)]
    assert flowed([500], 100, 10) == [(0, 0.0)]


@pytest.mark.parametrize(
    ("longest", "expected"), [(1, 1), (1.9, 1), (499, 200), (500, 500), (999.0, 500), (0.3, 0.2)]
)
def test_round_lengths(longest: float, expected: float) -> None:
    assert round_length(longest) == pytest.approx(expected)


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import cnapse.viewing.picture, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
