"""How far a review is: counts of what stands, and of what each reviewer did."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from cnapse.review.decisions import Decision
from cnapse.review.log import DecisionLog
from cnapse.review.standing import Disagreement, Standing
from cnapse.review.web.desk import Desk

__all__ = ["Tally", "progress"]

_MINUTES = 60
_MOST_DISAGREEMENTS = 100
# A pause is no work: who comes back after it begins anew.
_PAUSE = timedelta(minutes=5)
_RECENT = 50


class Tally:
    """What each reviewer did, counted on from where it was: a log is read once."""

    def __init__(self) -> None:
        self._seen = 0
        self._done: dict[str, dict[str, Any]] = {}
        self._minutes: Counter[str] = Counter()
        self._times: dict[str, list[datetime]] = {}
        self._lock = threading.Lock()

    def updated(self, log: DecisionLog) -> tuple[list[dict[str, Any]], list[tuple[str, int]]]:
        """Counts by reviewer, and of the last minutes in which there was any decision."""
        with self._lock:
            for decision in log.decisions(self._seen):
                self._count(decision)
                self._seen = decision.id
            newest = sorted(self._minutes)[-_MINUTES:]
            self._minutes = Counter({minute: self._minutes[minute] for minute in newest})
            reviewers = [
                {**done, "per_minute": _rate(self._times[name])}
                for name, done in sorted(self._done.items())
            ]
            return reviewers, [(minute, self._minutes[minute]) for minute in newest]

    def _count(self, decision: Decision) -> None:
        done = self._done.setdefault(
            decision.reviewer,
            {"name": decision.reviewer, "decisions": 0, "candidates": 0, "partners": 0,
             "objects": 0, "seconds": 0.0, "last": ""},
        )  # fmt: skip
        done["decisions"] += 1
        done[decision.loop] += 1
        done["seconds"] += decision.seconds
        done["last"] = decision.time
        times = self._times.setdefault(decision.reviewer, [])
        times.append(datetime.fromisoformat(decision.time))
        del times[:-_RECENT]
        self._minutes[f"{decision.time[:16]}Z"] += 1


def progress(desk: Desk, tally: Tally) -> dict[str, Any]:
    """How far the review of the candidates is: what the lists of `Desk.rows` would count."""
    standing = desk.log.standing()
    by_id = standing.answers
    said = desk.known(by_id)
    answers = Counter(by_id[i] for i in said)
    settled = desk.known(standing.settled("partners"))
    partners = desk.known(standing.partners) - settled
    confirmed = sum(desk.confirms(standing.partners[i]) for i in partners)
    total = len(desk.candidates)
    actions = Counter(decision.action for decision in standing.objects)
    reviewers, minutes = tally.updated(desk.log)
    return {
        "total": total,
        "candidates": {
            "decided": len(said),
            **{answer: answers[answer] for answer in ("true", "false", "unsure")},
            "left": total - len(said),
            "added": len(standing.added),
            "boxes": len(standing.boxes),
        },
        "partners": {
            "total": total - len(settled),
            "decided": len(partners),
            "confirmed": confirmed,
            "corrected": len(partners) - confirmed,
            "left": total - len(settled | partners),
        },
        "objects": {name: actions[name] for name in ("merge", "split", "delete", "repaint")},
        "reviewers": reviewers,
        "minutes": minutes,
        "disagreements": _disagreements(standing),
    }


def _disagreements(standing: Standing) -> list[dict[str, Any]]:
    return [_told(one) for one in standing.disagreements[:_MOST_DISAGREEMENTS]]


def _told(one: Disagreement) -> dict[str, Any]:
    first, last = one.decisions[0], one.decisions[-1]
    return {
        "syn_id": str(one.syn_id),
        "loop": last.loop,
        "first": {"reviewer": first.reviewer, "new": first.new.model_dump(mode="json")},
        "last": {"reviewer": last.reviewer, "new": last.new.model_dump(mode="json")},
    }


def _rate(times: list[datetime]) -> float | None:
    """Decisions a minute since the last pause; None for too few."""
    first = len(times) - 1
    while first > 0 and times[first] - times[first - 1] < _PAUSE:
        first -= 1
    span = (times[-1] - times[first]).total_seconds()
    return (len(times) - 1 - first) * 60 / span if span > 0 else None
