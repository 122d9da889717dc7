"""EM intensity across the cleft: from inside the presynaptic cell through each partner's membrane.

The line of a pair runs through the synapse's position and the point where the partner is hit, in
one section (pairs that lie in two are left out). Distance 0 is where the partner's voxels begin.

    Run: python scripts/examples/cleft_profiles.py demo/cnapse.toml
"""

import argparse

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

import cnapse


def main() -> None:
    """Sample a line for every pair, write all as a CSV, draw them and their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="demo/cnapse.toml")
    parser.add_argument("--reach", type=float, default=150, help="nm to either side")
    parser.add_argument("--output", default="cleft_profiles", help="name of the CSV and the PNG")
    options = parser.parse_args()

    run = cnapse.open_run(options.config)
    image, h = run.layer("image"), np.array(run.config.resolution)
    steps = np.arange(-options.reach, options.reach + 1, min(h[:2]))
    profiles = {}
    for pair in run.partners.itertuples():
        start = np.array([pair.x_pos, pair.y_pos, pair.z_pos])
        hit = np.array([pair.post_x, pair.post_y, pair.post_z])
        length = np.linalg.norm(hit - start)
        if length == 0 or int(start[2] // h[2]) != int(hit[2] // h[2]):
            continue
        points = (hit + steps[:, None] * (hit - start) / length) / h - 0.5  # voxels, at centres
        box = cnapse.Box(np.floor(points.min(0)), np.floor(points.max(0)) + 2, h)
        section = image.read(box).astype(float)  # beyond the volume: its nearest voxel
        profiles[f"{pair.syn_id}-{pair.post_id}"] = map_coordinates(
            section, (points - box.start).T, order=1
        )
    if not profiles:
        raise SystemExit("no synapse has a partner in its own section")

    table = pd.DataFrame(profiles, index=pd.Index(steps, name="nm"))
    table.to_csv(f"{options.output}.csv", float_format="%.1f")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(table.index, table, color="0.8", lw=0.6)
    axes.plot(table.index, table.mean(axis=1), color="C3", lw=2, label=f"mean of {len(profiles)}")
    axes.set(xlabel="nm from where the partner is hit (presynaptic < 0)", ylabel="EM intensity")
    axes.legend()
    figure.savefig(f"{options.output}.png", dpi=120)
    print(f"{len(profiles)} profiles: {options.output}.csv, {options.output}.png")


if __name__ == "__main__":
    with cnapse.one_line_errors():
        main()
