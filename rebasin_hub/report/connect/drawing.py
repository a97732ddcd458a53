"""Heat maps, simplices and lines over steps as SVG, drawn without any script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rebasin_hub.record.connect import SimplexRecord
from rebasin_hub.record.model import Number
from rebasin_hub.report.figures import number
from rebasin_hub.report.html.markup import Html, joined, tag

__all__ = ["STYLE", "heat_map", "simplex_map", "step_chart"]

STYLE = """
.maps { display: flex; flex-wrap: wrap; gap: 1.75rem; margin: 1.2rem 0; }
svg .on-dark { fill: #fff; } svg .on-light { fill: #1b1d21; } svg .middle { text-anchor: middle; }
svg .label { font-weight: 600; } svg .end { text-anchor: end; }
.chart svg { cursor: auto; width: 100%; height: auto; }
"""
STOPS = ((244, 241, 236), (242, 181, 138), (181, 66, 10), (94, 31, 2))
"""From no barrier to the highest; lightness falls all the way, for the colour-blind and print."""
DARK = 0.45
"""From this share of the scale on, text on a colour is white."""
CELL, EDGE = 62, 26
SIDE = 250.0
CHART = (720.0, 260.0)
MARGIN = 54.0
Point = tuple[float, float]


def _colour(share: float) -> str:
    place = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    first = min(int(place), len(STOPS) - 2)
    between = place - first
    parts = zip(STOPS[first], STOPS[first + 1], strict=True)
    return "#" + "".join(f"{round(a + between * (b - a)):02x}" for a, b in parts)


def heat_map(
    names: Sequence[str], values: Mapping[tuple[str, str], Number], top: float, title: str
) -> Html:
    """Return a symmetric matrix of barriers as a figure, on a scale from 0 to `top`."""
    size = EDGE + CELL * len(names)
    parts = []
    for row, first in enumerate(names):
        y = EDGE + CELL * row
        parts.append(_text(first, EDGE / 2, y + CELL / 2 + 4, "middle label"))
        parts.append(_text(first, y + CELL / 2, EDGE - 9, "middle label"))
        for column, second in enumerate(names):
            key = (first, second) if row < column else (second, first)
            if row != column:
                parts.append(_cell(values.get(key), top, EDGE + CELL * column, y))
    told = "; ".join(f"{a}–{b} {number(value)}" for (a, b), value in values.items())
    svg = tag(
        "svg",
        *parts,
        viewBox=f"0 0 {size} {size}",
        width=size,
        height=size,
        role="img",
        aria_label=f"{title}: {told}",
    )
    return tag("figure", tag("figcaption", title), svg)


def _cell(value: Number, top: float, x: float, y: float) -> Html:
    share = 1.0 if value is None else value / top
    side = CELL - 2
    shown = "∞" if value is None else number(value)
    return joined(
        tag("rect", x=x, y=y, width=side, height=side, rx=5, fill=_colour(share)),
        _text(shown, x + side / 2, y + side / 2 + 4, f"middle {_on(share)}"),
    )


def _on(share: float) -> str:
    return "on-dark" if share > DARK else "on-light"


def simplex_map(record: SimplexRecord, low: float, top: float, title: str) -> Html:
    """Return the losses over a simplex as a figure, on a scale from `low` to `top`."""
    height = SIDE * 3**0.5 / 2
    corners = ((0.0, height), (SIDE, height), (SIDE / 2, 0.0))
    places = [
        tuple(sum(w * c[axis] for w, c in zip(weights, corners, strict=True)) for axis in (0, 1))
        for weights in record.weights
    ]
    parts = []
    for triangle in _triangles(record):
        losses = [record.loss[number] for number in triangle]
        known = [loss for loss in losses if loss is not None]
        mean = sum(known) / len(known) if len(known) == len(losses) else top
        points = " ".join(f"{places[n][0]:.1f},{places[n][1]:.1f}" for n in triangle)
        fill = _colour((mean - low) / (top - low) if top > low else 0.0)
        # A hair of the same colour hides the seams between triangles.
        parts.append(tag("polygon", points=points, fill=fill, stroke=fill, stroke_width=0.6))
    for name, (x, y), below in zip(record.models, corners, (18, 18, -8), strict=True):
        parts.append(_text(name, x, y + below, "middle label"))
    svg = tag(
        "svg",
        *parts,
        viewBox=f"-14 -24 {SIDE + 28:g} {height + 48:.0f}",
        width=SIDE + 28,
        height=round(height + 48),
        role="img",
        aria_label=f"{title}: barrier {number(record.barrier.loss.value)}",
    )
    told = tag("p", f"barrier {number(record.barrier.loss.value)}", class_="below")
    return tag("figure", tag("figcaption", title), svg, told)


def _triangles(record: SimplexRecord) -> list[tuple[int, int, int]]:
    """Return the small triangles between the points of a triangular grid."""
    intervals = 1
    while (intervals + 1) * (intervals + 2) // 2 < len(record.weights):
        intervals += 1
    starts = [0]
    for row in range(intervals + 1):
        starts.append(starts[-1] + intervals + 1 - row)
    found = []
    for row in range(intervals):
        for place in range(intervals - row):
            here, above = starts[row] + place, starts[row + 1] + place
            found.append((here, here + 1, above))
            if place + 1 < intervals - row:
                found.append((here + 1, above + 1, above))
    return found


def step_chart(columns: Mapping[str, tuple[str, Sequence[Number]]], label: str) -> Html:
    """Return values over steps as a chart: for each name its line's classes and its values."""
    width, height = CHART
    known = [v for _, values in columns.values() for v in values if v is not None]
    top = max(known, default=0.0) or 1.0
    count = max(len(values) for _, values in columns.values())

    def place(step: int, value: float) -> Point:
        x = MARGIN + (width - MARGIN - 12) * (step / (count - 1) if count > 1 else 0.5)
        return x, 12 + (height - 12 - 34) * (1 - max(value, 0.0) / top)

    parts = []
    for share in (0.0, 0.5, 1.0):
        _, y = place(0, share * top)
        parts.append(tag("line", x1=MARGIN, y1=y, x2=width - 12, y2=y, class_="grid"))
        parts.append(_text(number(share * top), MARGIN - 8, y + 4, "end"))
    for step in sorted({0, count // 2, count - 1}):
        parts.append(_text(str(step), place(step, 0)[0], height - 14, "middle"))
    for classes, values in columns.values():
        points = [place(step, v) for step, v in enumerate(values) if v is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(tag("polyline", points=path, class_=f"curve {classes}"))
        parts += [
            tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=f"curve dot {classes}")
            for x, y in points
        ]
    keys = [
        tag("span", _swatch(classes), name, class_="toggle")
        for name, (classes, _) in columns.items()
    ]
    svg = tag("svg", *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label)
    return joined(tag("div", svg, class_="chart"), tag("div", *keys, class_="legend"))


def _swatch(classes: str) -> Html:
    line = tag("line", x1=1, y1=5, x2=27, y2=5, class_=f"curve {classes}")
    return tag("svg", line, class_="swatch", viewBox="0 0 28 10", aria_hidden="true")


def _text(text: str, x: float, y: float, classes: str) -> Html:
    return tag("text", text, x=f"{x:g}", y=f"{y:g}", class_=classes)
