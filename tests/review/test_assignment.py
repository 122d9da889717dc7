"""Who gets what next, and samples that stay samples."""

from collections import Counter
from pathlib import Path

import pytest

from cnapse.review.assignment import Request, claim_next, draw_sample
from cnapse.review.decisions import DeleteDecision, MergeDecision, Merging, Verdict, VerdictDecision
from cnapse.review.items import Candidates, Filter
from cnapse.review.log import DecisionLog


@pytest.fixture
def log(tmp_path: Path):
    with DecisionLog(tmp_path / "log.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def candidates(make_tables) -> Candidates:
    return Candidates.from_tables(*make_tables(60, seed=2))


def decide(log: DecisionLog, ids: list[int], reviewer: str, answer: str = "true") -> None:
    log.append_many(
        VerdictDecision(reviewer=reviewer, syn_id=i, new=Verdict(verdict=answer)) for i in ids
    )


def test_in_order_and_each_once(log, candidates) -> None:
    wanted = candidates.ids[candidates.select("doubt", Filter(min_size=20000.0))].tolist()
    given: list[int] = []
    for turn in range(100):
        request = Request("candidates", f"r{turn % 3}", 2, where=Filter(min_size=20000.0))
        found = claim_next(log, candidates, request)
        decide(log, found, request.reviewer)
        given += found
        if not found:
            break
    assert given == wanted


def test_what_one_has_comes_first_again(log, candidates) -> None:
    first = claim_next(log, candidates, Request("candidates", "ann", 2, order="size"))
    other = claim_next(log, candidates, Request("candidates", "ann", 3, order="random"))
    assert {*first} < {*other}
    assert not {*other} & {*claim_next(log, candidates, Request("candidates", "bob", 9))}


def test_false_ones_have_no_partners_to_correct(log, candidates) -> None:
    wrong = candidates.ids[:10].tolist()
    decide(log, wrong, "ann", "false")
    decide(log, candidates.ids[10:20].tolist(), "ann", "true")
    ids = candidates.ids.tolist()
    log.append(DeleteDecision(reviewer="ann", syn_id=ids[20]))
    merged = sorted(ids[21:24])
    log.append(MergeDecision(reviewer="ann", new=Merging(syn_ids=merged[:2])))
    log.append(MergeDecision(reviewer="bob", new=Merging(syn_ids=merged[1:])))
    passed_over = ids[24:26]
    found = claim_next(log, candidates, Request("partners", "bob", 100, exclude=passed_over))
    assert {*found} == {*ids} - {*wrong, ids[20], *merged[1:], *passed_over}
    found = claim_next(log, candidates, Request("candidates", "cid", 100))
    assert {*found} == {*ids[21:]}


def test_a_sample_stays_and_is_walked_from_its_beginning(log, candidates, make_tables) -> None:
    request = Request("candidates", "ann", 7, order="stratified", seed=4)
    first = claim_next(log, candidates, request)
    sample = log.sample("stratified 4")
    assert sample is not None
    assert first == [i for i, _ in sample.items[:7]]
    decide(log, first, "ann")
    # The run was made again, and has other synapses: the sample is that of before.
    other = Candidates.from_tables(*make_tables(80, seed=9))
    second = claim_next(log, other, request)
    assert draw_sample(log, other, 4) == sample
    assert second == [i for i, _ in sample.items[7:14]]
    # Behind its end comes all the rest.
    rest = claim_next(log, other, Request("candidates", "ann", 100, order="stratified", seed=4))
    assert len({*rest}) == len(rest) == 73


def test_strata_tell_their_limits(log, candidates) -> None:
    sample = draw_sample(log, candidates, largest=30)
    counts = Counter(stratum for _, stratum in sample.items)
    assert sum(one["population"] for one in sample.strata["strata"]) == len(candidates)
    assert len(sample.items) == 30
    assert max(counts.values()) - min(counts.values()) <= 4
    for syn_id, stratum in sample.items:
        low, high = sample.strata["strata"][stratum]["size"]
        assert (low or 0) <= candidates.columns["size"][candidates.row(syn_id)] < (high or 1e9)


def test_filters_make_no_sample(log, candidates) -> None:
    where = Filter(min_size=20000.0, verdict="open")
    claim_next(log, candidates, Request("candidates", "a", 1, order="stratified", where=where))
    assert log.samples() == []
    where = Filter(verdict="open")
    claim_next(log, candidates, Request("candidates", "a", 1, order="stratified", where=where))
    assert log.samples() == ["stratified 0"]
