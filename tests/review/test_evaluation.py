"""A run judged by its log: figures against brute force, and against a truth that is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cnapse.review.assignment import Request, claim_next, draw_sample
from cnapse.review.decisions import (
    AddDecision,
    AddedSynapse,
    BoxDecision,
    DeleteDecision,
    MergeDecision,
    Merging,
    ReviewedBox,
    Verdict,
    VerdictDecision,
)
from cnapse.review.evaluation import evaluate_review
from cnapse.review.evaluation_report import draw_review, review_report
from cnapse.review.items import Candidates, Filter
from cnapse.review.log import DecisionLog
from cnapse_cli.main import app


@pytest.fixture
def log(tmp_path: Path):
    with DecisionLog(tmp_path / "log.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def candidates(make_tables) -> Candidates:
    return Candidates.from_tables(*make_tables(400, seed=4))


@pytest.fixture(scope="module")
def truth(candidates) -> dict[int, str]:
    """The smaller, the more doubtful."""
    rng = np.random.default_rng(0)
    right = rng.random(len(candidates)) < 0.4 + candidates.columns["size"] / 80000
    return {
        i: "true" if ok else "false" for i, ok in zip(candidates.ids.tolist(), right, strict=True)
    }


def verdict(i: int, answer: str, who: str = "ann", **more) -> VerdictDecision:
    return VerdictDecision(reviewer=who, syn_id=i, new=Verdict(verdict=answer), **more)


def test_nothing_decided(log, candidates) -> None:
    found = evaluate_review(log, candidates)
    assert found.decided == 0
    assert found.size is None
    assert review_report(found).startswith("0 of 400 candidates decided")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["precision"]["value"] is None
    empty = evaluate_review(log, Candidates.from_tables(candidates_none()))
    assert empty.candidates == 0


def candidates_none():
    from cnapse.tables import SYNAPSES, empty_table

    return empty_table(SYNAPSES)


def test_precision_is_of_the_sample_and_not_of_what_else_was_decided(
    log, candidates, truth
) -> None:
    request = Request("candidates", "ann", 180, order="stratified")
    sampled = claim_next(log, candidates, request)
    log.append_many(verdict(i, truth[i]) for i in sampled)
    honest = evaluate_review(log, candidates).precision
    true = np.mean([answer == "true" for answer in truth.values()])
    assert honest.low <= true <= honest.high
    assert honest.n == 180
    # The worst ones are looked at, too: a plain mean would be lower, this one stays.
    sample = log.sample("stratified 0")
    far = {i for i, _ in sample.items[300:]}
    wrong = [i for i in far if truth[i] == "false"]
    log.append_many(verdict(i, "false") for i in wrong)
    found = evaluate_review(log, candidates)
    assert found.precision == honest
    assert found.precision_basis == "sample"
    assert found.decided == 180 + len(wrong)
    # By brute force: the mean of each stratum, by its share of all.
    number = candidates.stratum[candidates.rows_of(sampled)]
    population = np.bincount(candidates.stratum)
    right = np.array([truth[i] == "true" for i in sampled])
    means = [right[number == s].mean() for s in range(len(population))]
    assert honest.value == pytest.approx(np.average(means, weights=population))


def test_a_gap_ends_what_is_taken_of_a_stratum(log, candidates, truth) -> None:
    sample = draw_sample(log, candidates)
    strata = [stratum for _, stratum in sample.items]
    of_first = [i for i, stratum in sample.items if stratum == strata[0]]
    log.append_many(verdict(i, "true") for i in [*of_first[:3], *of_first[4:9]])
    log.append(DeleteDecision(reviewer="ann", syn_id=of_first[1]))
    log.append(verdict(of_first[2], "unsure", "bob"))
    found = evaluate_review(log, candidates)
    (begun,) = (s for s in found.strata if s.true + s.false + s.unsure)
    assert (begun.true, begun.false, begun.unsure) == (1, 1, 1)
    assert (found.precision.value, found.precision.n) == (0.5, 2)
    assert found.if_unsure == pytest.approx((1 / 3, 2 / 3))
    share = 100 * begun.population / 400
    assert f"over strata with {share:.0f} % of the candidates" in review_report(found)


def test_without_a_sample_it_says_so(log, candidates) -> None:
    log.append_many(verdict(i, "true" if i < 9 else "false") for i in range(1, 13))
    found = evaluate_review(log, candidates)
    assert found.precision_basis == "all"
    assert found.precision.value == pytest.approx(8 / 12)
    assert "which is no random choice" in review_report(found)


def test_recall_is_of_boxes(log, candidates, truth) -> None:
    box = ReviewedBox(start_nm=(0, 0, 0), stop_nm=(5000, 5000, 5000))
    other = ReviewedBox(start_nm=(4000, 0, 0), stop_nm=(9000, 5000, 5000))
    inside, both = (
        {*candidates.ids[candidates.select(where=Filter(box_nm=(b.start_nm, b.stop_nm)))].tolist()}
        for b in (box, other)
    )
    true = sorted(i for i in inside if truth[i] == "true")
    log.append_many(verdict(i, truth[i]) for i in inside | both if i != true[0])
    log.append(MergeDecision(reviewer="ann", new=Merging(syn_ids=true[1:3])))
    log.append(MergeDecision(reviewer="ann", new=Merging(syn_ids=true[2:4])))
    places = [(10.0, 10.0, 10.0), (4500.0, 0.0, 0.0), (5000.0, 1.0, 1.0), (9000.0, 1.0, 1.0)]
    for place in places:
        log.append(AddDecision(reviewer="ann", new=AddedSynapse(position_nm=place)))
    log.append(BoxDecision(reviewer="ann", new=box))
    log.append(BoxDecision(reviewer="bob", new=other))
    found = evaluate_review(log, candidates)
    first, second = found.boxes
    # One is undecided, and three are one synapse.
    assert (first.found, first.undecided, first.missed) == (len(true) - 3, 1, 2)
    assert first.false == len(inside) - len(true)
    rest = [truth[i] for i in both - inside]
    assert (second.found, second.false) == (rest.count("true"), rest.count("false"))
    # What lies in both boxes counts once.
    assert second.missed == 1
    hits = first.found + second.found
    assert found.recall.value == hits / (hits + 3)
    assert "1 candidate in them is undecided" in review_report(found)
    # Undone, a box counts no longer.
    log.undo("bob")
    assert len(evaluate_review(log, candidates).boxes) == 1


def test_calibration_and_size_by_brute_force(log, candidates, truth) -> None:
    decided = candidates.ids[::3].tolist()
    log.append_many(verdict(i, truth[i]) for i in decided)
    found = evaluate_review(log, candidates)
    rows = candidates.rows_of(decided)
    score = candidates.columns["mean_probability"][rows]
    right = np.array([truth[i] == "true" for i in decided])
    known = ~np.isnan(score)
    by_score = found.calibration[0]
    assert by_score.n == known.sum()
    assert by_score.brier == pytest.approx(np.mean((score - right)[known] ** 2))
    errors = []
    for one in by_score.bins:
        last = one.high == 1
        here = known & (score >= one.low - 1e-9) & ((score < one.high - 1e-9) | last)
        assert (one.n, one.observed) == (here.sum(), pytest.approx(right[here].mean()))
        errors.append(one.n * abs(score[here].mean() - right[here].mean()))
    assert sum(one.n for one in by_score.bins) == known.sum()
    assert by_score.ece == pytest.approx(sum(errors) / known.sum())
    doubt = found.calibration[1]
    assert doubt.name == "1 - doubt"
    assert all(0 <= one.interval[0] <= one.observed <= one.interval[1] <= 1 for one in doubt.bins)
    size = candidates.columns["size"][rows]
    f1 = {
        cut: 2 * right[size >= cut].sum() / ((size >= cut).sum() + right.sum())
        for cut in {0.0, *size}
    }
    assert found.size.best_f1.f1 == pytest.approx(max(f1.values()))
    assert f1[found.size.best_f1.min_size] == pytest.approx(max(f1.values()))
    assert found.size.now.precision == pytest.approx(right.mean())
    assert found.size.now.recall == 1
    assert not found.size.absolute
    assert found.size.best_precision.recall >= 0.95


def test_decisions_of_a_run_before(log, candidates) -> None:
    log.append_many(verdict(i, "true") for i in (1, 2, 3, 10**6, 10**7))
    found = evaluate_review(log, candidates)
    assert (found.decided, found.elsewhere, found.size.now.precision) == (5, 2, 1)
    assert review_report(found).startswith(
        "3 of 400 candidates decided\nnote: 2 more decisions are about synapses that this run does"
    )


def test_reviewers(log, candidates) -> None:
    log.append_many(verdict(i, "true", "ann", seconds=2.0) for i in range(1, 9))
    log.append_many(
        verdict(i, "true" if i % 4 else "false", "bob", seconds=float(i)) for i in range(5, 12)
    )
    log.undo("bob")
    found = evaluate_review(log, candidates)
    (pair,) = found.agreement
    assert (pair.first, pair.second, pair.n, pair.alike) == ("ann", "bob", 4, 3)
    assert pair.kappa == 0
    ann, bob = found.work
    assert (ann.decisions, ann.median_seconds) == (8, 2)
    assert ann.hours == pytest.approx(16 / 3600)
    assert (bob.decisions, bob.timed, bob.median_seconds) == (6, 7, 8)
    assert found.disagreements == 1
    text = review_report(found)
    assert "1 disagreement stands: the last decision counts" in text
    assert "1,800" in text


def test_the_command(reviewed, tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log") as log:
        log.append_many(verdict(2**63 + i, "true" if i else "false") for i in range(6))
        log.append(BoxDecision(
            reviewer="ann", new=ReviewedBox(start_nm=(0, -80, 250), stop_nm=(520, 320, 850))
        ))  # fmt: skip
    arguments = ["evaluate", "review", str(reviewed.config), "--log", str(tmp_path / "log")]
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    done = CliRunner().invoke(app, [*arguments, "--json", str(out), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    values = json.loads(out.read_text())
    assert values["precision"]["value"] == pytest.approx(5 / 6)
    assert values["boxes"][0]["found"] == 5
    assert values["calibration"][0]["brier"] is None
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = CliRunner().invoke(app, [*arguments, "--sample", "x"])
    assert str(refused.exception) == "--sample x: the log has no such sample, but none"
    refused = CliRunner().invoke(app, [*arguments, "--picture", str(tmp_path / "x.doc")])
    assert str(refused.exception).endswith("x.doc: a picture is written as .png, .svg or .pdf")


def test_a_picture_of_nothing(log, candidates, tmp_path: Path) -> None:
    found = evaluate_review(log, candidates)
    assert math.isnan(found.calibration[0].ece)
    draw_review(found, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 10_000
