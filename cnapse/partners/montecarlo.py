"""Diffusion of transmitter as random walks of particles (Witvliet et al. 2021; Cnapse).

Each particle starts at an emitter voxel, drawn with replacement, and takes steps of one length in
directions drawn from a Fibonacci sphere. After each step it looks where it is::

    presynaptic cell        the step is undone
    another cell            it is absorbed there
    outside of the cutout   it is lost
    free space (label 0)    it goes on; after the last step allowed it is lost

The test comes after the step, so a particle that starts inside another cell may still leave it.
Positions are continuous; a particle is in the voxel whose centre is nearest, halves going up:
``floor(x + 0.5)`` with centres at integers. (The kernel counts from the voxel's corner instead,
where this is ``floor``.)

One difference from both programs: there, a particle that starts in another cell and leaves the box
with its very first step counts as absorbed in that cell; here it is lost, as the rule says.

Same bytes everywhere: every particle has its own stream of SplitMix64 numbers (Steele, Lea, Flood,
OOPSLA 2014), keyed by the run's seed, the synapse's first voxel and the particle's number, so that
nothing depends on numpy, blocks, order or workers; the directions are rounded to 2^-24, so that
mathematical libraries that differ in the last bit give the same table; and no fast-math.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import ConfigError
from cnapse.geometry import format_resolution
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.labels import Labels, Tissue, label_at, labels_of

__all__ = ["Walk", "check_step", "fibonacci_sphere", "walk", "walk_ends"]

MOST_PARTICLES = 10_000_000
"""More are never released for one synapse."""

Floats = npt.NDArray[np.float64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)

# 4 nm steps in voxels that were read as 3.9999998 nm are not too long.
_STEP_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Walk:
    """How particles walk.

    Parameters
    ----------
    particles
        How many.
    step_nm, directions, max_steps
        Length of a step, of how many directions, and how many steps at most.
    standard_error
        Release more particles, up to `MOST_PARTICLES`, until every share's sampling error is at
        most this.
    """

    particles: int = 1000
    step_nm: float = 4.0
    directions: int = 10_000
    max_steps: int = 10_000
    standard_error: float | None = None


def check_step(step_nm: float, resolution: Sequence[float]) -> None:
    """Refuse a step that is longer than the smallest voxel: it would jump over membranes.

    Raises
    ------
    ConfigError
    """
    smallest = min(resolution)
    if step_nm > smallest * (1 + _STEP_TOLERANCE):
        raise ConfigError(
            f"step_nm = {step_nm:g} is longer than the smallest voxel of "
            f"{format_resolution(resolution)} and would jump over membranes: "
            f"set step_nm to at most {smallest:g}"
        )


@functools.lru_cache(maxsize=8)
def fibonacci_sphere(count: int) -> Floats:
    """Unit vectors evenly spread over the sphere along a golden spiral.

    Parameters
    ----------
    count
        How many.

    Returns
    -------
    ndarray of float64, shape (count, 3)
        x, y, z; each a multiple of 2^-24. Read-only.
    """
    index = np.arange(count)
    height = 1 - (2 * index + 1) / count
    turn = np.pi * (1 + np.sqrt(5)) * index
    radius = np.sqrt(1 - height * height)
    vectors = np.stack([np.cos(turn) * radius, np.sin(turn) * radius, height], axis=1)
    rounded: Floats = np.rint(vectors * 2**24) / 2**24
    rounded.setflags(write=False)
    return rounded


@functools.lru_cache(maxsize=8)
def _steps(count: int, step_nm: float, resolution: tuple[float, float, float]) -> Floats:
    """The directions as steps in voxels; read-only."""
    steps: Floats = fibonacci_sphere(count) * (step_nm / np.asarray(resolution))
    steps.setflags(write=False)
    return steps


def walk(
    tissue: Tissue,
    emitters: npt.NDArray[np.int32],
    how: Walk,
    stream: tuple[int, int],
    *,
    threads: int = 1,
) -> Arrivals:
    """Let particles diffuse from the emitters of one synapse.

    Parameters
    ----------
    tissue : Tissue
        What surrounds the synapse.
    emitters : ndarray of int32, shape (n, 3)
        Voxels in the cutout, at least one.
    how : Walk
        Number of particles, step, directions, most steps.
    stream : (seed, first voxel)
        Of the run and of the synapse; they choose the random numbers.
    threads
        How many walk particles at once. The result does not depend on it.

    Returns
    -------
    Arrivals

    Raises
    ------
    ConfigError
        If the step is longer than the smallest voxel.
    """
    ends, places = walk_ends(tissue, emitters, how, stream, threads=threads)
    while (more := _still_needed(ends, how.standard_error)) > 0:
        next_ends, next_places = walk_ends(
            tissue, emitters, replace(how, particles=more), stream, threads=threads, first=len(ends)
        )
        ends, places = np.concatenate([ends, next_ends]), np.concatenate([places, next_places])
    return _tally(ends, places, np.asarray(tissue.resolution))


def walk_ends(
    tissue: Tissue,
    emitters: npt.NDArray[np.int32],
    how: Walk,
    stream: tuple[int, int],
    *,
    threads: int = 1,
    first: int = 0,
) -> tuple[npt.NDArray[np.uint64], Floats]:
    """Where each particle ends.

    Parameters
    ----------
    tissue, emitters, how, stream, threads
        As for `walk`; its ``standard_error`` is not looked at.
    first
        Number of the first particle: the particles of several calls are different ones.

    Returns
    -------
    ends : ndarray of uint64, shape (particles,)
        Cell that took each up; 0 for lost.
    places : ndarray of float64, shape (particles, 3)
        Where, in voxels from the cutout's corner.

    Raises
    ------
    ConfigError
        If the step is longer than the smallest voxel.
    """
    check_step(how.step_nm, tissue.resolution)
    steps = _steps(how.directions, how.step_nm, tissue.resolution)
    ends = np.zeros(how.particles, dtype=np.uint64)
    places = np.empty((how.particles, 3), dtype=np.float64)
    labels = labels_of(
        tissue.cells, tissue.density, tissue.density_start, tissue.pre_id, paints=tissue.paints
    )
    key = _stream_key(*stream)

    def run(start: int, stop: int) -> None:
        _walk(
            labels, emitters, steps, key, how.max_steps, first + start,
            ends[start:stop], places[start:stop],
        )  # fmt: skip

    if threads == 1:
        run(0, how.particles)
        return ends, places
    cuts = np.linspace(0, how.particles, 4 * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, a, b) for a, b in itertools.pairwise(cuts)]:
            done.result()
    return ends, places


def _still_needed(ends: npt.NDArray[np.uint64], standard_error: float | None) -> int:
    """How many more particles the wanted sampling error seems to need."""
    if standard_error is None:
        return 0
    _, counts = np.unique(ends, return_counts=True)
    share = counts / len(ends)
    worst = float((share * (1 - share)).max())
    # One particle that went elsewhere is not yet known to be one of few.
    worst = max(worst, 1 / len(ends))
    wanted = min(math.ceil(worst / standard_error**2), MOST_PARTICLES)
    return max(0, wanted - len(ends))


def _tally(labels: npt.NDArray[np.uint64], places: Floats, voxel_nm: Floats) -> Arrivals:
    """Shares and places from where each particle ended; label 0 is lost."""
    hit = labels > 0
    post_ids, index, counts = np.unique(labels[hit], return_inverse=True, return_counts=True)
    ends = places[hit]
    mean = np.stack(
        [np.bincount(index, ends[:, a], minlength=len(post_ids)) / counts for a in range(3)],
        axis=1,
    )
    voxels = np.floor(ends).astype(np.int64)
    distance = ((((voxels + 0.5) - mean[index]) * voxel_nm) ** 2).sum(axis=1)
    order = np.lexsort([voxels[:, 0], voxels[:, 1], voxels[:, 2], distance, index])
    nearest = order[np.searchsorted(index[order], np.arange(len(post_ids)))]
    return Arrivals(
        post_ids,
        counts / len(labels),
        float(np.count_nonzero(~hit) / len(labels)),
        voxels[nearest],
        particles=len(labels),
    )


def _stream_key(seed: int, first_voxel: int) -> np.uint64:
    """One key of two integers; both are mixed, so that neighbouring ones have nothing in common."""
    mask = 2**64 - 1
    key = _mixed((seed + int(_GAMMA)) & mask)
    return np.uint64(_mixed((key + first_voxel * int(_GAMMA)) & mask))


def _mixed(z: int) -> int:
    """SplitMix64's output function, in Python integers."""
    mask = 2**64 - 1
    z = ((z ^ (z >> 30)) * int(_MIX_1)) & mask
    z = ((z ^ (z >> 27)) * int(_MIX_2)) & mask
    return z ^ (z >> 31)


@njit(nogil=True, cache=True, inline="always")
def _mix(z: Any) -> Any:
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(nogil=True, cache=True, inline="always")
def _below(state: Any, count: Any) -> Any:
    """A number from 0 to count - 1: the upper 32 bits scaled (bias below 1e-5 for 10,000)."""
    return np.int64(((_mix(state) >> _S32) * count) >> _S32)


@njit(nogil=True, cache=True)
def _walk(
    labels: Labels,
    emitters: Any,
    steps: Any,
    key: Any,
    max_steps: int,
    first: int,
    ends: Any,
    places: Any,
) -> None:
    """Fill `ends` (cells; 0 for lost) and `places` (voxels, from the cutout's corner).

    Particles are numbered from `first`.
    """
    nx, ny, nz = labels.cells.shape
    emitter_count = np.uint64(emitters.shape[0])
    step_count = np.uint64(steps.shape[0])
    for particle in range(ends.shape[0]):
        state = _mix(key + np.uint64(first + particle) * _GAMMA) + _GAMMA
        e = _below(state, emitter_count)
        x, y, z = emitters[e, 0] + 0.5, emitters[e, 1] + 0.5, emitters[e, 2] + 0.5
        for _ in range(max_steps):
            state += _GAMMA
            d = _below(state, step_count)
            to_x, to_y, to_z = x + steps[d, 0], y + steps[d, 1], z + steps[d, 2]
            if not (0 <= to_x < nx and 0 <= to_y < ny and 0 <= to_z < nz):
                break
            label = label_at(labels, int(to_x), int(to_y), int(to_z))
            if label == labels.pre:
                continue
            x, y, z = to_x, to_y, to_z
            if label != 0:
                ends[particle] = label
                break
        places[particle, 0], places[particle, 1], places[particle, 2] = x, y, z
