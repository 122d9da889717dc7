"""What the server knows: the candidates of a run, the log, and how both are told as JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from cnapse.errors import ReviewError
from cnapse.review.apply_partners import confirms
from cnapse.review.assignment import Request, claim_next
from cnapse.review.decisions import ERRORS, Decision, Loop, PartnersDecision, parse_decision
from cnapse.review.items import ORDERS, Candidates, Filter
from cnapse.review.log import DecisionLog
from cnapse.review.standing import Standing
from cnapse.review.web.partner_rows import PartnerRows
from cnapse.review.web.schemas import Wanted
from cnapse.runs import RunData
from cnapse.tables import SynapseFlag

__all__ = ["Desk"]

_NEIGHBOURS = 12
_NEAR_NM = 1500.0
_IDS = 1 << 64

Rows = npt.NDArray[np.int64]
Json = dict[str, Any]


class Desk:
    """A run and its log; may be asked by several threads.

    Parameters
    ----------
    run : RunData
    log : DecisionLog

    Raises
    ------
    RunStateError
        If the run has no tables yet.
    """

    def __init__(self, run: RunData, log: DecisionLog) -> None:
        self.run, self.log = run, log
        self.candidates = Candidates.load(run)
        self.partners = PartnerRows(run)
        self._section_nm = run.config.resolution[2]
        # By uuid: neither a decision nor the table changes.
        self._confirms: dict[str, bool] = {}
        self._cells = {name: cell for cell, name in self.partners.names.items()}

    # --- lists ----------------------------------------------------------------------------------

    def about(self, title: str) -> Json:
        """What the page needs to know of the run."""
        frame = self.run.frame
        return {
            "title": title,
            "resolution": frame.resolution,
            "size": frame.shape,
            "start_nm": frame.start_nm,
            "names": bool(self.partners.names),
            "flags": [flag.name.lower() for flag in SynapseFlag if flag.name],
            "errors": list(ERRORS),
            "orders": list(ORDERS),
            "total": len(self.candidates),
        }

    def where(self, wanted: Wanted) -> Filter:
        """A filter from what was asked for.

        Raises
        ------
        ReviewError
            If no cell is called so.
        """
        limits = ("min_size", "max_size", "min_doubt", "max_doubt", "min_score", "max_score")
        return Filter(
            verdict=None if wanted.verdict == "all" else wanted.verdict,
            error=None if wanted.error == "any" else wanted.error,
            cell=None if wanted.cell is None else self._cell(wanted.cell),
            flag=wanted.flag,
            **{name: getattr(wanted, name) for name in limits},
        )

    def rows(self, wanted: Wanted, loop: Loop = "candidates") -> Rows:
        """Rows of the candidates that a filter leaves, in an order.

        In the loop of partners, ``open`` and ``decided`` are about the partners, and what is no
        synapse is left out.
        """
        standing, where = self.log.standing(), self.where(wanted)
        by_partners = loop == "partners" and wanted.verdict in ("open", "decided")
        rows = self.candidates.select(
            wanted.order,
            replace(where, verdict=None) if by_partners else where,
            descending=wanted.descending,
            seed=wanted.seed,
            standing=standing,
        )
        if loop == "partners":
            rows = self._among(rows, standing.settled("partners"), present=False)
        if by_partners:
            rows = self._among(rows, standing.partners, present=wanted.verdict == "decided")
        if wanted.error == "any":
            rows = self._among(rows, (i for i, one in standing.verdicts.items() if one.new.error))
        return rows

    def known(self, syn_ids: Collection[int]) -> set[int]:
        """Those of the ids that the run's table has."""
        wanted = list(syn_ids)
        found = self.candidates.rows_of(wanted) >= 0
        return set(itertools.compress(wanted, found.tolist()))

    def page(self, rows: Sequence[int] | Rows, loop: Loop = "candidates") -> list[Json]:
        """Rows as JSON."""
        standing = self.log.standing()
        items = self.candidates.page(rows, standing, self.log.leases(loop))
        for item in items:
            syn_id = int(item["syn_id"])
            verdict = standing.verdicts.get(syn_id)
            item["note"] = verdict.new.note if verdict else ""
            item["extent"] = self._sections(syn_id, item["position_nm"][2])
        return items

    def claim(self, request: Request) -> list[Json]:
        """The next items for a reviewer."""
        return self._items(claim_next(self.log, self.candidates, request), request.loop)

    def renew(self, loop: Loop, items: Sequence[int], reviewer: str) -> list[Json]:
        """Of these items those that nobody else has, which are this reviewer's now."""
        fit = [i for i in items if i < _IDS]
        known, leases = self.known(fit), self.log.leases(loop)
        mine = [i for i in fit if i in known and leases.get(i, reviewer) == reviewer]
        self.log.claim(loop, mine, reviewer, len(mine))
        return self._items(mine, loop)

    # --- one synapse ----------------------------------------------------------------------------

    def detail(self, syn_id: int) -> Json:
        """All about a synapse.

        Raises
        ------
        ReviewError
            If there is none of this id.
        """
        row = self.candidates.row(syn_id)
        [item] = self.page([row])
        standing = self.log.standing()
        h = self.run.frame.resolution
        box = [[v * s for v, s in zip(c, h, strict=True)] for c in self.candidates.extent(syn_id)]
        return {
            **item,
            "box_nm": box,
            "partners": self.partners.of(syn_id),
            "standing": {
                "verdict": self.told(standing.verdicts.get(syn_id), standing),
                "partners": self.told(standing.partners.get(syn_id), standing),
            },
            "history": [self.told(one, standing) for one in self.log.history(syn_id)],
            "neighbours": self._neighbours(row),
        }

    # --- decisions ------------------------------------------------------------------------------

    def decide(self, submitted: BaseModel, reviewer: str) -> Json:
        """Put a decision into the log; the one that is there if it was sent before.

        Raises
        ------
        ReviewError
            If it is about what there is not.
        """
        said = submitted.model_dump(mode="json")
        place = self._place(said)
        decision = parse_decision(
            {
                **{name: said[name] for name in ("uuid", "action", "syn_id", "new", "seconds")},
                "reviewer": reviewer,
                "old": self._old(said),
                "position_nm": place,
            }
        )
        stored = self.log.append(decision)
        return {**stored.to_json(), "undone": stored.uuid in self.log.standing().undone}

    def newest(self, limit: int, before: int, reviewer: str | None) -> list[Json]:
        """Decisions of the log, the newest first."""
        standing = self.log.standing()
        found: list[Json] = []
        stop = before
        start = min(stop, len(self.log) + 1)
        while start > 1 and len(found) < limit:
            start = max(1, start - 4 * limit)
            part = self._between(start, stop)
            found += [
                told
                for d in reversed(part)
                if reviewer in (None, d.reviewer) and (told := self.told(d, standing))
            ]
            stop = start
        return found[:limit]

    def confirms(self, decision: PartnersDecision) -> bool:
        """Whether a decision leaves the partners as the run's table has them."""
        if decision.uuid not in self._confirms:
            pre = int(self.candidates.columns["pre_id"][self.candidates.row(decision.syn_id)])
            shares = self.partners.shares(decision.syn_id)
            self._confirms[decision.uuid] = confirms(decision, pre, shares)
        return self._confirms[decision.uuid]

    @staticmethod
    def told(decision: Decision | None, standing: Standing) -> Json | None:
        """A decision as JSON."""
        if decision is None:
            return None
        return {**decision.to_json(), "undone": decision.uuid in standing.undone}

    # --- parts ----------------------------------------------------------------------------------

    def _between(self, start: int, stop: int) -> list[Decision]:
        """Decisions from id `start` on, below `stop`."""
        return list(itertools.takewhile(lambda one: one.id < stop, self.log.decisions(start - 1)))

    def _items(self, syn_ids: Sequence[int], loop: Loop) -> list[Json]:
        rows = self.candidates.rows_of(syn_ids)
        return self.page(rows[rows >= 0], loop)

    def _among(self, rows: Rows, syn_ids: Iterable[int], *, present: bool = True) -> Rows:
        """Those of the rows that are, or are not, of some synapses."""
        marked = np.zeros(len(self.candidates), np.bool_)
        found = self.candidates.rows_of(list(syn_ids))
        marked[found[found >= 0]] = True
        kept: Rows = rows[marked[rows] == present]
        return kept

    def _sections(self, syn_id: int, z_nm: float) -> tuple[int, int]:
        """First and last section of an object, from the section of its position."""
        start, stop = self.candidates.extent(syn_id)
        own = math.floor(z_nm / self._section_nm)
        return start[2] - own, stop[2] - 1 - own

    def _cell(self, text: str) -> int:
        if text in self._cells:
            return self._cells[text]
        if text.isascii() and text.isdigit() and int(text) < 2**64:
            return int(text)
        raise ReviewError(f"no cell is called {text!r}: give its name or its id")

    def _neighbours(self, row: int) -> list[Json]:
        places = self.candidates.positions_nm
        # Along x first, which leaves few.
        near = np.flatnonzero(np.abs(self.candidates.columns["x_pos"] - places[row, 0]) <= _NEAR_NM)
        near = near[np.abs(places[near] - places[row]).max(axis=1) <= _NEAR_NM]
        distance = np.linalg.norm(places[near] - places[row], axis=1)
        nearest = near[np.argsort(distance, kind="stable")]
        chosen = [r for r in nearest.tolist() if r != row][:_NEIGHBOURS]
        return [
            {
                **{name: item[name] for name in ("syn_id", "pre", "size", "position_nm")},
                "distance_nm": math.dist(item["position_nm"], places[row]),
            }
            for item in self.candidates.page(chosen)
        ]

    def _place(self, said: Json) -> Sequence[float] | None:
        """Where a decision is about; None for an undo."""
        action, new = said["action"], said["new"]
        if action == "undo":
            return None
        if action in ("add_synapse", "box_done"):
            corners = (
                [new["position_nm"]]
                if action == "add_synapse"
                else [new["start_nm"], new["stop_nm"]]
            )
            place = [sum(values) / len(corners) for values in zip(*corners, strict=True)]
            self._check_inside(place)
            return place
        ids = [int(i) for i in new["syn_ids"]] if action == "merge" else [int(said["syn_id"])]
        return [self.candidates.position_nm(i) for i in ids][0]  # noqa: RUF015 - all must be there

    def _old(self, said: Json) -> Json | None:
        """What stood before a decision, where it replaces something."""
        syn_id, standing = int(said["syn_id"]), self.log.standing()
        if said["action"] == "verdict" and syn_id in standing.verdicts:
            return standing.verdicts[syn_id].new.model_dump(mode="json")
        if said["action"] == "partners":
            known = standing.partners.get(syn_id)
            return known.new.model_dump(mode="json") if known else self._predicted(syn_id)
        return None

    def _predicted(self, syn_id: int) -> Json:
        """The partners in the run's table, as a decision says them."""
        pre = self.candidates.columns["pre_id"][self.candidates.row(syn_id)]
        found = [{"post_id": p["post_id"], "share": p["share"]} for p in self.partners.of(syn_id)]
        return {"pre_id": str(pre), "partners": found, "note": ""}

    def _check_inside(self, place_nm: Sequence[float]) -> None:
        if not self.run.frame.holds_nm(place_nm):
            raise ReviewError(
                f"{', '.join(f'{v:g}' for v in place_nm)} nm lies outside of the volume"
            )
