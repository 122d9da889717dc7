"""Pictures of single synapses for a page: small, and each on its own, so that they flow."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cnapse.errors import CnapseError
from cnapse.tables import flag_names

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.analysis.report.findings import Findings
    from cnapse.runs import RunData
    from cnapse.viewing.cutout import SynapseView

__all__ = ["Shown", "data_uri", "pictures_of"]

_WIDTH_PX = 300
_WIDTH_NM = 1100.0
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Shown:
    """A synapse with its picture.

    Attributes
    ----------
    syn_id : int
    image : str
        A data URI; empty where it could not be drawn.
    why : str
        Why it could not.
    cells : tuple of (name, colour, share)
        The presynaptic cell first; the share as text.
    size_nm3 : float
    doubt : float
        NaN where it is not known.
    doubts : str
        The parts of the doubt.
    flags : tuple of str
    link : str
        Address of a viewer, or empty.
    """

    syn_id: int
    image: str
    why: str
    cells: tuple[tuple[str, str, str], ...]
    size_nm3: float
    doubt: float
    doubts: str
    flags: tuple[str, ...]
    link: str


def pictures_of(run: RunData, findings: Findings, rows: pd.DataFrame) -> list[Shown]:
    """Cut synapses out of the layers of a run and draw them.

    Parameters
    ----------
    run : RunData
    findings : Findings
        It has the rows and their partners: whole tables are not read.
    rows : DataFrame
        Of the table of synapses.
    """
    from cnapse.viewing.connections import Connections

    # Instead of the whole tables, which may be larger than memory.
    run.connections = Connections(rows, findings.partners)
    return [_shown(run, row) for row in rows.to_dict("records")]


def _shown(run: RunData, row: dict[Any, Any]) -> Shown:
    from cnapse.viewing.cutout import cut_out

    syn_id = int(row["syn_id"])
    image, why = "", ""
    cells: tuple[tuple[str, str, str], ...] = ()
    try:
        view = cut_out(run, syn_id, width_nm=_WIDTH_NM, sections=1)
        image, cells = data_uri("jpeg", _jpeg(view)), _cells(view)
    except (CnapseError, OSError) as error:
        why = " ".join(str(error).split())
    link = str(row["link"] or "")
    return Shown(
        syn_id=syn_id,
        image=image,
        why=why,
        cells=cells or _names(run, row),
        size_nm3=float(row["size"]),
        doubt=float(row["doubt"]),
        doubts=str(row["doubts"] or ""),
        flags=tuple(flag_names(int(row["flags"])).split("|")) if row["flags"] else (),
        link=link if link.startswith(("https://", "http://")) else "",
    )


def _cells(view: SynapseView) -> tuple[tuple[str, str, str], ...]:
    found = [(view.pre.called, view.colours[view.pre.id], "")] if view.pre else [("?", "", "")]
    for partner in view.partners:
        part = "" if partner.share is None else f"{100 * partner.share:.0f}\u00a0%"
        found.append((partner.called, view.colours[partner.id], part))
    return tuple(found)


def _names(run: RunData, row: dict[Any, Any]) -> tuple[tuple[str, str, str], ...]:
    """The cells where there is no picture to have colours."""
    partners = run.connections.partners_of(int(row["syn_id"]))
    pre = str(row["pre"]) or "?"
    return (
        (pre if row["pre_id"] else "?", "", ""),
        *((str(p["post"]), "", f"{100 * p['share']:.0f}\u00a0%") for _, p in partners.iterrows()),
    )


def _jpeg(view: SynapseView) -> bytes:
    from PIL import Image

    from cnapse.viewing.labels import draw_scale_bar
    from cnapse.viewing.page import Page
    from cnapse.viewing.picture import compose

    screen = view.screen(_WIDTH_PX)
    rows, columns = screen.shape
    page = Page(columns, rows)
    page.picture(compose(view, view.middle, screen), 0, 0)
    draw_scale_bar(page, screen, (columns, rows), size=6)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(page.png())).convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def data_uri(kind: Literal["jpeg", "svg+xml"], content: bytes) -> str:
    """An image as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
