"""The figures of `cnapse evaluate partners` as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnapse.analysis.cremi import CREMI_NM
from cnapse.analysis.edges import Correlation, EdgeScores, EdgeThreshold
from cnapse.analysis.matching import Score, ratio
from cnapse.analysis.partner_evaluation import (
    HUMAN_AGREEMENT,
    HUMAN_NOTE,
    Comparison,
    Matched,
    PartnerEvaluation,
)
from cnapse.analysis.partner_scores import PartnerScores, ShareError
from cnapse.analysis.text_table import aligned, counts, figure, interval

__all__ = ["report"]

Row = list[str]


# Columns of figures that a terminal of 100 characters holds.
_COLUMNS = 5


def report(comparison: Comparison) -> str:
    """A table to read, with the baseline in a column beside each of ours."""
    sides = [s for s in (comparison.predicted, comparison.baseline) if s is not None]
    names = ["predicted", "baseline"][: len(sides)]
    parts = [
        aligned(_sizes(comparison, sides, names)),
        *(aligned(rows, labels=2) for rows in _matched_tables(sides)),
        *(
            lines
            for name, side in zip(names, sides, strict=True)
            for lines in _edge_tables(side.edges, name if len(sides) > 1 else "")
        ),
        aligned(_cremi_rows(sides, names)),
        _footnotes(sides, names),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _sizes(
    comparison: Comparison, sides: Sequence[PartnerEvaluation], names: list[str]
) -> list[Row]:
    return [
        ["", *names, "true"],
        ["synapses", *(str(s.n_synapses) for s in sides), str(comparison.n_synapses)],
        ["partner rows", *(str(s.n_partners) for s in sides), str(comparison.n_partners)],
    ]


# --- matched synapses -----------------------------------------------------------------------------


def _matched_tables(sides: Sequence[PartnerEvaluation]) -> list[list[Row]]:
    """A column for each matching of ours, and the baseline's beside it; few enough to be read."""
    # The baseline may have other synapses and thus other matches, but the same limits.
    columns = list(zip(*(side.matched for side in sides), strict=True))
    step = max(1, _COLUMNS // len(sides))
    return [_matched_rows(columns[i : i + step]) for i in range(0, len(columns), step)]


def _matched_rows(together: Sequence[tuple[Matched, ...]]) -> list[Row]:
    columns = [one for each in together for one in each]
    beside = len(together[0]) - 1
    heads = [
        text for ours, *_ in together for text in (ours.matching.label, *["baseline"] * beside)
    ]
    people = [text for ours, *_ in together for text in (_human(ours), *[""] * beside)]

    def row(group: str, name: str, cell: Callable[[Matched], str]) -> Row:
        return [group, name, *(cell(column) for column in columns)]

    return [
        ["matched within", "", *heads],
        *_score_rows(row, "synapses", lambda m: m.synapses, lambda m: m.scores.intervals.synapses),
        row("presynaptic cell", "accuracy", lambda m: figure(m.scores.presynaptic_accuracy)),
        row("", "right / known", _presynaptic_counts),
        *_score_rows(
            row,
            "partner sets, given a match",
            lambda m: m.scores.matched,
            lambda m: m.scores.intervals.partners,
        ),
        row("", "exact sets", lambda m: figure(m.scores.exact_accuracy)),
        *_score_rows(
            row,
            "synapse and both cells",
            lambda m: m.scores.combined,
            lambda m: m.scores.intervals.combined,
        ),
        ["", "two people (F1) *", *people],
        *_share_rows(row, columns),
    ]


_MakeRow = Callable[[str, str, Callable[[Matched], str]], Row]


def _score_rows(
    row: _MakeRow,
    group: str,
    score: Callable[[Matched], Score],
    ends: Callable[[Matched], tuple[float, float] | None],
) -> list[Row]:
    return [
        row(group, "precision", lambda m: figure(score(m).precision)),
        row("", "recall", lambda m: figure(score(m).recall)),
        row("", "F1", lambda m: figure(score(m).f1)),
        row("", "95 % interval", lambda m: interval(ends(m))),
        row("", "right/false/missed", lambda m: counts(score(m)).replace(" ", "")),
    ]


def _share_rows(row: _MakeRow, columns: Sequence[Matched]) -> list[Row]:
    if all(column.scores.shares is None for column in columns):
        return []

    def part(value: Callable[[ShareError], float]) -> Callable[[Matched], str]:
        return lambda m: figure(None if m.scores.shares is None else value(m.scores.shares))

    return [
        row("error of shares", "mean", part(lambda e: e.mean)),
        row("", "median", part(lambda e: e.median)),
        row("", "95th percentile", part(lambda e: e.percentile_95)),
    ]


def _presynaptic_counts(matched: Matched) -> str:
    scores: PartnerScores = matched.scores
    return f"{scores.presynaptic_right}/{scores.presynaptic_known}"


def _human(matched: Matched) -> str:
    matching = matched.matching
    people = dict(HUMAN_AGREEMENT) if matching.by == "distance" else {}
    return f"{people[matching.limit]:.2f}" if matching.limit in people else "-"


# --- edges ----------------------------------------------------------------------------------------


def _edge_tables(edges: EdgeScores, name: str) -> list[list[str]]:
    of = f" ({name})" if name else ""
    tables = [
        _threshold_table(
            f"edges, least synapses{of}",
            edges.by_synapses,
            lambda least: f">= {least:g}",
            edges.synapses_correlation,
        )
    ]
    if edges.by_size is not None and edges.size_correlation is not None:
        tables.append(
            _threshold_table(
                f"edges, least size in nm3{of}",
                edges.by_size,
                lambda least: f">= {least:.4g}",
                edges.size_correlation,
            )
        )
    return tables


def _threshold_table(
    title: str,
    thresholds: Sequence[EdgeThreshold],
    label: Callable[[float], str],
    correlation: Correlation,
) -> list[str]:
    heads = ["precision", "recall", "F1", "right/false/missed", "real **", "seen **"]
    rows = [[title, *heads]]
    for threshold in thresholds:
        s = threshold.score
        real = ratio(threshold.real, s.true_positives + s.false_positives)
        seen = ratio(threshold.seen, s.true_positives + s.false_negatives)
        values = [figure(s.precision), figure(s.recall), figure(s.f1)]
        together = counts(s).replace(" ", "")
        rows.append([label(threshold.least), *values, together, figure(real), figure(seen)])
    text = f"Pearson {figure(correlation.pearson)}, Spearman {figure(correlation.spearman)}"
    return [*aligned(rows), f"correlation of the weights of {correlation.edges} edges: {text}"]


# --- the rest -------------------------------------------------------------------------------------


def _cremi_rows(sides: Sequence[PartnerEvaluation], names: list[str]) -> list[Row]:
    known = [(n, side.cremi) for n, side in zip(names, sides, strict=True) if side.cremi]
    if not known:
        return []
    heads = ["precision", "recall", "F-score", "right/false/missed"]
    rows = [[f"CREMI partners, {CREMI_NM:g} nm", *heads]]
    for name, score in known:
        values = [figure(score.precision), figure(score.recall), figure(score.f1)]
        rows.append([name, *values, counts(score).replace(" ", "")])
    return rows


def _footnotes(sides: Sequence[PartnerEvaluation], names: list[str]) -> list[str]:
    people = " and ".join(f"{f1:.2f} at {nm:g} nm" for nm, f1 in HUMAN_AGREEMENT)
    lines = [
        f" * agreement of {HUMAN_NOTE}: F1 {people}",
        "** real: predicted edges that are true at any weight",
        "   seen: true edges that are predicted at any weight",
    ]
    several = len(sides) > 1
    for name, side in zip(names, sides, strict=True):
        lines += [f"   {name + ': ' if several else ''}{note}" for note in side.notes]
    return lines
