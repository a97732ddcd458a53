"""Draw what an experiment found."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.experiments.experiment import Picture, Row, Series
from rebasin_hub.experiments.result import ExperimentResult
from rebasin_hub.experiments.summary import finite, mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

COLOURS = ("#b5420a", "#0b57a4", "#5b8c2a", "#8a4fa3", "#c79a00", "#3a3a3a", "#00838f", "#ad1457")
"""Told apart by the colour-blind as far as eight can be; markers differ as well."""
MARKERS = "os^Dv*Px"
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 150, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None}},
}


def draw(picture: Picture, result: ExperimentResult, kind: Literal["png", "svg"]) -> bytes:
    """Return a picture: means as lines, every row as a point.

    The same result and matplotlib give the same bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise MissingExtraError("drawing a picture", "plot") from problem
    # Names of elements in an SVG are drawn at random otherwise.
    with mpl.rc_context({"svg.hashsalt": "rebasin-hub", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        axes = figure.add_subplot()
        places = _places(picture, result)
        for number, series in enumerate(picture.series):
            rows = [row for row in result.rows if series.holds(row)]
            points = {x: (at, [r for r in rows if r[picture.x] == x]) for x, at in places.items()}
            _draw_series(axes, series, number, points)
        _dress(axes, picture, result, places)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, **FORMATS[kind])
    return buffer.getvalue()


def _places(picture: Picture, result: ExperimentResult) -> dict[Any, float]:
    """Return where each x stands: at its value, or one after another if they are words."""
    values = list(dict.fromkeys(row[picture.x] for row in result.rows))
    if all(finite(value) is not None for value in values):
        return {value: float(value) for value in values}
    return {value: float(number) for number, value in enumerate(values)}


def _draw_series(
    axes: Axes, series: Series, number: int, points: dict[Any, tuple[float, list[Row]]]
) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    seen, means = [], []
    for place, rows in sorted(points.values(), key=lambda point: point[0]):
        values = [finite(row.get(series.name)) for row in rows]
        seen += [(place, value) for value in values if value is not None]
        if (mean := mean_of(rows, series.name)) is not None:
            means.append((place, mean))
    if not means:
        return
    xs, ys = zip(*seen, strict=True)
    axes.scatter(xs, ys, s=10, color=colour, alpha=0.35, linewidths=0)
    xs, ys = zip(*means, strict=True)
    axes.plot(xs, ys, marker=marker, markersize=5, color=colour, label=series.label)


def _dress(
    axes: Axes, picture: Picture, result: ExperimentResult, places: dict[Any, float]
) -> None:
    axes.set(xlabel=picture.x_label, ylabel=picture.y_label)
    axes.set_title(f"{result.title}: {result.task or result.scale}", loc="left", fontsize=11)
    if picture.log_x:
        _logarithmic(axes, list(places.values()))
    if picture.log_y:
        axes.set_yscale("log")
    if len(places) <= 12 or any(isinstance(x, str) for x in places):  # noqa: PLR2004
        axes.set_xticks(list(places.values()), [str(x) for x in places], minor=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    axes.legend(frameon=False)


def _logarithmic(axes: Axes, places: list[float]) -> None:
    """Space places by their logarithms; a place at zero stands before the least of the others."""
    if min(places) > 0:
        axes.set_xscale("log", base=2)
    else:
        least = min(place for place in places if place > 0)
        axes.set_xscale("symlog", base=2, linthresh=least, linscale=0.5)
