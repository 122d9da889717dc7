"""All commands, in the order in which the help shows them; groups come after the others."""

from __future__ import annotations

from typing import Final

import typer

from cnapse_cli import (
    annotate,
    apply,
    connectome,
    decisions,
    demo,
    detect,
    evaluate,
    explain,
    groundtruth,
    ingest,
    init,
    link,
    merge,
    model,
    phantom,
    picture,
    plain,
    plan,
    plot,
    query,
    queue,
    repaint,
    report,
    review,
    run,
    train,
    view,
)

__all__ = ["COMMANDS", "GROUPS", "register"]


COMMANDS: Final = (
    (demo.demo, "Make tissue, find its synapses, compare with the truth."),
    (ingest.ingest, "Make a layer of TIFF, HDF5, Zarr, N5 or PNG files."),
    (init.init, "Write a cnapse.toml, filled in from the layers."),
    (detect.detect, "Predict one volume, file to file."),
    (plan.plan, "Tell what a run will take: tasks, memory, hours."),
    (run.run, "Do all stages of a run, or what is missing of them."),
    (run.status, "Tell how far each stage of a run is."),
    (run.retry, "Give tasks that were set aside another try."),
    (run.cancel, "Stop a run wherever it is worked at."),
    (queue.queue, "Tell what waits in a queue, or empty it."),
    (queue.worker, "Work off a queue, until stopped."),
    (plain.measure, "Presynaptic cell, size and place of each object in files."),
    (plain.partners, "Postsynaptic partners of each object in files."),
    (merge.merge, "Join objects that are one synapse cut in two."),
    (apply.apply, "Make corrected layers and tables from decisions."),
    (connectome.connectome, "Who talks to whom: edge list, matrices, graph."),
    (query.query, "Ask a table for a cell's synapses, or those in a box."),
    (report.report, "Write a page about a run, with pictures."),
    (annotate.annotate, "Make a Neuroglancer layer of a synapse table."),
    (view.view, "Show a run in Neuroglancer, served from here."),
    (link.link, "Print an address that shows a run to others."),
    (picture.picture, "Draw a synapse, or many, with their cells."),
    (explain.explain, "Show how the partners of a synapse were found."),
    (review.review, "Correct candidates and partners in the browser."),
    (groundtruth.groundtruth, "Merge annotators' drawings into ground truth."),
    (train.train, "Train the network on annotated volumes."),
    (phantom.phantom, "Make synthetic tissue whose synapses are known."),
)
GROUPS: Final = (
    (evaluate.app, "evaluate", "Compare with what is true: densities, tables, reviews."),
    (decisions.app, "decisions", "Bring decisions out of a run's log, or into it."),
    (repaint.app, "repaint", "Draw synapses anew in a painting program."),
    (model.app, "model", "Import a checkpoint, show what a model is."),
    (plot.app, "plot", "Figures: matrix, circle, layers, sizes, a cell, two tables."),
)


def register(app: typer.Typer) -> None:
    """Put every command on the app; the summaries are what `cnapse --help` has room for."""
    for command, summary in COMMANDS:
        app.command(short_help=summary)(command)
    for group, name, summary in GROUPS:
        app.add_typer(group, name=name, short_help=summary)
