"""What stands after all decisions: the last of each kind about each object that is not undone.

An undo undoes one decision by its uuid. It can be undone itself, and what it undid stands again; a
decision stands while no standing undo points at it. Where several reviewers decided about one
object, the last counts, and where the last of each differ, that is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cnapse.review.decisions import (
    AddDecision,
    Answer,
    BoxDecision,
    Decision,
    DeleteDecision,
    Loop,
    MergeDecision,
    PartnersDecision,
    RepaintDecision,
    SplitDecision,
    UndoDecision,
    VerdictDecision,
)

__all__ = ["Disagreement", "Ledger", "ObjectDecision", "Standing", "merged_into", "standing"]

D = TypeVar("D", VerdictDecision, PartnersDecision)

ObjectDecision = MergeDecision | SplitDecision | DeleteDecision | RepaintDecision


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An object about which reviewers decided differently: the last decision of each, in order."""

    syn_id: int
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands.

    Attributes
    ----------
    verdicts, partners : mapping of synapse id to decision
    added : mapping of uuid to decision
    objects, boxes : tuple of decisions
        In the order of the log.
    by_reviewer : mapping of synapse id to mapping of reviewer to decision
        The last standing verdict of each reviewer.
    disagreements : tuple of Disagreement
        Differing verdicts, then differing partners; by id.
    undone : frozenset of str
        uuids of decisions, undos among them, that stand no longer.
    """

    verdicts: Mapping[int, VerdictDecision] = field(default_factory=dict)
    partners: Mapping[int, PartnersDecision] = field(default_factory=dict)
    added: Mapping[str, AddDecision] = field(default_factory=dict)
    objects: tuple[ObjectDecision, ...] = ()
    boxes: tuple[BoxDecision, ...] = ()
    by_reviewer: Mapping[int, Mapping[str, VerdictDecision]] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    undone: frozenset[str] = frozenset()

    @property
    def answers(self) -> dict[int, Answer]:
        """Whether an object is a synapse, by id: verdicts, and false where one is deleted."""
        said: dict[int, Answer] = {i: one.new.verdict for i, one in self.verdicts.items()}
        deleted = (one.syn_id for one in self.objects if isinstance(one, DeleteDecision))
        return said | dict.fromkeys(deleted, "false")

    def settled(self, loop: Loop) -> set[int]:
        """What needs no look in a loop: deleted objects, and for partners what is no synapse.

        Of merged ones the smallest id stays, and is asked about partners for all of them.
        """
        if loop != "partners":
            return {one.syn_id for one in self.objects if isinstance(one, DeleteDecision)}
        refused = {i for i, said in self.answers.items() if said == "false"}
        return refused | {i for i, into in merged_into(self).items() if i != into}


class Ledger:
    """Decisions taken in one by one, in the order of the log, and what stands after each.

    A decision costs no more than its object has decisions, so that a long log stays quick. An undo
    of what is not here has no force: so no undo can undo itself by a detour.
    """

    def __init__(self) -> None:
        self._all: dict[str, Decision] = {}
        self._undos: defaultdict[str, list[str]] = defaultdict(list)
        self._undone: set[str] = set()
        self._verdicts = _Listed[VerdictDecision]()
        self._partners = _Listed[PartnersDecision]()
        self._others: dict[str, AddDecision | BoxDecision | ObjectDecision] = {}
        self._snapshot: Standing | None = None

    def __len__(self) -> int:
        return len(self._all)

    def get(self, uuid: str) -> Decision | None:
        """The decision of a uuid."""
        return self._all.get(uuid)

    def add(self, decision: Decision) -> None:
        """Take in the next decision; one that is here already changes nothing."""
        if decision.uuid in self._all:
            return
        self._snapshot = None
        if isinstance(decision, VerdictDecision):
            self._verdicts.add(decision, self._undone)
        elif isinstance(decision, PartnersDecision):
            self._partners.add(decision, self._undone)
        elif isinstance(decision, AddDecision | BoxDecision | ObjectDecision):
            self._others[decision.uuid] = decision
        elif isinstance(decision, UndoDecision) and decision.new.undoes in self._all:
            self._undos[decision.new.undoes].append(decision.uuid)
            self._weigh(decision.new.undoes)
        self._all[decision.uuid] = decision

    def _weigh(self, uuid: str) -> None:
        """Whether a decision stands, and, if it is an undo whose force changed, what it undid."""
        while True:
            undone = any(undo not in self._undone for undo in self._undos[uuid])
            if undone == (uuid in self._undone):
                return
            (self._undone.add if undone else self._undone.discard)(uuid)
            decision = self._all[uuid]
            if not isinstance(decision, UndoDecision):
                self._verdicts.refresh(decision.syn_id, self._undone)
                self._partners.refresh(decision.syn_id, self._undone)
                return
            if decision.uuid not in self._undos[decision.new.undoes]:
                return
            uuid = decision.new.undoes

    def last_own(self, reviewer: str, loop: str | None = None) -> Decision | None:
        """The last decision of a reviewer that stands and is no undo."""
        for decision in reversed(self._all.values()):
            if (
                decision.reviewer == reviewer
                and (loop is None or decision.loop == loop)
                and not isinstance(decision, UndoDecision)
                and decision.uuid not in self._undone
            ):
                return decision
        return None

    def deciders(self, loop: str, syn_id: int) -> Collection[str]:
        """Reviewers of whom something stands about an object: of candidates, or of partners."""
        listed = self._partners if loop == "partners" else self._verdicts
        return listed.found.get(syn_id, {}).keys()

    def standing(self) -> Standing:
        """What stands now; a record that later decisions do not change."""
        if self._snapshot is None:
            others = [one for uuid, one in self._others.items() if uuid not in self._undone]
            self._snapshot = Standing(
                dict(self._verdicts.last),
                dict(self._partners.last),
                {one.uuid: one for one in others if isinstance(one, AddDecision)},
                tuple(one for one in others if isinstance(one, ObjectDecision)),
                tuple(one for one in others if isinstance(one, BoxDecision)),
                dict(self._verdicts.found),
                (*self._verdicts.disagreements(), *self._partners.disagreements()),
                frozenset(self._undone),
            )
        return self._snapshot


class _Listed(Generic[D]):
    """Decisions of one kind by object."""

    def __init__(self) -> None:
        self._all: defaultdict[int, list[D]] = defaultdict(list)
        self._differing: set[int] = set()
        self.found: dict[int, dict[str, D]] = {}
        """The last standing one of each reviewer, in the order of the log."""
        self.last: dict[int, D] = {}

    def add(self, decision: D, undone: Collection[str]) -> None:
        self._all[decision.syn_id].append(decision)
        self.refresh(decision.syn_id, undone)

    def refresh(self, syn_id: int, undone: Collection[str]) -> None:
        """Look again at what stands about an object; records that were given out do not change."""
        found: dict[str, D] = {}
        for decision in self._all.get(syn_id, ()):
            if decision.uuid not in undone:
                found.pop(decision.reviewer, None)
                found[decision.reviewer] = decision
        if found:
            self.found[syn_id] = found
            self.last[syn_id] = list(found.values())[-1]
        else:
            self.found.pop(syn_id, None)
            self.last.pop(syn_id, None)
        differ = len({one.substance for one in found.values()}) > 1
        (self._differing.add if differ else self._differing.discard)(syn_id)

    def disagreements(self) -> list[Disagreement]:
        return [Disagreement(i, tuple(self.found[i].values())) for i in sorted(self._differing)]


def standing(decisions: Iterable[Decision]) -> Standing:
    """What stands after these decisions, which come in the order of the log."""
    ledger = Ledger()
    for decision in decisions:
        ledger.add(decision)
    return ledger.standing()


def merged_into(standing: Standing) -> dict[int, int]:
    """Which one stands for each of those that were merged: the smallest id of all."""
    groups: dict[int, set[int]] = {}
    for one in standing.objects:
        if isinstance(one, MergeDecision):
            group = set().union(*(groups.get(i, {i}) for i in one.new.syn_ids))
            groups |= dict.fromkeys(group, group)
    return {i: min(group) for i, group in groups.items()}
