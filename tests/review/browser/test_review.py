"""`cnapse review` as it is used: in a browser, by keyboard, by two people, with a power cut.

One long test walks both loops; the short ones look at what it does not touch.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from cnapse.review.decisions import (
    AddDecision,
    BoxDecision,
    Decision,
    DeleteDecision,
    MergeDecision,
    SplitDecision,
    UndoDecision,
    VerdictDecision,
)
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog
from cnapse.runs import RunData, open_run
from cnapse_cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pandas as pd

    from .conftest import Faulty, Reviewer, Server, Truth

_MANY = 50
EVIL = "<i class=evil>x</i>"
_FOCUSED = "() => document.querySelector('.tile.focused').dataset.syn"
_OPEN = "() => document.querySelectorAll('.tile[data-verdict=open]').length"
_JUDGED = "id => document.querySelector(`[data-syn='${id}']`)?.dataset.verdict !== 'open'"
_PLACE = "() => document.querySelector('main').dataset.syn ?? ''"
# The synapse of the address is on the screen, or there is none left.
_AT_SYNAPSE = """() => document.querySelector('.empty h2')
  || location.hash.endsWith(document.querySelector('main').dataset.syn ?? 'nothing')"""
_ROWS = "() => [...document.querySelectorAll('.partner')].map(row => row.dataset.post)"
_UNSAVED = "() => document.querySelector('.save').textContent.includes('not saved yet')"
_LEFT = "id => !location.hash.includes(`partners/${id}`)"
_FITS = "() => document.documentElement.scrollWidth <= innerWidth"


def judge(person: Reviewer, truth: Truth) -> str:
    """A verdict on the tile in hand; its id."""
    syn_id = str(person.tell(_FOCUSED))
    person.press("t" if syn_id in truth.pre else "f")
    person.until(_JUDGED, syn_id)
    return syn_id


def judge_page(person: Reviewer, truth: Truth) -> list[str]:
    return [judge(person, truth) for _ in range(int(person.tell(_OPEN)))]


def next_page(person: Reviewer) -> list[str]:
    """The next tiles; the last ones again if there are no more."""
    before = person.tiles()
    person.press("Space")
    person.until(
        "id => document.querySelector('.empty.over') || "
        "document.querySelector('.tile')?.dataset.syn !== id",
        before[0],
    )
    return [syn_id for syn_id in person.tiles() if syn_id not in before]


def correct(person: Reviewer, truth: Truth) -> str:
    """One synapse's partners made as in truth; its id, or nothing if none is left."""
    person.until(_AT_SYNAPSE)
    syn_id = str(person.tell(_PLACE))
    if not syn_id:
        return ""
    wanted = truth.shares[syn_id]
    rows = list(person.tell(_ROWS))
    missing = [cell for cell in wanted if cell not in rows]
    for number, cell in enumerate(rows, start=1):
        if cell not in wanted:
            person.press(str(number))
    for cell in missing:
        person.press("a")
        person.type(cell)
        person.see(".cell-list [aria-selected=true]")
        person.press("Enter")
        person.see(f".partner[data-post='{cell}']")
    if missing:
        for cell in [cell for cell in rows if cell in wanted] + missing:
            person.press("e")
            person.type(f"{100 * wanted[cell]:.4f}")
            person.press("Enter", "ArrowDown")
    person.press("Enter")
    person.until(_LEFT, syn_id)
    return syn_id


def decisions(log: Path) -> list[Decision]:
    with DecisionLog(log) as opened:
        return list(opened.decisions())


def last(log: Path, kind: type[Decision]) -> Decision:
    return [one for one in decisions(log) if isinstance(one, kind)][-1]


def test_two_people_do_both_loops_through_a_power_cut(
    two: tuple[Reviewer, Reviewer],
    server: Server,
    faulty: Faulty,
    synapses: pd.DataFrame,
    tmp_path: Path,
) -> None:
    anna, ben = two
    truth = faulty.truth
    assert not set(anna.tiles()) & set(ben.tiles())
    seen = [judge(anna, truth) for _ in range(5)]
    seen += judge_page(ben, truth)
    anna.saved()

    # The power goes while Anna works: she goes on, and nothing of it is lost.
    server.kill()
    seen += [judge(anna, truth) for _ in range(5)]
    anna.until(_UNSAVED)
    assert anna.waiting() == 5
    server.start()
    anna.saved()
    seen += judge_page(anna, truth)
    people = [ben, anna]
    for person in itertools.cycle(people):
        # Nothing for one of them: the other has the rest, one page ahead.
        page = next_page(person)
        assert not set(page) & set(seen)
        seen += judge_page(person, truth)
        if len(seen) == len(synapses):
            break
    for person in people:
        person.saved()
    assert sorted(seen) == sorted(map(str, synapses["syn_id"]))

    # Partners: of those that are synapses. The power goes again.
    for person in people:
        person.press("g", "p")
    done = [correct(person, truth) for person in people for _ in range(8)]
    server.kill()
    person = people[0]
    done.append(correct(person, truth))
    person.until(_UNSAVED)
    # This time the reviewer leaves the page, and comes back when the server does.
    person.page.goto("about:blank")
    server.start()
    person.page.goto(server.address)
    person.see(".save")
    person.saved()
    person.press("g", "p")
    while len(done) < _MANY:
        done += [correct(person, truth) for person in people]
    for person in people:
        person.saved()
    assert len(done) == len(set(done))

    with DecisionLog(server.log) as log:
        standing = log.standing()
        assert len(log) == len(seen) + len(done)
    true = {str(i) for i, one in standing.verdicts.items() if one.new.verdict == "true"}
    assert true == set(truth.pre) >= set(done)
    assert {str(i) for i in standing.partners} == set(done)
    assert {one.reviewer for one in standing.verdicts.values()} == {anna.name, ben.name}

    # Applied: the truth, where it was corrected; only what it takes is computed.
    out = tmp_path / "corrected"
    blocks, again = applied(faulty, server, out)
    corrected, found = open_run(out / "cnapse.toml"), open_run(faulty.config)
    assert set(corrected.synapses["syn_id"].astype(str)) == set(truth.pre)
    assert again == differing_chunks(found, corrected) < blocks
    assert applied(faulty, server, out) == (blocks, 0)
    before, after = by_synapse(found), by_synapse(corrected)
    mended = 0
    for syn_id in truth.pre:
        pre, shares = after[syn_id]
        if syn_id not in done:
            assert after[syn_id] == before[syn_id]
            continue
        assert pre == truth.pre[syn_id]
        assert set(shares) == set(truth.shares[syn_id])
        if set(shares) != set(before[syn_id][1]):
            mended += 1
            assert shares == pytest.approx(truth.shares[syn_id], abs=1e-5)
    assert mended > 10


Pairs = dict[str, tuple[str, dict[str, float]]]


def by_synapse(run: RunData) -> Pairs:
    """Presynaptic cell and shares of each synapse, ids as text."""
    found: Pairs = {
        str(row.syn_id): (str(row.pre_id), {}) for row in run.synapses.itertuples(index=False)
    }
    for row in run.partners.itertuples(index=False):
        found[str(row.syn_id)][1][str(row.post_id)] = float(row.share)
    return found


def applied(faulty: Faulty, server: Server, out: Path) -> tuple[int, int]:
    """Blocks there are, and those that `cnapse apply` says it made anew."""
    words = ["apply", str(faulty.config), "-o", str(out), "--log", str(server.log)]
    said = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    told = re.search(r"([\d,]+) of ([\d,]+) blocks", said)
    assert told, said
    again, blocks = (int(text.replace(",", "")) for text in told.groups())
    return blocks, again


def differing_chunks(one: RunData, other: RunData) -> int:
    """Chunks of the layer of synapses that differ between two runs."""
    layer = one.layer("synapses")
    differs = layer.read(one.frame) != other.layer("synapses").read(one.frame)
    size = layer.chunk_size
    steps = [range(0, n, c) for n, c in zip(differs.shape, size, strict=True)]
    boxes = [
        tuple(slice(a, a + c) for a, c in zip(at, size, strict=True))
        for at in itertools.product(*steps)
    ]
    return sum(bool(differs[box].any()) for box in boxes)


def test_reload_comes_back_and_undo_takes_back(person: Reviewer, shared: Server) -> None:
    before = person.tiles()
    syn_id = str(person.tell(_FOCUSED))
    person.press("s")
    person.until(_JUDGED, syn_id)
    focused = person.tell(_FOCUSED)
    person.saved()
    person.page.reload()
    person.see(".tile")
    assert person.tiles() == before
    assert person.tell(_FOCUSED) == focused
    person.until(_JUDGED, syn_id)
    person.press("u")
    person.until(f"id => !({_JUDGED})(id)", syn_id)
    person.saved()
    undo = last(shared.log, UndoDecision)
    assert isinstance(undo, UndoDecision)
    assert undo.new.undoes == last(shared.log, VerdictDecision).uuid
    assert undo.reviewer == person.name


def test_the_wheel_and_two_keys_scroll_sections(person: Reviewer) -> None:
    tile = ".tile.focused"
    depth = f"() => document.querySelector('{tile} .tile-dz').textContent"
    picture = f"() => document.querySelector('{tile} img').src"
    person.see(f"{tile} img")
    first = person.tell(picture)
    person.page.hover(tile)
    person.page.mouse.wheel(0, 120)
    person.until(f"() => ({depth})() === '+1'")
    person.until(f"first => ({picture})() !== first", first)
    person.press(",", ",")
    person.until(f"() => ({depth})() === '\N{MINUS SIGN}1'")
    person.press(".")
    person.until(f"first => ({picture})() === first", first)


def test_a_missed_synapse_and_a_box(person: Reviewer, shared: Server, faulty: Faulty) -> None:
    person.press("Enter")
    person.see(".section-canvas")
    person.press("a", "ArrowRight", "ArrowRight", "Enter")
    person.see(".dialog select")
    person.press("Enter")
    person.saved()
    person.press("b")
    person.see(".dialog input")
    person.press("Enter")
    person.saved()
    syn_id = int(person.tell(_PLACE))
    added, box = last(shared.log, AddDecision), last(shared.log, BoxDecision)
    assert isinstance(added, AddDecision)
    assert isinstance(box, BoxDecision)
    # The cross starts on the synapse and moves by a fortieth of 1600 nm each time.
    home = Candidates.load(open_run(faulty.config)).position_nm(syn_id)
    assert added.new.position_nm == pytest.approx((home[0] + 80, home[1], home[2]), abs=0.1)
    for low, place, high in zip(box.new.start_nm, home, box.new.stop_nm, strict=True):
        assert low < place < high


def test_objects_are_split_merged_and_deleted(person: Reviewer, shared: Server) -> None:
    syn_id = str(person.tell(_FOCUSED))
    person.press("Enter")
    person.see(".section-canvas")
    person.press("m")
    person.see(".modes")
    person.press("s")
    person.until("() => document.querySelector('.groups')")
    person.until(
        "() => performance.getEntriesByType('resource').some(e => e.name.includes('/api/labels'))"
    )
    person.press("Space", "2", ".", "Space")
    person.press("Shift+ArrowRight", "Space", "Enter")
    person.saved()
    split = last(shared.log, SplitDecision)
    assert isinstance(split, SplitDecision)
    assert str(split.syn_id) == syn_id
    assert len(split.new.markers) == 2
    person.press("m", "1", "Enter")
    person.saved()
    merge = last(shared.log, MergeDecision)
    assert isinstance(merge, MergeDecision)
    assert len(merge.new.syn_ids) == 2
    person.press("d")
    person.see(".dialog")
    person.press("Enter")
    person.saved()
    assert str(last(shared.log, DeleteDecision).syn_id) == syn_id
    person.press("u")
    person.until("() => document.querySelector('.toast').textContent.includes('Undone')")
    person.saved()


def test_names_are_text(person: Reviewer) -> None:
    person.until("() => document.querySelector('.tile-pre').textContent.includes('<i class=evil>')")
    person.press("g", "p")
    person.see(".pre")
    assert EVIL in person.page.locator(".pre").inner_text()
    assert person.page.locator("i.evil").count() == 0


@pytest.mark.parametrize("size", [(1366, 768), (3840, 2160)], ids=str)
def test_every_view_fits_the_screen(
    at_size: Callable[[tuple[int, int]], AbstractContextManager[Reviewer]], size: tuple[int, int]
) -> None:
    with at_size(size) as person:
        for keys, landmark in (
            ("g c", ".foot button"),
            ("Enter", ".verdicts"),
            ("g p", ".confirm"),
            ("m", ".modes"),
            ("g r", ".log-rows"),
        ):
            person.press(*keys.split())
            person.see(landmark)
            assert person.tell(_FITS), landmark
            box = person.page.locator(landmark).last.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size[0]
            assert box["y"] + box["height"] <= size[1]
            person.press("?")
            person.see(".help-row")
            person.press("Escape")
        assert person.complaints == []
