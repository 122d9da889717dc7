"""The score of synaptic partners of the CREMI challenge (https://cremi.org/metrics/).

A pair of a presynaptic and a postsynaptic site matches a true pair if both ends lie in the same
two cells and each end is at most 400 nm from its true place. Among all one-to-one assignments the
one of least cost counts: a match costs the mean of its two distances, a pair without a match costs
twice the threshold. Unmatched pairs are false positives and false negatives, and the score is
their F-score.

Written from the definition of the challenge's reference implementation (`SynapticPartners` in
cremi_python). What differs is the data, not the score: the reference looks cells up in the true
segmentation at both ends of every pair, here they are the ids of the tables; and a synapse of a
cnapse table has one presynaptic site for all of its partners.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnapse.analysis.assignment import best_pairs
from cnapse.analysis.matching import Score, near_pairs
from cnapse.analysis.synapse_set import SynapseSet
from cnapse.errors import ConfigError

__all__ = ["CREMI_NM", "cremi_score"]

CREMI_NM = 400.0

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def cremi_score(predicted: SynapseSet, truth: SynapseSet, max_nm: float = CREMI_NM) -> Score | None:
    """Score the partner rows of two sides as the CREMI challenge does.

    Parameters
    ----------
    predicted, truth
        With places of synapses (the presynaptic site) and of contacts (the postsynaptic site), and
        with the cell ids of one segmentation. A row of unknown presynaptic cell matches nothing.
    max_nm
        Largest distance of either end.

    Returns
    -------
    Score or None
        None if a side does not know the places of both ends.

    Raises
    ------
    ConfigError
        If `max_nm` is not positive.
    """
    if not max_nm > 0:
        raise ConfigError(f"the largest distance of a match must be positive, not {max_nm} nm")
    sides = [_ends(side) for side in (predicted, truth)]
    if sides[0] is None or sides[1] is None:
        return None
    (pre_a, post_a), (pre_b, post_b) = sides[0], sides[1]
    code = _edge_codes(predicted, truth)
    i, j = near_pairs(pre_a, pre_b, max_nm).T
    same = code[i] == code[len(pre_a) + j]
    i, j = i[same], j[same]
    pre_nm = np.linalg.norm(pre_a[i] - pre_b[j], axis=1)
    post_nm = np.linalg.norm(post_a[i] - post_b[j], axis=1)
    near = post_nm <= max_nm
    worth = 2 * max_nm - (pre_nm + post_nm) / 2
    found = len(best_pairs(i[near], j[near], worth[near]))
    return Score(found, len(pre_a) - found, len(pre_b) - found)


def _ends(side: SynapseSet) -> tuple[Floats, Floats] | None:
    if side.places is None or side.post_places is None:
        return None
    return side.places[side.row], side.post_places


def _edge_codes(predicted: SynapseSet, truth: SynapseSet) -> Int64s:
    """A number for each pair of cells, and one of its own for each row of unknown cell."""
    pre = np.concatenate([side.pre[side.row] for side in (predicted, truth)])
    post = np.concatenate([predicted.post, truth.post])
    code = np.unique(np.stack([pre, post], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    alone = len(code) + np.arange(len(code))
    codes: Int64s = np.where(pre > 0, code, alone)
    return codes
