"""A cell's synapses as a contact sheet: those it makes and those it receives, the largest first.

Run: python scripts/examples/cell_synapses.py demo/cnapse.toml --cell 1824369161
"""

import argparse

import cnapse
from cnapse.viewing.picture import draw_contact_sheet


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="demo/cnapse.toml")
    parser.add_argument("--cell", help="name or id; default: the cell with most synapses")
    parser.add_argument("--made", action="store_true", help="only those it makes")
    parser.add_argument("--most", type=int, default=20, help="how many to draw")
    parser.add_argument("-o", "--output", default="cell_synapses.png")
    options = parser.parse_args()

    run = cnapse.open_run(options.config)
    made, received = run.synapses, run.partners
    cell = options.cell or made["pre"].value_counts().idxmax()
    made = made[made["pre"] == cell]
    received = received[received["post"] == cell]

    ids = made.sort_values("size", ascending=False)["syn_id"].tolist()
    if not options.made:
        ids += received.sort_values("size", ascending=False)["syn_id"].tolist()
    ids = list(dict.fromkeys(ids))  # a cell may be its own partner
    print(f"{cell}: makes {len(made)} synapses, receives {len(received)}")
    if not ids:
        raise SystemExit("nothing to draw: give a name or an id from the tables as --cell")

    views = [cnapse.cutout(run, synapse=i, width_nm=1000, sections=1) for i in ids[: options.most]]
    draw_contact_sheet(views, options.output, title=f"Synapses of {cell}")
    print(f"{len(views)} of them drawn in {options.output}")


if __name__ == "__main__":
    with cnapse.one_line_errors():
        main()
