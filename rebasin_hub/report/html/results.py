"""What came out: the verdict, curves, barriers, planes and matches."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord, Figure, MatchRecord, Number
from rebasin_hub.record.select import at_midpoint, baselines, columns
from rebasin_hub.report.figures import figure, number, percent, percent_figure
from rebasin_hub.report.html.markup import Html, joined, tag

__all__ = [
    "barriers_section",
    "curves_section",
    "matches_section",
    "planes_section",
    "section",
    "verdict_header",
]

NOTHING = Html("")
STRIP = 240
"""Width of the picture of one permutation's matches, in its own units: a cosine from −1 to 1."""


def section(name: str, title: str, *children: str) -> Html:
    """Return a section of the page with its heading."""
    return tag(
        "section",
        tag("h2", title, id=f"{name}-title"),
        *children,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def verdict_header(record: Record) -> Html:
    """Return the top of the page: what was compared, and the verdict in large type."""
    first, *others = re.split(r"(?<=\.) (?=[A-Z])", record.verdict, maxsplit=1)
    models = [
        tag("li", tag("b", letter), " ", tag("span", model.name, class_="name"))
        for letter, model in record.models.items()
    ]
    told = [tag("p", rest, class_="more") for rest in others]
    return tag(
        "header",
        tag("p", f"rebasin-hub · {record.kind} on {record.task.name}", class_="eyebrow"),
        tag("h1", first, id="verdict"),
        *told,
        tag("ul", *models, class_="models"),
        _tiles(record),
    )


def _tiles(record: Record) -> Html:
    """Return the few figures that decide: barriers as is on the first split, and what is gone."""
    split = next(iter(record.task.splits), "")
    tiles = []
    for curve in columns(record, split):
        if curve.treatment == "as is":
            middle = at_midpoint(record.lambdas, curve.error)
            tiles.append(
                _tile(
                    f"Loss barrier, {curve.numbering}",
                    number(curve.entezari.loss.value),
                    f"{record.task.error} {percent(middle)} at the midpoint",
                    curve.numbering,
                )
            )
    for item in record.removed:
        if item.split == split and item.treatment == "as is" and item.share.value is not None:
            value = f"{100 * item.share.value:.0f} %"
            tiles.append(_tile("Removed by alignment", value, _between(item.share), "removed"))
    return tag("div", *tiles, class_="tiles") if tiles else NOTHING


def _between(share: Figure) -> str:
    if share.low is None or share.high is None:
        return ""
    return f"{100 * share.low:.0f} to {100 * share.high:.0f} % in 95 % of the bootstrap samples"


def _tile(title: str, value: str, below: str, kind: str) -> Html:
    return tag(
        "div",
        tag("p", title, class_="what"),
        tag("p", value, class_="value"),
        tag("p", below, class_="below"),
        class_=f"tile {kind}",
    )


def curves_section(record: Record) -> Html:
    """Return the place of the interactive curves, which a script fills."""
    if not record.curves:
        return NOTHING
    return section(
        "curves",
        "Along the straight line",
        tag(
            "p",
            "Each point is the network with weights (1 − λ)·A + λ·B. "
            "The vertical mark on a curve is its barrier: how far it lies above the line "
            "between its two ends.",
        ),
        tag("noscript", tag("p", "The curves are drawn by a script; the figures are below.")),
        tag("div", id="curves-controls", class_="controls"),
        tag("div", id="curves-chart", class_="chart"),
        tag("div", id="curves-legend", class_="legend"),
    )


def barriers_section(record: Record) -> Html:
    """Return a table of barriers for each split."""
    if not record.curves:
        return NOTHING
    tables = [_barrier_table(record, split) for split in record.task.splits]
    return section(
        "barriers",
        "Barriers",
        tag(
            "p",
            "Entezari: the largest rise above the straight line between both ends' values. "
            "Frankle: above the ends' mean. In brackets, the 95 % bootstrap interval over samples.",
        ),
        *tables,
        _removed_table(record),
    )


def _barrier_table(record: Record, split: str) -> Html:
    curves = columns(record, split)
    if not curves:
        return NOTHING
    head = (
        "",
        "loss at ½",
        "error at ½",
        "loss barrier",
        "error barrier",
        "Frankle, loss",
        "error",
    )
    rows = [_curve_row(record, curve) for curve in curves]
    rows += [
        tag(
            "tr",
            tag("th", _baseline_name(baseline.name), scope="row"),
            tag("td", number(baseline.loss)),
            tag("td", percent(baseline.error)),
            *[tag("td", "–")] * 4,
            class_="baseline",
        )
        for baseline in baselines(record, split)
    ]
    return _table(f"Split “{split}”, {record.task.splits[split].count:,} samples", head, rows)


def _baseline_name(name: str) -> str:
    return "Ensemble of A and B" if name == "ensemble" else f"Model {name}"


def _curve_row(record: Record, curve: CurveRecord) -> Html:
    name = joined(_swatch(curve), f"{curve.numbering}, {curve.treatment}")
    return tag(
        "tr",
        tag("th", name, scope="row"),
        tag("td", number(at_midpoint(record.lambdas, curve.loss))),
        tag("td", percent(at_midpoint(record.lambdas, curve.error))),
        tag("td", _bracketed(figure(curve.entezari.loss))),
        tag("td", _bracketed(percent_figure(curve.entezari.error))),
        tag("td", _bracketed(figure(curve.frankle.loss))),
        tag("td", _bracketed(percent_figure(curve.frankle.error))),
    )


def _swatch(curve: CurveRecord) -> Html:
    line = tag("line", x1=1, y1=5, x2=27, y2=5, class_=line_class(curve))
    return tag("svg", line, class_="swatch", viewBox="0 0 28 10", aria_hidden="true")


def line_class(curve: CurveRecord) -> str:
    """Return the classes that give a curve its colour and its dashes."""
    return f"curve {curve.numbering} {curve.treatment.replace(' ', '-')}"


def _bracketed(text: str) -> Html:
    """Set an interval in small type under its figure."""
    value, bracket, interval = text.partition(" [")
    return joined(value, tag("small", "[" + interval)) if bracket else joined(value)


def _removed_table(record: Record) -> Html:
    if not record.removed:
        return NOTHING
    rows = [
        tag(
            "tr",
            tag("th", f"{item.treatment}, {item.split}", scope="row"),
            tag("td", _share(item.share)),
        )
        for item in record.removed
    ]
    return _table("Share of the naive loss barrier that is gone", ("", "removed"), rows)


def _share(share: Figure) -> Html | str:
    """Write how much is gone; where the naive line has no barrier, there was nothing to remove."""
    return "no barrier" if share.value is None else _bracketed(percent_figure(share))


def _table(caption: str, head: Sequence[str], rows: Sequence[Html]) -> Html:
    cells = [tag("th", text, scope="col") if text else tag("td") for text in head]
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *cells)),
        tag("tbody", *rows),
    )
    return tag("div", table, class_="wide", role="region", tabindex="0", aria_label=caption)


def planes_section(record: Record) -> Html:
    """Return the place of the planes, which a script fills."""
    if not record.planes:
        return NOTHING
    rows = [
        tag(
            "tr",
            tag("th", f"{plane.numbering}, {plane.split}", scope="row"),
            *[tag("td", _lowest(values)) for values in (plane.loss, plane.error)],
        )
        for plane in record.planes
    ]
    head = ("", "loss, lowest to highest", "error, lowest to highest")
    return section(
        "planes",
        "On the plane through three models",
        tag(
            "p",
            "Distances are those of the weights, equal in both directions. "
            "One colour scale holds for the naive and the aligned plane.",
        ),
        tag("noscript", tag("p", "The planes are drawn by a script.")),
        tag("div", id="planes-controls", class_="controls"),
        tag("div", id="planes-charts", class_="planes"),
        tag("div", id="planes-scale"),
        _table("Range of each plane", head, rows),
    )


def _lowest(rows: Sequence[Sequence[Number]]) -> str:
    known = [value for row in rows for value in row if value is not None]
    return f"{number(min(known))} to {number(max(known))}" if known else number(None)


def matches_section(record: Record) -> Html:
    """Return one row for each permutation: how well its units matched, naive and aligned."""
    if not record.matches:
        return NOTHING
    rows = [_match_row(index, match) for index, match in enumerate(record.matches)]
    head = tag(
        "div",
        tag("span", "permutation"),
        tag("span", "units"),
        tag("span", tag("i", "−1"), tag("i", "0"), tag("i", "1"), class_="ends"),
        tag("span", "median"),
        class_="match head",
        aria_hidden="true",
    )
    return section(
        "matches",
        "How well units matched",
        tag(
            "p",
            "The cosine of each unit's weights in A with those of its partner in B: "
            "the line spans all units, the box the middle half, the mark is the median. "
            "Open a row to see every unit.",
        ),
        tag(
            "p",
            tag("span", "naive", class_="key naive"),
            tag("span", "aligned", class_="key aligned"),
            class_="keys",
        ),
        tag("div", head, *rows, class_="matches"),
    )


def _match_row(index: int, match: MatchRecord) -> Html:
    spreads = [_spread(values) for values in (match.naive, match.aligned)]
    medians = [spread[2] if spread else None for spread in spreads]
    boxes = [
        _box(spread, 6 + 12 * place, kind)
        for place, (spread, kind) in enumerate(zip(spreads, ("naive", "aligned"), strict=True))
        if spread
    ]
    middle = tag("line", x1=STRIP / 2, y1=0, x2=STRIP / 2, y2=24, class_="zero")
    told = "median cosine " + " → ".join(_cosine(median) for median in medians)
    picture = tag(
        "svg",
        middle,
        *boxes,
        viewBox=f"0 0 {STRIP} 24",
        preserveAspectRatio="none",
        role="img",
        aria_label=told,
    )
    summary = tag(
        "summary",
        tag("span", match.permutation, class_="name"),
        tag("span", f"{len(match.aligned):,}", class_="units"),
        picture,
        tag("span", " → ".join(_cosine(median) for median in medians), class_="median"),
        class_="match",
    )
    return tag("details", summary, tag("div", class_="units-chart"), data_match=index)


def _cosine(value: Number) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _spread(values: Sequence[Number]) -> list[float] | None:
    """Return the least, the quartiles and the largest of the values that are known."""
    known = [value for value in values if value is not None]
    return np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist() if known else None


def _box(spread: Sequence[float], y: float, kind: str) -> Html:
    low, first, middle, third, high = (round((1 + x) / 2 * STRIP, 2) for x in spread)
    return tag(
        "g",
        tag("line", x1=low, y1=y, x2=high, y2=y, class_="range"),
        tag("rect", x=first, y=y - 3, width=round(max(third - first, 0.5), 2), height=6),
        tag("line", x1=middle, y1=y - 4.5, x2=middle, y2=y + 4.5, class_="middle"),
        class_=f"box {kind}",
    )
