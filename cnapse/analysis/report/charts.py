"""The figures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnapse.analysis.plots.checks import Check, partner_checks, section_checks, volume_checks
from cnapse.analysis.plots.distributions import (
    draw_partners,
    draw_sections,
    draw_shares,
    draw_sizes,
)
from cnapse.analysis.plots.matrix import draw_matrix
from cnapse.analysis.plots.style import figure_bytes
from cnapse.analysis.report.pictures import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnapse.analysis.report.findings import Findings

__all__ = ["Chart", "charts_of", "checks_of", "matrix_chart"]


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure as a data URI, and what it shows in words."""

    image: str
    text: str


def charts_of(findings: Findings) -> list[Chart]:
    """The distributions."""
    numbers = ", ".join(f"{n}: {count}" for n, count in findings.statistics.partners.items())
    return [
        _chart(draw_partners(findings.statistics), f"Synapses by number of partners: {numbers}"),
        _chart(draw_sizes(findings.volumes), "How large synapses are"),
        _chart(draw_sections(findings.sections), "In how many sections synapses lie"),
        _chart(draw_shares(findings.statistics), "The shares of partners"),
    ]


def matrix_chart(findings: Findings) -> Chart | None:
    """The adjacency matrix of the best connected cells; None without connections."""
    if findings.graph is None:
        return None
    figure = draw_matrix(findings.graph, title="Who talks to whom")
    return _chart(figure, "Adjacency matrix: rows presynaptic, columns postsynaptic")


def checks_of(findings: Findings) -> list[Check]:
    """Every figure that a published range is known of."""
    return [
        *partner_checks(findings.statistics),
        *volume_checks(findings.volumes),
        *section_checks(findings.sections, findings.single_section),
    ]


def _chart(figure: Figure, text: str) -> Chart:
    return Chart(data_uri("svg+xml", figure_bytes(figure, "svg")), text)
