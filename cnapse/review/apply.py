"""What a log of decisions makes of a run: objects, partners, and what could not be done.

1. Each standing decision is matched to an object of the run (:mod:`cnapse.review.apply_carry`).
2. What concerns voxels is done in the order of the log: false and delete, merge, split, repaint,
   added synapses (:mod:`cnapse.review.apply_objects`). An id of a merged object stands for it.
3. Objects that were cut or drawn and are smaller than the run's dust are dropped, as in the run.
4. Confirmations and partners are put on the objects that there are then.

Nothing is dropped silently: each decision has its line of what came of it, and what could not be
done, or stands against another decision or a new prediction, is a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ReviewError
from cnapse.geometry import Box, triple
from cnapse.review.apply_carry import Match, voxel_at
from cnapse.review.apply_records import (
    Cells,
    Conflict,
    ConflictKind,
    Outcome,
    Plan,
    Settings,
    Source,
)
from cnapse.review.apply_repaint import read_repaint
from cnapse.review.apply_shapes import ball, component_at, nearest_markers
from cnapse.review.decisions import (
    AddDecision,
    Decision,
    DeleteDecision,
    MergeDecision,
    PartnersDecision,
    RepaintDecision,
    SplitDecision,
    VerdictDecision,
)
from cnapse.review.standing import Standing

__all__ = ["make_plan"]

_ADD_WINDOW_NM = 400.0
_AIM_NM = 40.0
_BALL_NM = 60.0
_LOWER = (0.75, 0.5, 0.25)
_FEWEST = 8
_LARGEST_SPLIT = 1 << 27


def make_plan(
    standing: Standing, history: Iterable[Decision], source: Source, settings: Settings
) -> Plan:
    """Work out what decisions make of a run; nothing is written.

    Parameters
    ----------
    standing : Standing
        What stands of the log.
    history : iterable of Decision
        All of the log, in its order: what was shown to reviewers is told by their ``old``.
    source : Source
        Its objects are edited.
    settings : Settings
    """
    planner = _Planner(source, settings)
    voxels: list[Decision] = [
        *standing.verdicts.values(),
        *standing.objects,
        *standing.added.values(),
    ]
    for decision in sorted(voxels, key=_in_log):
        planner.edit(decision)
    planner.drop_dust()
    shown = _shown(history)
    for partners in sorted(standing.partners.values(), key=_in_log):
        planner.set_partners(partners, shown.get(partners.syn_id, []))
    planner.settle()
    return planner.plan


class _Planner:
    """Takes decisions in the order of the log."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self.source = source
        self.settings = settings
        self.objects = source.objects
        self.plan = Plan(source.objects)
        self._removed: dict[int, Decision] = {}
        self._cut: dict[int, Decision] = {}
        self._true: list[tuple[VerdictDecision, Match]] = []

    # --- voxels -----------------------------------------------------------------------------------

    def edit(self, decision: Decision) -> None:
        """Do what a decision says of an object; a conflict if that cannot be."""
        try:
            if isinstance(decision, VerdictDecision):
                self._verdict(decision)
            elif isinstance(decision, DeleteDecision):
                self._remove(decision, "deleted")
            elif isinstance(decision, MergeDecision):
                self._merge(decision)
            elif isinstance(decision, SplitDecision):
                self._split(decision)
            elif isinstance(decision, RepaintDecision):
                self._repaint(decision)
            elif isinstance(decision, AddDecision):
                self._add(decision)
        except ReviewError as error:
            self._conflict(decision, 0, "impossible", str(error))

    def _verdict(self, decision: VerdictDecision) -> None:
        answer = decision.new.verdict
        drop = self.settings.unsure == "drop"
        if answer == "false" or (answer == "unsure" and drop):
            self._remove(
                decision, "removed: no synapse" if answer == "false" else "removed: unsure"
            )
        elif answer == "true":
            match = self._match(decision)
            if match.syn_id:
                # What becomes of the object is known at the end.
                self._true.append((decision, match))
        else:
            match = self._match(decision)
            if match.syn_id:
                self._done(decision, (match.syn_id,), match.how, "kept: unsure")

    def _remove(self, decision: Decision, what: str) -> None:
        match = self._match(decision)
        if not match.syn_id:
            return
        now = self.objects.resolve(match.syn_id)
        if now is None:
            self._done(decision, (), match.how, "was gone already")
            return
        if now != match.syn_id:
            what += f"; with {now}, into which it was merged"
        self._forget(now, decision)
        self._done(decision, (now,), match.how, what)

    def _merge(self, decision: MergeDecision) -> None:
        found = []
        how = "id"
        for syn_id in decision.new.syn_ids:
            match = self._match(decision, syn_id)
            how = match.how if match.syn_id and match.how != "id" else how
            now = self._present(decision, match) if match.syn_id else None
            if now is not None:
                found.append(now)
        different = sorted(set(found))
        if len(different) < 2:
            what = "one object already" if len(found) > 1 else "nothing to merge with"
            self._done(decision, tuple(different), how, what)
            return
        kept = self.objects.merge(different)
        for other in different[1:]:
            self.plan.edited.pop(other, None)
            self._cut.pop(other, None)
            if other in self.plan.added:
                self.plan.added.pop(other)
        self.plan.edited[kept] = decision
        others = ", ".join(str(i) for i in different[1:])
        self._done(decision, (kept,), how, f"{others} merged into {kept}")

    def _split(self, decision: SplitDecision) -> None:
        places = [place for group in decision.new.markers for place in group]
        match = self._match(decision, places=places)
        now = self._present(decision, match) if match.syn_id else None
        if now is None:
            return
        hull = self.objects.hull(now)
        if hull.voxels > _LARGEST_SPLIT:
            raise ReviewError(f"{hull} is too large a box to split the object in it: repaint it")
        mask = self.objects.read(hull) == np.uint64(now)
        origin = np.asarray(hull.start)
        groups = [
            np.array([voxel_at(place, self.objects.frame) for place in group]) - origin
            for group in decision.new.markers
        ]
        owner = nearest_markers(mask, groups, hull.resolution)
        voxels = np.argwhere(mask) + origin
        first = int(np.argmin(self.objects.frame.raster_index(voxels)))
        others = [n for n in range(len(groups)) if n != owner[first]]
        new = self.objects.split(now, [voxels[owner == n] for n in others])
        for syn_id in (now, *new):
            self.plan.edited[syn_id] = self._cut[syn_id] = decision
        self._done(decision, (now, *new), match.how, f"split: {now} kept, new {_listed(new)}")

    def _repaint(self, decision: RepaintDecision) -> None:
        painted = read_repaint(self.source.repaints, decision.new, self.objects.frame)
        touched: set[int] = set()
        new = []
        for known, place, voxels in painted.by_object():
            before = self.objects.read(_box_of(voxels, self.objects.frame))
            touched |= {int(i) for i in np.unique(before[_places(voxels)]) if i}
            target = self._painted(decision, known, place)
            syn_id = self.objects.paint(voxels, target)
            if target is None:
                new.append(syn_id)
            if syn_id:
                touched.add(syn_id)
        for syn_id in touched:
            self.plan.edited[syn_id] = self._cut[syn_id] = decision
        what = f"{len(painted.voxels)} voxels drawn anew"
        if new:
            what += f", new {_listed(new)}"
        self._done(decision, tuple(sorted(touched)), "place", what)

    def _painted(
        self, decision: RepaintDecision, known: int | None, place: tuple[float, float, float] | None
    ) -> int | None:
        """The object that voxels drawn with an id go to; None for a new one."""
        if known in (None, 0):
            return known
        match = self.source.carrier.match(known, [place] if place else [])
        now = self.objects.resolve(match.syn_id) if match.syn_id else None
        if now is None:
            what = f"synapse {known} is no longer there: what was drawn with it is a new object"
            self._conflict(decision, 0, "gone", what)
        return now

    def _add(self, decision: AddDecision) -> None:
        frame, h = self.objects.frame, np.asarray(self.objects.frame.resolution)
        voxel = voxel_at(decision.new.position_nm, frame)
        here = Box.from_shape((1, 1, 1), frame.resolution, voxel)
        if not frame.contains(here):
            raise ReviewError(f"the place lies outside of the layer, {frame}: nothing was added")
        reach = triple(np.maximum(1, np.ceil(_ADD_WINDOW_NM / h)).astype(int).tolist())
        window = here.grown(reach).clamped(frame)
        others = self.objects.read(window) > 0
        at = np.asarray(voxel) - np.asarray(window.start)
        if others[tuple(at)]:
            syn_id = int(self.objects.read(here)[0, 0, 0])
            raise ReviewError(f"synapse {syn_id} is at the place: nothing was added")
        found = None
        if self.source.probability is not None:
            probability = np.where(others, 0, self.source.probability(window))
            seed = _most_likely(probability, at, h)
            thresholds = [self.settings.threshold * part for part in _LOWER]
            fewest = max(_FEWEST, self.settings.min_voxels)
            found = component_at(probability, others, seed, thresholds, fewest)
        what = "added: component of the probability" if found is not None else "added: a ball"
        if found is None:
            found = ball(~others, at, frame.resolution, _BALL_NM)
        syn_id = self.objects.add(found + np.asarray(window.start))
        self.plan.added[syn_id] = decision
        self.plan.edited[syn_id] = decision
        self._done(decision, (syn_id,), "place", f"{what} of {len(found)} voxels")

    def drop_dust(self) -> None:
        """Drop what cutting and drawing left too little of."""
        for syn_id, decision in sorted(self._cut.items()):
            if self.objects.resolve(syn_id) != syn_id:
                continue
            voxels = len(self.objects.voxels_of(syn_id))
            if voxels >= self.settings.min_voxels:
                continue
            self._forget(syn_id, decision)
            if voxels:
                what = f"{voxels} voxels are left, fewer than label.min_voxels: dropped as dust"
                self._conflict(decision, syn_id, "dust", what)

    # --- cells ------------------------------------------------------------------------------------

    def set_partners(self, decision: PartnersDecision, shown: list[Cells]) -> None:
        """Put the cells of a decision on its synapse."""
        match = self._match(decision)
        now = self._present(decision, match) if match.syn_id else None
        if now is None:
            return
        earlier = self.plan.partners.get(now)
        if earlier is not None and earlier.substance != decision.substance:
            what = f"decided otherwise by {earlier.reviewer} for a part of {now}: the later counts"
            self._conflict(decision, now, "contradiction", what)
        if match.syn_id not in self.objects.changed:
            self._compare(decision, match.syn_id, shown)
        self.plan.partners[now] = decision
        self._done(decision, (now,), match.how, "cells set")

    def _compare(self, decision: PartnersDecision, syn_id: int, shown: list[Cells]) -> None:
        """List a prediction that is neither what reviewers saw nor what they decided."""
        predicted = self.source.predicted(syn_id)
        if shown and predicted not in (*shown, decision.substance):
            pre, posts = predicted
            what = (
                f"now predicted {pre} to {_listed(sorted(posts)) or 'none'}, which was not what "
                f"the reviewer saw: the decision counts"
            )
            self._conflict(decision, syn_id, "prediction", what)

    def settle(self) -> None:
        """Put confirmations on the objects that there are, when all edits are done."""
        for decision, match in self._true:
            now = self._present(decision, match)
            if now is not None:
                self.plan.confirmed[now] = decision
                self._done(decision, (now,), match.how, "confirmed")
        self.plan.outcomes.sort(key=lambda outcome: _in_log(outcome.decision))
        self.plan.conflicts.sort(key=lambda conflict: _in_log(conflict.decision))

    # --- common -----------------------------------------------------------------------------------

    def _match(
        self,
        decision: Decision,
        syn_id: int | None = None,
        places: Iterable[tuple[float, float, float]] = (),
    ) -> Match:
        wanted = decision.syn_id if syn_id is None else syn_id
        own = decision.position_nm is not None and wanted == decision.syn_id
        known = [decision.position_nm] if own and decision.position_nm else []
        match = self.source.carrier.match(wanted, [*known, *places])
        if not match.syn_id:
            kind: ConflictKind = match.kind or "gone"
            self._conflict(decision, 0, kind, match.why)
        return match

    def _present(self, decision: Decision, match: Match) -> int | None:
        """The object that a match stands for now; where an earlier decision took it, a conflict."""
        now = self.objects.resolve(match.syn_id)
        if now is not None:
            return now
        remover = self._removed.get(match.syn_id)
        if remover is not None and _in_log(remover) < _in_log(decision):
            what = f"synapse {match.syn_id} was removed before, by {remover.reviewer}"
            self._conflict(decision, match.syn_id, "contradiction", what)
        else:
            self._done(decision, (), match.how, "was removed later")
        return None

    def _forget(self, syn_id: int, decision: Decision) -> None:
        self.objects.remove(syn_id)
        self._removed[syn_id] = decision
        self.plan.added.pop(syn_id, None)
        self.plan.edited.pop(syn_id, None)
        self._cut.pop(syn_id, None)

    def _done(self, decision: Decision, now: tuple[int, ...], matched: str, what: str) -> None:
        self.plan.outcomes.append(Outcome(decision, now, matched, what))

    def _conflict(self, decision: Decision, now: int, kind: ConflictKind, what: str) -> None:
        self.plan.conflicts.append(Conflict(decision, now, kind, what))


def _in_log(decision: Decision) -> tuple[int, str]:
    return decision.id, decision.uuid


def _shown(history: Iterable[Decision]) -> Mapping[int, list[Cells]]:
    """The cells that reviewers saw of each synapse before they decided."""
    found: dict[int, list[Cells]] = {}
    for decision in history:
        if isinstance(decision, PartnersDecision):
            cells = _cells_of(decision.old)
            listed = found.setdefault(decision.syn_id, [])
            if cells is not None:
                listed.append(cells)
    return found


def _cells_of(old: Mapping[str, Any] | None) -> Cells | None:
    """What stood before a decision, as far as it is told."""
    if not old or "pre_id" not in old or not isinstance(old.get("partners"), list):
        return None
    try:
        posts = frozenset(int(partner["post_id"]) for partner in old["partners"])
        return int(old["pre_id"]), posts
    except (KeyError, TypeError, ValueError):
        return None


def _most_likely(
    probability: npt.NDArray[Any], at: npt.NDArray[np.int64], h: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """The voxel of highest probability near a place, where a hand may have meant to point."""
    voxels = np.argwhere(probability > 0)
    distance = np.linalg.norm((voxels - at) * h, axis=1)
    near = distance <= _AIM_NM
    voxels, distance = voxels[near], distance[near]
    if not len(voxels):
        return at
    value = probability[tuple(voxels.T)].astype(np.int64)
    best: npt.NDArray[np.int64] = voxels[np.lexsort([distance, -value])[0]]
    return best


def _box_of(voxels: npt.NDArray[np.int64], frame: Box) -> Box:
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    return Box(triple(start.tolist()), triple(stop.tolist()), frame.resolution)


def _places(voxels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    return tuple((voxels - voxels.min(axis=0)).T)


def _listed(ids: Iterable[int]) -> str:
    return ", ".join(str(i) for i in ids)
