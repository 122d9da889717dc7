"""Partners of active zones placed on real membranes: diffusion, and contact area beside it.

The truth is a construction; what it is, and how it is biased, stands in ``_semisynthetic.py``. The
same places are shown to each method in many settings: gaps, voxel sizes, a segmentation that is
displaced or eroded, zones and densities of other sizes. A row is the F1 of partner sets over the
synapses whose presynaptic cell was found (the majority under the density): pairs (synapse, partner)
that are right, wrong and missed. Its peer is the contact-area baseline
(:mod:`cnapse.partners.contact`), with the same limit of 1 %.

``--data PATH`` is the folder of real data (``CNAPSE_SHARED_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _rows import Row, absent, parser, report
from _semisynthetic import (
    Cells,
    Counts,
    Place,
    Setting,
    Volume,
    Zone,
    fib25,
    place_zones,
    seen_as,
    vnc,
)

from cnapse.analysis.matching import Score
from cnapse.geometry import Resolution
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.assign import AssignParameters
from cnapse.partners.contact import contact_shares
from cnapse.partners.emitters import find_emitters
from cnapse.partners.harmonic import Laplace, solve
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import walk

Method = Callable[[Volume, int, int], Arrivals]

DATA = Path(os.environ.get("CNAPSE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
LIMITS = (0.01, 0.02, 0.05, 0.1)
"""Shares of the transmitter or membrane that a partner must exceed; the first is the default."""

# Reaches as published at 4 nm, in nm, so that they mean the same at every voxel size.
IN_NM = AssignParameters.cnapse(pre_reach_nm=8.0, density_reach_nm=20.0)
IN_VOXELS = AssignParameters.cnapse()

# Number of zones with 1, 2, 3 and 4 partners: more than enough 2 as in C. elegans, and the harder.
WANTED = {1: 8, 2: 18, 3: 12, 4: 4}
QUICK = {1: 3, 2: 7, 3: 5, 4: 1}
_SEED = 7


@dataclass(frozen=True, slots=True)
class Result:
    """What the methods made of the places in one setting."""

    cells: str
    setting: Setting
    places: int
    right_pre: int
    scores: dict[str, dict[float, Score]]


# --- methods --------------------------------------------------------------------------------------


def diffusion(parameters: AssignParameters, *, exact: bool) -> Method:
    """Harmonic measure, or particles."""

    def method(volume: Volume, pre_id: int, seed: int) -> Arrivals:
        rule = parameters.emitter_rule(volume.box.resolution)
        emitters = find_emitters(volume.cells, volume.density, (0, 0, 0), pre_id, rule)
        if not len(emitters):
            return Arrivals.none()
        tissue = Tissue(
            volume.cells, volume.density, (0, 0, 0), pre_id, rule.paints, volume.box.resolution
        )
        if exact:
            return solve(tissue, emitters, Laplace(step_nm=parameters.step_nm))
        return walk(tissue, emitters, parameters.walk, (0, seed))

    return method


def contact(volume: Volume, pre_id: int, seed: int) -> Arrivals:
    """Share of apposed membrane."""
    del seed
    return contact_shares(volume.cells, volume.density, (0, 0, 0), pre_id, volume.box.resolution)


METHODS: dict[str, Method] = {
    "harmonic": diffusion(IN_NM, exact=True),
    "harmonic, reaches in voxels": diffusion(IN_VOXELS, exact=True),
    "monte carlo": diffusion(IN_NM, exact=False),
    "contact area": contact,
}


def majority(volume: Volume) -> int:
    """The cell with most voxels under the density, free space only if there is nothing else."""
    ids, counts = np.unique(volume.cells[volume.density], return_counts=True)
    counts[ids == 0] = 0
    return int(ids[np.argmax(counts)])


# --- sweeps ---------------------------------------------------------------------------------------


def settings_of(cells: Cells) -> list[Setting]:
    """The settings of one data set; the first is the base that the others change in one thing."""
    base: Resolution = (8.0, 8.0, 40.0) if cells.name == "FIB-25" else cells.resolution
    sizes: list[Resolution] = [(4.6, 4.6, 50.0), (9.2, 9.2, 50.0), (18.4, 18.4, 50.0)]
    if cells.name == "FIB-25":
        sizes = [(4.0, 4.0, 50.0), (4.0, 4.0, 4.0), (8.0, 8.0, 8.0), (10.0, 10.0, 10.0)]
        sizes += [(16.0, 16.0, 40.0)]
    found = [Setting("base: gap 16", base)]
    found += [Setting(f"gap {gap:g}", base, gap_nm=gap) for gap in (8.0, 24.0, 32.0, 40.0)]
    found += [Setting(f"voxels {'x'.join(f'{a:g}' for a in h)}", h) for h in sizes if h != base]
    found += [Setting(f"displaced {n} voxels", base, shift_vx=n) for n in (1, 2, 3)]
    found += [Setting(f"eroded by up to {n:g}", base, eroded_nm=n) for n in (8.0, 16.0, 24.0)]
    found += [Setting(f"density x {f:g}", base, painted=f) for f in (0.5, 0.75, 1.25, 1.5)]
    found += [Setting("density fills the process", base, filling=True)]
    found += [Setting("thin processes", base, zone=Zone(thin=True))]
    found += [
        Setting(f"zone of radius {r:g}", base, zone=Zone(radius=r)) for r in (30.0, 45.0, 90.0)
    ]
    clear = Zone(outer=2.0)
    found += [
        Setting("nobody within 2 radii", base, zone=clear),
        Setting("nobody within 2 radii, gap 40", base, gap_nm=40.0, zone=clear),
        Setting("nobody within 2 radii, eroded by up to 16", base, eroded_nm=16.0, zone=clear),
        Setting("nobody within 2 radii, displaced 3 voxels", base, shift_vx=3, zone=clear),
        Setting("nobody within 2 radii, density x 1.5", base, painted=1.5, zone=clear),
    ]
    return found


def judged(cells: Cells, setting: Setting, places: Sequence[Place]) -> Result:
    """Each method on each place."""
    scores = {name: {limit: Score(0, 0, 0) for limit in LIMITS} for name in METHODS}
    shown = right = 0
    for place in places:
        volume = seen_as(place, setting)
        if volume is None:
            continue
        shown += 1
        if majority(volume) != place.pre_id:
            continue
        right += 1
        for name, method in METHODS.items():
            found = method(volume, place.pre_id, place.seed)
            for limit in LIMITS:
                partners = set(found.post_ids[found.raw_share > limit].tolist())
                scores[name][limit] = _added(scores[name][limit], partners, place.partners)
    return Result(cells.name, setting, shown, right, scores)


def _added(score: Score, found: set[int], true: frozenset[int]) -> Score:
    both = len(found & true)
    return Score(
        score.true_positives + both,
        score.false_positives + len(found) - both,
        score.false_negatives + len(true) - both,
    )


def rows_of(result: Result) -> list[Row]:
    """One row a method of diffusion."""
    first = LIMITS[0]
    theirs = result.scores["contact area"]
    about = (
        f"{result.places} synapses, presynaptic cell right in "
        f"{100 * result.right_pre / max(result.places, 1):.3g} %"
    )
    return [
        Row(
            f"{result.cells}, {result.setting.name}, {name}",
            by_limit[first].f1,
            "F1 of partners",
            "contact area",
            theirs[first].f1,
            f"{_text(by_limit)}; contact area {_text(theirs)}; {about}",
            more_is_better=True,
        )
        for name, by_limit in result.scores.items()
        if name != "contact area"
    ]


def _text(by_limit: dict[float, Score]) -> str:
    """Precision and recall; F1 at the other limits."""
    score = by_limit[LIMITS[0]]
    others = " ".join(f"{by_limit[limit].f1:.3f}" for limit in LIMITS[1:])
    return f"P {score.precision:.3f} R {score.recall:.3f} (F1 at 2, 5, 10 %: {others})"


def run(cells: Cells, wanted: dict[int, int], settings: Sequence[Setting], tries: int) -> list[Row]:
    """All settings of one data set, and what was left out."""
    rows: list[Row] = []
    left_out: list[Row] = []
    for zone in dict.fromkeys(setting.zone for setting in settings):
        places, counts = place_zones(cells, wanted, zone, _SEED, tries)
        rows += [
            row for s in settings if s.zone == zone for row in rows_of(judged(cells, s, places))
        ]
        left_out.append(_left_out(cells, zone, places, counts))
    return rows + left_out


def _left_out(cells: Cells, zone: Zone, places: Sequence[Place], counts: Counts) -> Row:
    """How many zones there are, and why other places are none."""
    sizes = np.bincount([len(p.partners) for p in places], minlength=5)
    where = "in thin processes" if zone.thin else "in deep enough ones"
    note = (
        f"with 1, 2, 3, 4 partners {sizes[1:5].tolist()}; left out: ambiguous {counts.ambiguous}, "
        f"no membrane opposite {counts.no_cleft}, too thin or too deep {counts.other_depth}, "
        f"enough of that number {counts.enough_of_that_kind}"
    )
    limit = f"{zone.outer:g} radii"
    work = f"{cells.name}, zones of radius {zone.radius:g} nm, {where}, others beyond {limit}"
    return Row(work, len(places), "zones", note=note)


def main() -> None:
    description = __doc__.partition("\n")[0] if __doc__ else ""
    options = parser(description, {"data": "real EM: folder with fib25 and vnc_sstem"}).parse_args()
    data: Path = options.data or DATA
    rows: list[Row] = []
    for folder, read in (("fib25", fib25), ("vnc_sstem", vnc)):
        if not (data / folder).is_dir():
            absent(folder, f"no real data at {data / folder} (set CNAPSE_SHARED_DATA, or --data)")
            continue
        cells = read(data)
        settings = settings_of(cells)
        wanted, tries = (QUICK, 100) if options.quick else (WANTED, 350)
        if options.quick:  # placing zones is most of the work
            settings = [s for s in settings if s.zone == Zone()]
        rows += run(cells, wanted, settings, tries)
    report(rows, options.json)


if __name__ == "__main__":
    main()
