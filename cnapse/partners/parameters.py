"""How partners are assigned: the two published sets of parameters, and any change to them.

The presets say where transmitter is released, how far it is followed, and what counts as a partner.
Both programs then walk particles (``method="montecarlo"``); the default is the exact solution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError
from cnapse.geometry import Box, Triple, triple
from cnapse.partners.emitters import EmitterRule, RuleName
from cnapse.partners.harmonic import Laplace
from cnapse.partners.montecarlo import Walk, check_step

__all__ = ["METHODS", "PRESETS", "AssignParameters", "Method", "Preset", "parameters_of"]

Preset = Literal["cnapse", "witvliet"]
Method = Literal["harmonic", "montecarlo", "both", "contact"]
Density = Literal["presynaptic", "cleft"]

METHODS = get_args(Method)


@dataclass(frozen=True, slots=True)
class AssignParameters:
    """Everything that assignment depends on, apart from the data.

    Parameters
    ----------
    rule
        Which voxels emit: ``near`` or ``extracellular``; see :mod:`cnapse.partners.emitters`.
    padding_nm
        How far the cutout reaches beyond the synapse's bounding box.
    pre_reach_vx : (x, y, z), optional
        Half axes of the ball around the presynaptic cell; default: the rule's published ones.
    density_reach_vx : (down, up), optional
        How far the footprint reaches from the density, in both axes of the plane; default likewise.
    pre_reach_nm, density_reach_nm : float, optional
        The same reaches in nm; they go before those in voxels.
    method
        ``harmonic``: the diffusion solved exactly (:mod:`cnapse.partners.harmonic`);
        ``montecarlo``: random walks, as published; ``both``: the rows of ``harmonic``, and how far
        the walks disagree; ``contact``: no diffusion, the share of apposed membrane
        (:mod:`cnapse.partners.contact`), as a baseline.
    density
        What objects are: ``presynaptic``, or ``cleft`` if they cover both sides of it. Then the
        presynaptic cell is looked for (:mod:`cnapse.partners.polarity`), and the part of the object
        in it is the density.
    vesicle_reach_nm, min_margin
        For ``cleft``: how far from the object vesicles count, and the least margin to decide.
    step_nm
        Length of a step of the walks; the exact solution is that of walks with such steps.
    particles, directions, max_steps
        The random walks; see :mod:`cnapse.partners.montecarlo`.
    standard_error : float, optional
        Release more particles until every share's sampling error is at most this.
    tolerance
        No share of the exact solution is off by more than this.
    min_share
        A cell with at most this share of all the transmitter is no partner. 0 keeps every cell that
        the published walks could find: of the exact shares, those above that of one particle.
    only : frozenset of int, optional
        Only these cells may be partners. Others still take transmitter up.
    lost_limit
        A larger lost share is flagged.
    near_cut_sigmas
        A share that is at most so many standard errors of the count from `min_share` is flagged.
    max_box_voxels
        A synapse with a larger cutout is flagged, and no partners are looked for.
    seed
        Of the random walks.

    Raises
    ------
    ConfigError
        For a value that cannot be.
    """

    rule: RuleName = "near"
    padding_nm: float = 100.0
    pre_reach_vx: Triple | None = None
    density_reach_vx: tuple[int, int] | None = None
    pre_reach_nm: float | None = None
    density_reach_nm: float | None = None
    method: Method = "harmonic"
    density: Density = "presynaptic"
    vesicle_reach_nm: float = 100.0
    min_margin: float = 0.2
    particles: int = 1000
    step_nm: float = 4.0
    directions: int = 10_000
    max_steps: int = 10_000
    standard_error: float | None = None
    tolerance: float = 5e-4
    min_share: float = 0.01
    only: frozenset[int] | None = None
    lost_limit: float = 0.5
    near_cut_sigmas: float = 2.0
    max_box_voxels: int = 1 << 24
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("particles", "directions", "max_steps", "max_box_voxels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("padding_nm", "near_cut_sigmas", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r} is unknown: give {', '.join(METHODS)}")
        if self.density not in get_args(Density):
            raise ConfigError(f"density {self.density!r} is unknown: give presynaptic or cleft")
        if self.density == "cleft" and self.vesicle_reach_nm > self.padding_nm:
            raise ConfigError(
                f"vesicle_reach_nm = {self.vesicle_reach_nm:g} is more than padding_nm = "
                f"{self.padding_nm:g}: vesicles outside of the cutout are not seen"
            )
        for name in ("standard_error", "tolerance", "min_margin"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"{name} = {value}: must be a share between 0 and 1")
        for name in ("step_nm", "pre_reach_nm", "density_reach_nm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} = {value}: must be a length above 0, in nm")
        if not 0 <= self.min_share < 1:
            raise ConfigError(f"min_share = {self.min_share}: must be at least 0 and below 1")
        EmitterRule.published(
            self.rule, pre_reach_vx=self.pre_reach_vx, density_reach_vx=self.density_reach_vx
        )

    @classmethod
    def cnapse(cls, **changes: Any) -> Self:
        """Parameters of Cnapse (J. A. Bae, *C. elegans* dauer), with single changes."""
        return cls(**changes)

    @classmethod
    def witvliet(cls, **changes: Any) -> Self:
        """Parameters of Witvliet et al. 2021, with single changes.

        The padding of 1 um makes cutouts of some 20 million voxels at 4 x 4 x 30 nm.
        """
        own: dict[str, Any] = {
            "rule": "extracellular",
            "padding_nm": 1000.0,
            "min_share": 0.0,
            "max_box_voxels": 1 << 26,
        }
        return cls(**{**own, **changes})

    @property
    def walk(self) -> Walk:
        """The part that the random walks need."""
        return Walk(
            self.particles, self.step_nm, self.directions, self.max_steps, self.standard_error
        )

    @property
    def laplace(self) -> Laplace:
        """The part that the exact solution needs."""
        return Laplace(self.step_nm, self.tolerance)

    @property
    def cut(self) -> float:
        """A cell with at most this share of all the transmitter is no partner."""
        if self.method in ("harmonic", "both"):
            return max(self.min_share, 1 / self.particles)
        return self.min_share

    def emitter_rule(self, resolution: Sequence[float]) -> EmitterRule:
        """The emitter rule with its reaches in voxels of `resolution` (nm)."""
        published = EmitterRule.published(
            self.rule, pre_reach_vx=self.pre_reach_vx, density_reach_vx=self.density_reach_vx
        )
        return published.in_nm(
            resolution, pre_reach_nm=self.pre_reach_nm, density_reach_nm=self.density_reach_nm
        )

    def check(self, resolution: Sequence[float]) -> None:
        """Refuse parameters that cannot be used at this voxel size (nm).

        Raises
        ------
        ConfigError
            For steps longer than the smallest voxel side, or a rule without reach.
        """
        check_step(self.step_nm, resolution)
        self.emitter_rule(resolution)

    def sigmas_from_cut(self, raw_share: npt.NDArray[np.float64]) -> float:
        """How far the share nearest to the least share is from it, in sampling errors of the walks.

        `raw_share` are the cells' shares of all particles, 0 to 1. Infinite where there is no
        share, or no least share.
        """
        if not len(raw_share) or not self.min_share:
            return math.inf
        apart = float(np.abs(raw_share - self.min_share).min())
        return apart / math.sqrt(self.min_share * (1 - self.min_share) / self.particles)

    def padding_vx(self, resolution: Sequence[float]) -> Triple:
        """The padding in voxels of `resolution` (nm), rounded up."""
        # 69 / 4.6 is 15.000000000000002, which must not become 16.
        return triple([math.ceil(self.padding_nm / h - 1e-9) for h in resolution])

    def cutout(self, extent: Box, bounds: Box) -> Box:
        """The box that is looked at around a synapse with bounding box `extent`.

        `bounds` are the full bounds of the cells, at the same resolution.
        """
        return extent.grown(self.padding_vx(extent.resolution)).clamped(bounds)

    def too_large(self, cutout: Box) -> bool:
        """Whether a synapse with this cutout is passed over."""
        return cutout.voxels > self.max_box_voxels

    def changed(self, **changes: Any) -> Self:
        """A copy with some values changed."""
        return replace(self, **changes)


PRESETS = {"cnapse": AssignParameters.cnapse, "witvliet": AssignParameters.witvliet}


def parameters_of(preset: str, **changes: Any) -> AssignParameters:
    """A published set of parameters by name, with single changes.

    Parameters
    ----------
    preset : {"cnapse", "witvliet"}
    **changes
        Values for fields of `AssignParameters`.

    Raises
    ------
    ConfigError
        For an unknown preset or parameter, or a value that cannot be.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown: give {' or '.join(PRESETS)}")
    known = [field.name for field in fields(AssignParameters)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ConfigError(f"assign parameter {unknown[0]!r} is unknown: {', '.join(known)}")
    return PRESETS[preset](**changes)
