"""Synapses per cubic micrometre on a coarse grid, as a CSV and a picture.

Run: python scripts/examples/synapse_density.py demo/cnapse.toml --size 0.5
"""

import argparse

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import cnapse


def main() -> None:
    """Divide the run's bounds into equal parts, count the synapses in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="demo/cnapse.toml")
    parser.add_argument("--size", type=float, default=0.5, help="of a part, micrometres, roughly")
    parser.add_argument("--output", default="synapse_density", help="name of the CSV and the PNG")
    options = parser.parse_args()

    run = cnapse.open_run(options.config)
    box = run.region
    edges = []
    for start, stop in zip(
        np.array(box.start_nm) / 1000, np.array(box.stop_nm) / 1000, strict=True
    ):
        parts = max(1, round((stop - start) / options.size))
        edges.append(np.linspace(start, stop, parts + 1))
    places = run.synapses[["x_pos", "y_pos", "z_pos"]].to_numpy() / 1000
    counts, _ = np.histogramdd(places, edges)
    volume = np.einsum("i,j,k->ijk", *[np.diff(e) for e in edges])

    corners = np.meshgrid(*[e[:-1] for e in edges], indexing="ij")
    columns = {f"{axis}_um": corner.ravel() for axis, corner in zip("xyz", corners, strict=True)}
    table = pd.DataFrame(columns | {"synapses": counts.ravel().astype(int), "um3": volume.ravel()})
    table["per_um3"] = table["synapses"] / table["um3"]
    table.to_csv(f"{options.output}.csv", index=False, float_format="%.4g")

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    flat = counts.sum(axis=2) / volume.sum(axis=2)
    drawn = axes.pcolormesh(edges[0], edges[1], flat.T, cmap="magma", vmin=0)
    axes.plot(places[:, 0], places[:, 1], "o", ms=3, mfc="white", mec="black", mew=0.5)
    axes.set(xlabel="x, µm", ylabel="y, µm", aspect="equal", title="all sections together")
    axes.invert_yaxis()
    figure.colorbar(drawn, label="synapses per µm³")
    figure.savefig(f"{options.output}.png", dpi=120)
    mean = len(places) / volume.sum()
    print(f"{len(places)} synapses in {volume.sum():.3g} µm³: {mean:.3g} per µm³")


if __name__ == "__main__":
    with cnapse.one_line_errors():
        main()
