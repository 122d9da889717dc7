"""What stands: replayed step by step and looked up by brute force."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cnapse.errors import ReviewError
from cnapse.review.decisions import (
    AddDecision,
    AddedSynapse,
    Decision,
    DeleteDecision,
    Partner,
    PartnersDecision,
    PartnerSet,
    UndoDecision,
    Undoing,
    Verdict,
    VerdictDecision,
    parse_decision,
)
from cnapse.review.standing import Ledger, standing

REVIEWERS = ("ann", "bob", "<i>")
Steps = list[tuple[int, int, int, int]]

STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 4), st.integers(0, 30)),
    max_size=40,
)


def told(steps: Steps) -> list[Decision]:
    """A log: each step is (kind, reviewer, object, which earlier one an undo undoes)."""
    made: list[Decision] = []
    for kind, who, syn_id, other in steps:
        reviewer = REVIEWERS[who]
        if kind in (3, 4) and made:
            target = made[other % len(made)]
            made.append(UndoDecision(reviewer=reviewer, new=Undoing(undoes=target.uuid)))
        elif kind == 1:
            cells = PartnerSet(pre_id=1, partners=(Partner(post_id=1 + other % 3),))
            made.append(PartnersDecision(reviewer=reviewer, syn_id=syn_id, new=cells))
        elif kind == 2:
            place = AddedSynapse(position_nm=(other, 0, 0))
            made.append(AddDecision(reviewer=reviewer, new=place))
        else:
            verdict = Verdict(verdict=("true", "false", "unsure")[other % 3], note=str(other))
            made.append(VerdictDecision(reviewer=reviewer, syn_id=syn_id, new=verdict))
    return made


def by_brute_force(log: list[Decision]) -> Callable[[Decision], bool]:
    """Whether a decision stands: no undo of it that stands itself."""

    def stands(decision: Decision) -> bool:
        return not any(
            isinstance(u, UndoDecision) and u.new.undoes == decision.uuid and stands(u) for u in log
        )

    return stands


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_what_stands_is_what_brute_force_finds(steps: Steps) -> None:
    log = told(steps)
    stands = by_brute_force(log)
    left = [d for d in log if stands(d)]
    found = standing(log)
    verdicts = [d for d in left if isinstance(d, VerdictDecision)]
    partners = [d for d in left if isinstance(d, PartnersDecision)]
    assert found.verdicts == {d.syn_id: d for d in verdicts}
    assert found.partners == {d.syn_id: d for d in partners}
    assert found.added == {d.uuid: d for d in left if isinstance(d, AddDecision)}
    assert found.undone == {d.uuid for d in log if not stands(d)}
    last = {(d.syn_id, d.reviewer): d for d in verdicts}
    assert {
        (syn_id, who): d for syn_id, of in found.by_reviewer.items() for who, d in of.items()
    } == last
    differ = {
        syn_id
        for syn_id, _ in last
        if len({d.new.verdict for (i, _), d in last.items() if i == syn_id}) > 1
    }
    assert {d.syn_id for d in found.disagreements if d.decisions[0].action == "verdict"} == differ


@given(STEPS)
@settings(max_examples=30, deadline=None)
def test_what_was_given_out_does_not_change(steps: Steps) -> None:
    ledger = Ledger()
    given_out = []
    log = told(steps)
    for i, decision in enumerate(log):
        ledger.add(decision)
        ledger.add(decision)
        given_out.append((ledger.standing(), log[: i + 1]))
    assert all(found == standing(before) for found, before in given_out)
    assert len(ledger) == len(log)


@given(st.integers(1, 300))
@settings(max_examples=15, deadline=None)
def test_a_chain_of_undos(length: int) -> None:
    log: list[Decision] = [DeleteDecision(reviewer="ann", syn_id=3)]
    for _ in range(length):
        log.append(UndoDecision(reviewer="ann", new=Undoing(undoes=log[-1].uuid)))
    assert bool(standing(log).objects) == (length % 2 == 0)


def test_an_undo_of_what_is_not_there_has_no_force() -> None:
    first = UndoDecision(reviewer="ann", new=Undoing(undoes="00000000-0000-0000-0000-000000000001"))
    itself = UndoDecision(
        uuid="00000000-0000-0000-0000-000000000001", reviewer="ann", new=Undoing(undoes=first.uuid)
    )
    assert standing([first, itself]).undone == {first.uuid}


def test_notes_and_shares_are_no_disagreement() -> None:
    def cells(who: str, *posts: tuple[int, float | None], note: str = "") -> PartnersDecision:
        partners = tuple(Partner(post_id=i, share=share) for i, share in posts)
        return PartnersDecision(
            reviewer=who, syn_id=9, new=PartnerSet(pre_id=1, partners=partners, note=note)
        )

    one, same = cells("ann", (1, None), (2, 0.5)), cells("bob", (2, None), (1, None), note="!")
    assert not standing([one, same]).disagreements
    other = cells("bob", (2, None))
    assert standing([one, same, other]).disagreements[0].decisions == (one, other)


BASE = {"reviewer": "ann", "action": "verdict", "syn_id": "5", "new": {"verdict": "true"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "rename"}, "action: it is one of verdict, add_synapse, box_done, partners, "),
        ({"reviewer": "a\nb"}, "reviewer: a name has 1 to 64 printable characters"),
        ({"reviewer": "a" * 65}, "reviewer: string should have at most 64 characters"),
        ({"syn_id": "0"}, "syn_id: input should be greater than or equal to 1"),
        ({"syn_id": str(2**64)}, "syn_id: an id is from 0 to 18446744073709551615 (64 bits)"),
        ({"syn_id": 5.5}, "syn_id: an id is a whole number, as a string of digits"),
        ({"syn_id": True}, "syn_id: an id is a whole number, as a string of digits"),
        ({"new": {"verdict": "no"}}, "new.verdict: input should be 'true', 'false' or 'unsure'"),
        ({"new": {"verdict": "true", "note": "\ud800"}}, "new.note: input should be a valid str"),
        ({"uuid": "7"}, "uuid: a uuid is 32 hexadecimal digits"),
        ({"time": "2026-11-23T10:00"}, "time: a time is ISO 8601 with its zone"),
        ({"seconds": float("nan")}, "seconds: input should be "),
        ({"position_nm": [1, 2, float("inf")]}, "position_nm.2: input should be "),
        ({"loop": "objects"}, "loop: input should be 'candidates'"),
        ({"colour": "red"}, "colour: extra inputs are not permitted"),
        (
            {"action": "merge", "new": {"syn_ids": ["3", "3"]}},
            "new: a synapse is listed twice among those to merge",
        ),
        (
            {"action": "box_done", "new": {"start_nm": [0, 0, 0], "stop_nm": [1, 0, 1]}},
            "new: each stop of a box must be above its start",
        ),
    ],
)
def test_what_is_no_decision(change: dict, message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        parse_decision(BASE | change)
    assert str(caught.value).startswith(f"this is no decision: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "0", "1", "00", "7" * 19, "18446744073709551615", "0" * 20, "18446744073709551616",
        "18446744073709551609", "1" * 21, "19" + "0" * 18, "1a", "", "-1",
    ],
)  # fmt: skip
def test_the_schema_of_an_id_takes_what_is_one(text: str) -> None:
    for kind in (VerdictDecision, AddDecision):
        schema = kind.model_json_schema()["properties"]["syn_id"]["anyOf"][0]["pattern"]
        new = {"verdict": "true"} if kind is VerdictDecision else {"position_nm": [1, 2, 3]}
        try:
            kind.model_validate({"reviewer": "a", "new": new, "syn_id": text})
            taken = True
        except ValidationError:
            taken = False
        assert bool(re.search(schema, text)) == taken


def test_ids_are_strings_in_json() -> None:
    decision = parse_decision(BASE | {"syn_id": str(2**64 - 1)})
    assert decision.syn_id == 2**64 - 1
    assert decision.to_json()["syn_id"] == "18446744073709551615"
    assert parse_decision(decision.to_json()) == decision
