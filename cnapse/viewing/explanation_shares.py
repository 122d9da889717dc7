"""Beside the panels of an explanation: shares as bars, and what was done in words."""

from __future__ import annotations

import functools
import math
from dataclasses import fields
from typing import NamedTuple

from cnapse.partners.parameters import PRESETS
from cnapse.tables import flag_names
from cnapse.viewing.diffusion import Diffusion, Portion, Solver
from cnapse.viewing.explanation import Explanation
from cnapse.viewing.explanation_panels import OTHER
from cnapse.viewing.page import INK, PALE, Page, elided, text_width
from cnapse.viewing.palette import rgb

__all__ = [
    "CALLED",
    "DIFFERS",
    "Line",
    "draw_shares",
    "draw_text",
    "facts",
    "share_lines",
    "wrapped",
]

CALLED: dict[Solver, str] = {"harmonic": "exact", "montecarlo": "walks"}

_SIZE = 8
_LINE = 27
_BAR = 17
_NAME = 168
_NUMBERS = 200
_LABEL = 164
_MOST_DROPPED = 3

_RULES = {
    "near": "near the presynaptic cell and the density",
    "extracellular": "the same in free space only; the density counts as cell",
}

Corner = tuple[float, float]


class Line(NamedTuple):
    """One cell, or what was lost, and what each method says of it."""

    name: str
    colour: str
    portions: dict[Solver, Portion]


def share_lines(shown: Explanation, diffusion: Diffusion) -> list[Line]:
    """Partners, then dropped cells (few by name, the others as one), then what was lost."""
    methods, colours = shown.methods, shown.view.colours
    found = {method: diffusion.portions(method) for method in methods}
    nothing = Portion(0.0)

    def of(cell: int) -> dict[Solver, Portion]:
        return {method: found[method].get(cell, nothing) for method in methods}

    lines = [Line(c.called, colours[c.id], of(c.id)) for c in shown.view.partners]
    lines += [Line(c.called, OTHER, of(c.id)) for c in shown.dropped[:_MOST_DROPPED]]
    rest = shown.dropped[_MOST_DROPPED:]
    if rest:
        sums = {m: Portion(sum(of(c.id)[m].raw for c in rest)) for m in methods}
        lines.append(Line(f"{len(rest)} more cells", OTHER, sums))
    lost = {m: Portion(diffusion.found[m].lost) for m in methods}
    trapped = max(diffusion.found[m].trapped for m in methods)
    name = f"lost (trapped {_percent(trapped)})" if trapped >= 5e-4 else "lost"
    return [*lines, Line(name, OTHER, lost)]


def draw_shares(
    page: Page, shown: Explanation, diffusion: Diffusion, corner: Corner, width: float
) -> float:
    """Draw the bars; where they end."""
    left, top = corner
    lines, methods = share_lines(shown, diffusion), shown.methods
    x, room = left + _NAME, width - _NAME - _NUMBERS
    longest = max(p.raw + p.raw_error for line in lines for p in line.portions.values())
    step = _tick(longest)
    whole = step * math.ceil(longest / step - 1e-9)
    pitch = len(methods) * (_BAR + 5) + 12
    bottom = top + len(lines) * pitch
    page.text(x + room + 22, top - 18, "of all", size=7, colour=PALE)
    page.text(left + width, top - 18, "share", size=7, colour=PALE, side="right")
    for tick in range(round(whole / step) + 1):
        at = x + room * tick * step / whole
        page.rectangle(at - 0.5, top, 1, bottom - top, fill="#dddddd")
        page.text(at, bottom + 14, f"{100 * tick * step:g}", size=7, colour=PALE, side="center")
    page.text(x + room + 22, bottom + 14, "% of all released", size=7, colour=PALE)
    cut = shown.cut
    if cut:
        _dashed(page, x + room * cut / whole, top - 8, bottom)
        page.text(
            x + room * cut / whole + 3, top - 18, f"least {100 * cut:g} %", size=7, colour=PALE
        )
    for number, line in enumerate(lines):
        y = top + 6 + number * pitch
        middle = y + (pitch - 12) / 2
        partner = line.colour != OTHER
        page.text(
            x - 12, middle, elided(line.name, 22), size=_SIZE, side="right",
            colour=INK if partner else PALE, bold=partner,
        )  # fmt: skip
        for method in methods:
            _bar(page, line, method, (x, y), (room / whole, left + width), partner)
            y += _BAR + 5
    page.rectangle(x - 1, top, 2, bottom - top, fill=INK)
    return _key(page, methods, (x, bottom + 42))


def _bar(
    page: Page,
    line: Line,
    method: Solver,
    corner: Corner,
    scale: tuple[float, float],
    partner: bool,
) -> None:
    """One bar with its sampling error and its numbers."""
    x, y = corner
    per_share, right = scale
    portion = line.portions[method]
    pale = method == "montecarlo"
    fill = _paler(line.colour) if pale else line.colour
    if portion.raw:
        page.rectangle(x, y, max(1.0, portion.raw * per_share), _BAR, fill=fill, edge=line.colour)
    if portion.raw_error:
        low, high = (portion.raw + sign * portion.raw_error for sign in (-1, 1))
        a, b, middle = x + max(low, 0) * per_share, x + high * per_share, y + _BAR / 2
        page.rectangle(a, middle - 0.75, b - a, 1.5, fill=INK)
        for end in (a, b):
            page.rectangle(end - 0.75, middle - 4, 1.5, 8, fill=INK)
    middle = y + _BAR / 2
    numbers = right - _NUMBERS + 22
    page.text(numbers, middle, _percent(portion.raw), size=7, colour=PALE)
    if portion.kept:
        error = f" ± {100 * portion.share_error:.1f}" if portion.share_error else ""
        text = f"{100 * portion.share:.1f}{error} %"
        page.text(right, middle, text, size=7.5, bold=not pale, side="right")
    elif partner:
        page.text(right, middle, "no partner", size=7, colour=PALE, side="right")


def _key(page: Page, methods: list[Solver], corner: Corner) -> float:
    """Which bar is which method."""
    x, y = corner
    for method in methods:
        pale = method == "montecarlo"
        page.rectangle(x, y - 7, 22, 14, fill=_paler(INK) if pale else INK, edge=INK)
        text = "walks, ± sampling error" if pale else "solved exactly"
        page.text(x + 30, y, text, size=7.5)
        x += 30 + text_width(text, 7.5) + 24
    return y + 10


def _dashed(page: Page, x: float, top: float, bottom: float) -> None:
    y = top
    while y < bottom:
        page.rectangle(x - 0.75, y, 1.5, min(6, bottom - y), fill=PALE)
        y += 10


def _tick(longest: float) -> float:
    """Distance of the ticks, so that there are no more than five."""
    return next(step for step in (0.05, 0.1, 0.2, 0.25) if longest <= 5 * step or step == 0.25)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 5e-4 or not share else "< 0.1 %"


def _paler(colour: str) -> str:
    return "#" + "".join(f"{round(value + 0.6 * (255 - value)):02x}" for value in rgb(colour))


# --- in words -----------------------------------------------------------------------------------


def draw_text(page: Page, shown: Explanation, corner: Corner, width: float) -> float:
    """Draw what was done in words; where it ends."""
    x, y = corner
    if shown.differs:
        y = _paragraph(page, DIFFERS, (x, y), width, bold=True) + 12
    if shown.reason:
        y = _paragraph(page, shown.reason, (x, y), width, bold=True) + 12
    for name, text in facts(shown):
        page.text(x, y, name, size=_SIZE, colour=PALE)
        y = _paragraph(page, text, (x + _LABEL, y), width - _LABEL)
    return y


DIFFERS = (
    "These are not the shares in the run's table: cnapse.toml or a layer was changed after the run."
)


def facts(shown: Explanation) -> list[tuple[str, str]]:
    """Names and values of what was used and found."""
    row, view = shown.row, shown.view
    lines = []
    if view.pre is not None:
        fraction = float(row["pre_fraction"])
        under = f"{view.pre.called}: {100 * fraction:.0f} % of the density that lies on cells"
        lines.append(("presynaptic", under))
    if shown.diffusion is not None:
        size = " x ".join(str(n) for n in shown.diffusion.cutout.shape)
        lines.append(("emitters", f"{len(shown.diffusion.emitters):,} voxels"))
        lines.append(("cutout", f"{size} voxels of {_sizes(view.box.resolution)} nm"))
    lines += _parameters(shown)
    flags = flag_names(int(row["flags"])).replace("_", " ").replace("|", ", ")
    lines.append(("flags", flags or "none"))
    if "doubt" in row and not math.isnan(float(row["doubt"])):
        parts = str(row.get("doubts") or "").replace("_", " ").replace("|", ", ")
        lines.append(("doubt", f"{float(row['doubt']):.2f}" + (f": {parts}" if parts else "")))
    return lines


def _parameters(shown: Explanation) -> list[tuple[str, str]]:
    how, h = shown.how, shown.view.box.resolution
    rule = how.emitter_rule(h)
    preset = PRESETS[shown.preset]()
    ignored = ("seed", "only", "method")
    changed = [
        f"{field.name} = {getattr(how, field.name)}"
        for field in fields(how)
        if field.name not in ignored and getattr(how, field.name) != getattr(preset, field.name)
    ]
    ball = _both(rule.pre_reach, h)
    (low, _), (high, _) = rule.lower, rule.upper
    shape = "disk" if rule.paints else "box"
    down, up = low * h[0], high * h[0]
    foot = f"{shape} of -{low} to +{high} voxels (-{down:.0f} to +{up:.0f} nm) in the plane"
    padding = _both(how.padding_vx(h), h)
    lines = [
        ("preset", shown.preset + (f", with {', '.join(changed)}" if changed else "")),
        ("emitter rule", f"{how.rule}: {_RULES[how.rule]}"),
        ("   near the cell", f"ball of {ball}"),
        ("   near density", foot),
        ("padding", padding),
        ("least share", f"{100 * shown.cut:g} % of all the transmitter"),
    ]
    if "montecarlo" in shown.methods and shown.diffusion is not None:
        count = len(shown.diffusion.ends)
        walks = (
            f"{count:,} particles, {how.step_nm:g} nm steps in {how.directions:,} directions, "
            f"at most {how.max_steps:,} steps, seed {how.seed}"
        )
        lines.append(("walks", walks))
    if "harmonic" in shown.methods:
        lines.append(
            ("exact", f"for steps of {how.step_nm:g} nm, no share off by over {how.tolerance:g}")
        )
    return lines


def _both(voxels: tuple[int, int, int], h: tuple[float, float, float]) -> str:
    nm = tuple(n * size for n, size in zip(voxels, h, strict=True))
    return f"{' x '.join(map(str, voxels))} voxels ({_sizes(nm)} nm)"


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _paragraph(page: Page, text: str, corner: Corner, width: float, *, bold: bool = False) -> float:
    x, y = corner
    for line in wrapped(text, width, bold=bold):
        page.text(x, y, line, size=_SIZE, bold=bold)
        y += _LINE
    return y


@functools.lru_cache(maxsize=256)
def wrapped(text: str, width: float, *, bold: bool = False) -> list[str]:
    """The text in lines no wider than `width` pixels, cut at spaces."""
    if text_width(text, _SIZE, bold=bold) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, _SIZE, bold=bold) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
