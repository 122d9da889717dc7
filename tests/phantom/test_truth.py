"""The phantom's truth against a slow diffusion, written from its description alone.

Nothing of `cnapse.partners` is used here: a mistake there cannot hide one in the phantom.
"""

import numpy as np
import pytest
from scipy import ndimage

from cnapse.phantom import Phantom, PhantomSpec

STEP_NM = 4.0
PARTICLES = 500
LEAST = 0.01


def ball(radius):
    x, y, z = np.mgrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 + z**2 <= radius**2


def emitters_near(cells, density, pre):
    """Outside the cell, within 2 voxels of it and a 10x10x1 box of the density."""
    mine = cells == pre
    outside = ndimage.binary_dilation(mine, ball(2)) & ~mine
    reach = np.zeros_like(density)
    for dx in range(-5, 5):
        for dy in range(-5, 5):
            reach |= np.roll(density, (dx, dy), (0, 1))
    return np.argwhere(outside & reach)


def emitters_extracellular(cells, density, pre):
    """Between the cells, next to the density's cell and within a disk of 6 px of the density."""
    mine = (cells == pre) | density
    outside = ndimage.binary_dilation(mine, ball(1)) & (cells == 0)
    x, y = np.mgrid[-6:7, -6:7]
    disk = (x**2 + y**2 <= 36)[:, :, None]
    return np.argwhere(outside & ndimage.binary_dilation(density, disk))


RULES = {"near": emitters_near, "extracellular": emitters_extracellular}


def diffused(cells, density, pre, resolution, rule):
    """Share of the particles that each cell takes."""
    rng = np.random.default_rng(1)
    sources = RULES[rule](cells, density, pre)
    free = np.where(density, pre, cells)
    place = (sources[rng.integers(len(sources), size=PARTICLES)] + 0.5) * resolution
    taken: dict[int, int] = {}
    while len(place):
        way = rng.normal(size=place.shape)
        new = place + STEP_NM * way / np.linalg.norm(way, axis=1, keepdims=True)
        voxel = np.floor(new / resolution).astype(int)
        inside = ((voxel >= 0) & (voxel < cells.shape)).all(axis=1)
        place, new, voxel = place[inside], new[inside], voxel[inside]
        at = free[tuple(voxel.T)]
        for cell in at[(at != 0) & (at != pre)].tolist():
            taken[cell] = taken.get(cell, 0) + 1
        place = np.where((at == pre)[:, None], place, new)[(at == 0) | (at == pre)]
    return {cell: count / PARTICLES for cell, count in taken.items()}


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (PhantomSpec((420, 420, 24), seed=8), "near"),
        (PhantomSpec((420, 420, 24), seed=8), "extracellular"),
        (PhantomSpec((420, 420, 24), seed=9, gap_nm=0), "near"),
        (PhantomSpec((420, 420, 24), seed=10, gap_nm=40), "extracellular"),
        (PhantomSpec((210, 210, 24), (8, 8, 50), seed=12), "near"),
    ],
    ids=["near", "extracellular", "touching", "wide gap", "8 nm"],
)
def test_diffusion_finds_the_partners_of_the_truth(spec, rule) -> None:
    phantom = Phantom(spec)
    resolution = np.asarray(spec.resolution)
    padding = np.ceil(100 / resolution).astype(int).tolist()
    hits = wrong = 0
    for synapse in phantom.synapses()[:6]:
        box = synapse.box.grown(padding).clamped(phantom.bounds)
        arrays = phantom.render(box, image=False)
        density = arrays["densities"] == synapse.syn_id
        shares = diffused(
            arrays["cells"].astype(np.int64), density, synapse.pre_id, resolution, rule
        )
        found = {cell for cell, share in shares.items() if share > LEAST}
        hits += len(found & set(synapse.contact_nm2))
        wrong += len(found ^ set(synapse.contact_nm2))
    assert hits >= 5
    assert 2 * hits / (2 * hits + wrong) >= 0.97
