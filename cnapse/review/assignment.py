"""Who reviews what next: no two reviewers get the same item, and samples stay samples.

An item is a reviewer's for some minutes from when it was given out or asked for again. What is
neither decided nor asked for again comes back; what is decided is given to nobody, but for second
opinions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cnapse.review.decisions import Loop
from cnapse.review.items import Candidates, Filter, Order
from cnapse.review.log import DecisionLog, StoredSample
from cnapse.review.standing import Standing

__all__ = ["Request", "claim_next", "draw_sample", "sample_name"]

_LARGEST_SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Request:
    """What a reviewer asks for.

    Parameters
    ----------
    loop, reviewer : str
    count : int
        At most so many items.
    order : str
        See :meth:`cnapse.review.items.Candidates.select`.
    where : Filter
    descending : bool, optional
    seed : int
        Of ``random`` and ``stratified``.
    again : bool
        Second opinions: only what others have decided, and this reviewer has not.
    minutes : float
        How long the items are this reviewer's.
    exclude : sequence of int
        What the reviewer passed over.
    """

    loop: Loop
    reviewer: str
    count: int = 1
    order: Order = "doubt"
    where: Filter = field(default_factory=Filter)
    descending: bool | None = None
    seed: int = 0
    again: bool = False
    minutes: float = 10.0
    exclude: Sequence[int] = ()


def claim_next(log: DecisionLog, candidates: Candidates, request: Request) -> list[int]:
    """Give a reviewer the next items; those that were given to this reviewer before come first.

    Parameters
    ----------
    log, candidates
    request : Request
        Deleted objects are not given; in ``partners`` neither what is no synapse by a standing
        verdict, nor what was merged into another. Without a filter, ``stratified`` draws a sample
        on its first use, which then stays: `draw_sample`.

    Returns
    -------
    list of int
        Synapse ids; fewer than asked for, or none, if there are no more.
    """
    standing = log.standing()
    ids = _wanted(log, candidates, request, standing)
    return log.claim(
        request.loop, _mine_first(log, request, ids), request.reviewer, request.count,
        request.minutes, again=request.again,
    )  # fmt: skip


def _wanted(
    log: DecisionLog, candidates: Candidates, request: Request, standing: Standing
) -> npt.NDArray[np.uint64]:
    """Ids in the order asked for; the log leaves out what is decided."""
    rows = candidates.select(
        request.order, request.where, descending=request.descending, seed=request.seed,
        standing=standing,
    )  # fmt: skip
    if request.order == "stratified" and replace(request.where, verdict=None) == Filter():
        sample = draw_sample(log, candidates, request.seed)
        sampled = candidates.rows_of([syn_id for syn_id, _ in sample.items])
        chosen = np.zeros(len(candidates), np.bool_)
        chosen[rows] = True
        sampled = sampled[sampled >= 0]
        sampled = sampled[chosen[sampled]]
        chosen[sampled] = False
        # Behind the sample's end goes all the rest.
        rows = np.concatenate([sampled, rows[chosen[rows]]])
    out = candidates.rows_of([*request.exclude, *standing.settled(request.loop)])
    left = np.ones(len(candidates), np.bool_)
    left[out[out >= 0]] = False
    return candidates.ids[rows[left[rows]]]


def _mine_first(log: DecisionLog, request: Request, ids: npt.NDArray[np.uint64]) -> Iterator[int]:
    mine = [i for i, who in log.leases(request.loop).items() if who == request.reviewer]
    held = np.isin(ids, np.array(mine, np.uint64))
    yield from map(int, ids[held])
    yield from map(int, ids[~held])


def sample_name(seed: int) -> str:
    """What the sample of a seed is called in the log."""
    return f"stratified {seed}"


def draw_sample(
    log: DecisionLog, candidates: Candidates, seed: int = 0, *, largest: int = _LARGEST_SAMPLE
) -> StoredSample:
    """The stratified sample of a seed: as it is in the log, or drawn now and kept there.

    Parameters
    ----------
    log, candidates
    seed : int
    largest : int
        At most so many items.

    Returns
    -------
    StoredSample
        ``strata`` holds a list ``strata`` of ``{"doubt": [low, high], "size": [low, high],
        "population": n}``; the number of an item's stratum is its place in that list.
    """
    known = log.sample(sample_name(seed))
    if known is not None:
        return known
    rows = candidates.select("stratified", seed=seed, descending=False)[:largest]
    population = np.bincount(candidates.stratum, minlength=len(candidates.strata))
    strata = [
        {**candidates.strata.describe(number), "population": int(count)}
        for number, count in enumerate(population)
    ]
    items = zip(candidates.ids[rows].tolist(), candidates.stratum[rows].tolist(), strict=True)
    return log.put_sample(sample_name(seed), seed, {"strata": strata}, items)
