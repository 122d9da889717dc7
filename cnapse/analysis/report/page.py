"""The page itself: a template filled with what a run did and found.

One file without scripts; nothing in it is fetched from anywhere, which its own policy forbids too.
What comes from a user (names of cells, paths, messages) is escaped by the template engine.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from cnapse.analysis.plots import published
from cnapse.analysis.report.charts import charts_of, checks_of, matrix_chart
from cnapse.analysis.report.findings import Findings, findings_of
from cnapse.analysis.report.flags import FLAG_MEANINGS
from cnapse.analysis.report.history import RunHistory, flat
from cnapse.analysis.report.pictures import pictures_of
from cnapse.store import Store, canonical_json, cloud_path

if TYPE_CHECKING:
    from cnapse.config import Config
    from cnapse.runs import RunData

__all__ = ["NAME", "Options", "render", "report_of", "write_report"]

NAME = "report.html"
"""Of the file, in the output of the run."""

_PACKAGES = ("cnapse", "numpy", "torch", "pyarrow", "duckdb", "connected-components-3d")
_MANY_BARE = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What a report shows.

    Attributes
    ----------
    pictures : int
        Synapses at random, and as many doubtful ones; 0 for none.
    seed : int
        Chooses those at random.
    """

    pictures: int = 12
    seed: int = 0


def write_report(
    run: RunData, history: RunHistory, options: Options | None = None, path: str | Path = ""
) -> str:
    """Write the report of a run.

    Parameters
    ----------
    run : RunData
    history : RunHistory
    options : Options, optional
    path
        Local or in a bucket; default ``report.html`` in the run's output.

    Returns
    -------
    str
        Where it is.

    Raises
    ------
    LayerNotFoundError
        If the run has no tables yet.
    """
    text = report_of(run, history, options or Options())
    place = cloud_path(path) if path else f"{run.config.output}/{NAME}"
    folder, _, name = place.rpartition("/")
    Store(folder).put(name, text.encode())
    return place


def report_of(run: RunData, history: RunHistory, options: Options) -> str:
    """The report of a run as HTML."""
    found = findings_of(
        run.config.output, names=run.config.names, shown=options.pictures, seed=options.seed
    )
    samples = []
    if options.pictures:
        samples = [
            ("Random", "Chosen at random: what most synapses look like.", found.random),
            (
                "Doubtful",
                "Highest doubt first: look at these before you trust them.",
                found.doubtful,
            ),
        ]
    checks = checks_of(found)
    return render(
        {
            "title": _folder(run.config.output),
            "made": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "output": _plain(run.config.output),
            "found": found,
            "figures": _figures(found, history),
            "warnings": _warnings(found, history),
            "outside": [check.text for check in checks if not check.fits],
            "checked": len(checks),
            "source": published.SOURCE,
            "charts": charts_of(found),
            "matrix": matrix_chart(found),
            "edges": found.edges.to_dict("records"),
            "has_sizes": found.statistics.volumes is not None,
            "samples": [(a, b, pictures_of(run, found, rows)) for a, b, rows in samples],
            "flags": [(n, c, FLAG_MEANINGS[n]) for n, c in found.flags.items()],
            "stages": history.stages,
            "inputs": _inputs(run.config),
            "settings": flat(run.config.model_dump(mode="json", exclude={"layers", "output"})),
            "digest": hashlib.sha256(
                canonical_json(run.config.model_dump(mode="json"))
            ).hexdigest(),
            "packages": _packages(),
            "viewer": run.config.link.viewer if run.config.link.image else "",
        }
    )


def render(values: Mapping[str, object]) -> str:
    """Fill the template; every value is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "duration": _duration, "moment": _moment}
    text = resources.files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


def _figures(found: Findings, history: RunHistory) -> list[tuple[str, str]]:
    """The numbers at the top: what, and how many."""
    counts = found.counts
    seconds = sum(stage.task_seconds for stage in history.stages)
    shown = [
        ("synapses", _number(found.synapses)),
        ("partners", _number(found.statistics.rows)),
        *(
            [("cells", _number(counts.cells)), ("connections", _number(counts.edges))]
            if counts
            else []
        ),
        ("flagged", _part(found.flagged, found.synapses)),
    ]
    return [*shown, ("work of all tasks", _duration(seconds))] if seconds else shown


def _warnings(found: Findings, history: RunHistory) -> list[str]:
    """What is wrong, apart from figures outside of published ranges."""
    said = list(found.problems)
    if not found.synapses:
        said.append("No synapse was found: `cnapse run` says why at its end.")
    elif found.without_cell > _MANY_BARE * found.synapses:
        said.append(
            f"{found.without_cell:,} of {found.synapses:,} synapses lie on no cell: are the cells "
            "shifted, or do they leave out the membranes (layers.cells.grow_nm)?"
        )
    for stage in history.stages:
        said += [f"{stage.name}: a task was given up: {reason}" for reason in stage.set_aside[:3]]
        if not stage.complete and not stage.set_aside:
            of = "" if stage.total is None else f" of {stage.total:,}"
            said.append(f"{stage.name} is not complete: {stage.done:,}{of} tasks are done.")
    return said


def _inputs(config: Config) -> list[tuple[str, str, str]]:
    """Name, path and version of each layer that was given."""
    layers = config.layers.model_dump()
    return [
        (name, _plain(str(value["path"])), str(value.get("version") or ""))
        for name, value in layers.items()
        if value
    ]


def _packages() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _folder(path: str) -> str:
    """The last two folders of a path, which tell runs apart."""
    return " / ".join(_plain(path).rstrip("/").split("/")[-2:])


def _plain(path: str) -> str:
    return path.removeprefix("file://")


def _part(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.0f} %)" if whole else f"{part:,}"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
