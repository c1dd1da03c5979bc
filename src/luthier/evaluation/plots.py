"""Plots of a report as inline SVG: points with their intervals, and rows of two models."""

import math
from collections.abc import Sequence
from html import escape

from luthier.evaluation.interval import Interval

WIDTH, LEFT, LINE, DOT = 420, 140, 26, 4.5
_RIGHT = 20


def forest(points: Sequence[tuple[str, Interval]], *, zero: bool = False) -> str:
    """A line for each interval under one scale, its figure as a dot.

    Args:
        zero: Whether the scale holds 0, with a mark there: for differences.
    """
    ends = [end for _, one in points for end in (one.low, one.value, one.high)]
    known = [end for end in ends if math.isfinite(end)] + [0.0] * zero
    ticks = scale(min(known), max(known))
    low, high = ticks[0], ticks[-1]
    height = LINE * len(points) + 30

    def across(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - _RIGHT)

    parts = [
        f'<line class="grid" x1="{across(t):.1f}" x2="{across(t):.1f}" y1="6" y2="{height - 22}"/>'
        f'<text class="tick" x="{across(t):.1f}" y="{height - 6}" text-anchor="middle">{t:.4g}</text>'
        for t in ticks
    ]
    if zero:
        parts.append(
            f'<line class="zero" x1="{across(0):.1f}" x2="{across(0):.1f}" y1="2" y2="{height - 22}"/>'
        )
    for number, (label, one) in enumerate(points):
        y = LINE * number + LINE / 2 + 4
        colour = "accent" if zero else f"series-{number % 6 + 1}"
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(_short(label))}</text>'
            f'<line class="whisker" style="stroke:var(--{colour})" x1="{across(one.low):.1f}" '
            f'x2="{across(one.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle style="fill:var(--{colour})" cx="{across(one.value):.1f}" cy="{y}" r="{DOT}"/>'
        )
    said = "; ".join(f"{n}: {i.value:.4g}, {i.low:.4g} to {i.high:.4g}" for n, i in points)
    return _svg(WIDTH, height, said, parts)


def scatter(one: Sequence[float], other: Sequence[float], names: tuple[str, str]) -> str:
    """A dot for each row: the figure of one model across, of the other up; equals on the line."""
    side, edge = 340, 46
    ticks = scale(min(*one, *other), max(*one, *other))
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return edge + (value - low) / (high - low) * (side - edge - 12)

    parts = [
        f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="12" y2="{side - edge}"/>'
        f'<line class="grid" x1="{edge}" x2="{side - 12}" y1="{side - place(t):.1f}" y2="{side - place(t):.1f}"/>'
        f'<text class="tick" x="{place(t):.1f}" y="{side - edge + 16}" text-anchor="middle">{t:.4g}</text>'
        f'<text class="tick" x="{edge - 6}" y="{side - place(t) + 4:.1f}" text-anchor="end">{t:.4g}</text>'
        for t in ticks
    ]
    parts.append(
        f'<line class="zero" x1="{edge}" y1="{side - edge}" x2="{side - 12}" y2="12"/>'
        f'<text x="{(side + edge) / 2}" y="{side - 8}" text-anchor="middle">{escape(_short(names[0]))}</text>'
        f'<text x="14" y="{(side - edge) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(side - edge) / 2})">{escape(_short(names[1]))}</text>'
    )
    parts += [
        f'<circle class="row" cx="{place(x):.1f}" cy="{side - place(y):.1f}" r="3"/>'
        for x, y in zip(one, other, strict=True)
    ]
    said = f"{len(one)} rows: {names[0]} across, {names[1]} up"
    return _svg(side, side, said, parts)


def scale(low: float, high: float) -> list[float]:
    """Three to seven round numbers that hold both ends."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(n * unit for n in (1, 2, 2.5, 5, 10, 20) if span / (n * unit) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:9]}…{text[-10:]}"


def _svg(width: int, height: int, said: str, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'aria-label="{escape(said, quote=True)}">{"".join(parts)}</svg>'
    )
