"""`cnapse repaint`: a box of synapses out to a painting program, and what was painted back in."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw synapses anew in a painting program: bring a box out, and what was drawn back in.",
)

ConfigPath = Annotated[
    Path, typer.Argument(help="The cnapse.toml of a finished run.", show_default=False)
]


@app.command("export")
def export(
    config: ConfigPath,
    box: Annotated[
        tuple[int, int, int, int, int, int],
        typer.Option(
            help="First voxel and one past the last, X0 Y0 Z0 X1 Y1 Z1, at the working resolution.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A .tif (napari, Fiji, VAST), or a folder for precomputed layers "
            "(Neuroglancer, webKnossos).",
            show_default=False,
        ),
    ],
) -> None:
    """Write image and synapses of a box, and beside them a list of which number is which."""
    from cnapse.errors import BoundsError
    from cnapse.geometry import Box
    from cnapse.review.apply_editors import sheet_of, write_for_editor
    from cnapse.runs import open_run

    run = open_run(config)
    layer = run.layer("synapses")
    wanted = Box(box[:3], box[3:], layer.resolution)
    if wanted.empty or not layer.bounds.contains(wanted):
        raise BoundsError(
            f"--box {' '.join(str(v) for v in box)}: give first voxel and one past the last, "
            f"x y z, within {layer.bounds}"
        )
    sheet = sheet_of(layer.read(wanted).astype("uint64"), wanted)
    image = run.layer("image").read(wanted) if run.given("image") else None
    names = write_for_editor(output, sheet, image)
    print(f"{len(sheet.known)} synapses in {wanted}: written {', '.join(names)}")
    print(f"Paint, save under the same name, then: cnapse repaint import {config} {output}")


@app.command("import")
def import_(
    config: ConfigPath,
    source: Annotated[
        Path,
        typer.Argument(help="What `cnapse repaint export` wrote, painted.", show_default=False),
    ],
    reviewer: Annotated[
        str | None, typer.Option(help="Who painted (default: your login).", show_default=False)
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="The log (default: review/log.sqlite in the run's output)."),
    ] = None,
) -> None:
    """Note in the log what was painted; `cnapse apply` puts it into the corrected layer."""
    from cnapse.review.apply_editors import box_of, painted
    from cnapse.review.apply_repaint import write_repaint
    from cnapse.review.decisions import parse_decision
    from cnapse.review.log import DecisionLog, log_path
    from cnapse.runs import open_run
    from cnapse.store import Store

    run = open_run(config)
    layer = run.layer("synapses")
    box = box_of(source, layer.bounds)
    repaint, box = painted(source, layer.read(box).astype("uint64"), layer.bounds)
    if not len(repaint.voxels):
        print(f"Nothing in {source} differs from what was exported: nothing was noted")
        return
    path = log_path(run.config.output, log)
    with DecisionLog(path) as opened:
        digest = write_repaint(Store(path.parent / "repaints"), repaint, box)
        standing = opened.standing().objects
        if any(one.action == "repaint" and one.new.digest == digest for one in standing):
            print(f"What was painted in {source} is in the log already")
            return
        new = {
            "start_nm": box.start_nm,
            "stop_nm": box.stop_nm,
            "source": str(source),
            "digest": digest,
        }
        decision = {"reviewer": reviewer or getpass.getuser(), "action": "repaint", "new": new}
        opened.append(parse_decision({**decision, "origin": "repaint"}))
    print(f"{len(repaint.voxels)} voxels were painted anew in {box}: noted in {path}")
    print(f"Then: cnapse apply {config} -o FOLDER")
