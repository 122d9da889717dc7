"""`cnapse explain`: one synapse, and how its partners were found, as a picture and a table."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError
from cnapse_cli.seeing import ConfigPath

if TYPE_CHECKING:
    from cnapse.viewing.diffusion import Portion, Solver
    from cnapse.viewing.explanation import Explanation

__all__ = ["explain"]


class Method(StrEnum):
    """What is shown."""

    harmonic = "harmonic"
    montecarlo = "montecarlo"
    both = "both"


def explain(
    config: ConfigPath,
    synapse: Annotated[int, typer.Argument(help="A synapse (syn_id).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    method: Annotated[
        Method, typer.Option(help="The exact solution, the random walks, or both.")
    ] = Method.both,
    sections: Annotated[int, typer.Option(help="Sections at most.", min=1, max=5)] = 3,
) -> None:
    """Show how the partners of a synapse were found: emitters, diffusion, shares."""
    from cnapse.config import load_config
    from cnapse.viewing.diffusion import SOLVERS
    from cnapse.viewing.explanation import explain as explanation_of
    from cnapse.viewing.explanation_picture import draw_explanation
    from cnapse_tasks.assign import parameters
    from cnapse_tasks.run import Run

    if output.suffix.lower() != ".png":
        raise ConfigError(f"--output {output}: a picture is written as .png")
    if synapse < 0 or synapse >= 2**64:
        raise ConfigError(f"synapse {synapse}: ids are whole numbers from 1 to 2^64 - 1")
    run = Run(load_config(config))
    methods = [name for name in SOLVERS if method in (name, "both")]
    shown = explanation_of(run, synapse, parameters(run), methods=methods, sections=sections)
    draw_explanation(shown, output)
    typer.echo(_said(shown))
    typer.echo(f"picture: {output}")


def _said(shown: Explanation) -> str:
    """The shares as an aligned table; or why there are none."""
    from cnapse.viewing.explanation_shares import CALLED, DIFFERS, share_lines

    pre = shown.view.pre
    said = [f"synapse {shown.view.syn_id}, presynaptic cell {pre.called if pre else 'none'}"]
    if shown.reason:
        said.append(shown.reason)
    if shown.differs:
        said.append(f"note: {DIFFERS}")
    if shown.diffusion is None:
        return "\n".join(said)
    rows = [["cell"]]
    for name in shown.methods:
        rows[0] += [f"{CALLED[name]} share", "of all"]
    for line in share_lines(shown, shown.diffusion):
        rows.append([line.name])
        for name in shown.methods:
            rows[-1] += _numbers(line.portions[name], name)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        said.append("   ".join(cells))
    return "\n".join(said)


def _numbers(portion: Portion, method: Solver) -> list[str]:
    """Share among the partners, and of all the transmitter; in per cent."""
    share = "-"
    if not math.isnan(portion.share):
        error = f" ± {100 * portion.share_error:4.2f}" if method == "montecarlo" else ""
        share = f"{100 * portion.share:.2f}{error} %"
    return [share, f"{100 * portion.raw:.2f} %"]
