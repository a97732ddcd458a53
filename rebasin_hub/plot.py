"""Pictures of loss curves: in the terminal, and as PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.barrier import Curve
from rebasin_hub.errors import MissingExtraError
from rebasin_hub.formats import new_file
from rebasin_hub.record import Record
from rebasin_hub.record.model import Numbering, PlaneRecord, Treatment
from rebasin_hub.record.select import Measure, baselines, columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_record", "terminal_curves"]

MARKS = "●○▲△"
COLOURS: Mapping[Numbering, str] = {"naive": "#b5420a", "aligned": "#0b57a4"}
"""Told apart by the colour-blind; treatments differ by their dashes."""
DASHES: Mapping[Treatment, str] = {
    "as is": "-",
    "recomputed": "--",
    "repair": ":",
    "calibrated": "-.",
}
MEASURES: tuple[Measure, ...] = ("loss", "error")
BANDS = 14
WIDE = 20.0
"""A plane whose largest value is more than this many times its least gets logarithmic bands."""


def terminal_curves(curves: Mapping[str, Curve], *, width: int = 64, height: int = 12) -> str:
    """Draw loss curves over λ with characters; later curves are drawn over earlier ones."""
    top = max(max(curve.losses) for curve in curves.values())
    bottom = min(0.0, *(min(curve.losses) for curve in curves.values()))
    span = top - bottom
    rows = [[" "] * width for _ in range(height)]
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for x, loss in zip(curve.lambdas, curve.losses, strict=True):
            level = round((height - 1) * (loss - bottom) / span) if span > 0 else 0
            rows[height - 1 - level][round(x * (width - 1))] = mark
    lines = [
        f"{bottom + span * (height - 1 - number) / (height - 1):8.3f} ┤{''.join(row).rstrip()}"
        if number % 3 == 0 or number == height - 1
        else f"{'':8} │{''.join(row).rstrip()}"
        for number, row in enumerate(rows)
    ]
    axis = f"{'':8} └{'─' * width}\n{'loss':>8}  λ = 0, model A{'λ = 1, model B':>{width - 14}}"
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False))
    return "\n".join([*lines, axis, f"{'':10}{legend}"])


def save_record(record: Record, path: Path, *, force: bool = False) -> None:
    """Write a picture of a record as a PNG: curves by split, and planes by numbering.

    Loss stands on the left, error on the right. The same record and matplotlib give the same bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: `path` exists and `force` is not set, or it cannot be written.

    """
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise MissingExtraError("drawing a picture", "plot") from problem
    splits = [split for split in record.task.splits if columns(record, split)]
    rows = len(splits) + len(record.planes)
    figure = Figure(figsize=(11, 4.2 * max(rows, 1)), layout="constrained")
    places: Any = figure.subplots(max(rows, 1), 2, squeeze=False)
    for pair, split in zip(places, splits, strict=False):
        for axes, measure in zip(pair, MEASURES, strict=True):
            _draw_curves(axes, record, split, measure)
    for pair, plane in zip(places[len(splits) :], record.planes, strict=True):
        for axes, measure in zip(pair, MEASURES, strict=True):
            _draw_plane(figure, axes, plane, record.planes, measure)
    if splits:
        # One for all panels, below them: inside, it would lie on the curves.
        figure.legend(
            *places[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=5,
            frameon=False,
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    with new_file(path, force=force) as file:
        file.put(buffer.getvalue())


def _draw_curves(axes: Axes, record: Record, split: str, measure: Measure) -> None:
    for curve in columns(record, split):
        axes.plot(
            record.lambdas,
            _holes(curve.loss if measure == "loss" else curve.error),
            DASHES[curve.treatment],
            color=COLOURS[curve.numbering],
            label=f"{curve.numbering}, {curve.treatment}",
        )
    for baseline in baselines(record, split):
        value = baseline.loss if measure == "loss" else baseline.error
        if baseline.name == "ensemble" and value is not None:
            axes.axhline(value, color="0.45", linewidth=1, linestyle=(0, (3, 3)), label="ensemble")
    axes.set_xlabel("λ (0: model A, 1: model B)")
    _name(axes, f"{_quantity(record, measure)}, {split}")
    axes.margins(x=0.01)
    axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")


def _draw_plane(
    figure: Figure, axes: Axes, plane: PlaneRecord, planes: Sequence[PlaneRecord], measure: Measure
) -> None:
    """Draw filled contours; one scale holds for all planes, so that they can be compared."""
    from matplotlib.colors import BoundaryNorm

    known = [v for p in planes for row in _rows(p, measure) for v in row if v is not None]
    levels = _levels(known)
    drawn = axes.contourf(
        plane.x,
        plane.y,
        [_holes(row) for row in _rows(plane, measure)],
        levels=levels,
        cmap="cividis",
        norm=BoundaryNorm(levels, 256),
    )
    bar = figure.colorbar(drawn, ax=axes, ticks=levels[::2], format="%.2g")
    bar.ax.tick_params(labelsize=8)
    for letter, (x, y) in plane.corners.items():
        axes.plot(x, y, "o", color="white", markeredgecolor="black")
        axes.annotate(
            letter,
            (x, y),
            xytext=(6, 6),
            textcoords="offset points",
            color="white",
            weight="bold",
        )
    axes.set_aspect("equal")
    _name(axes, f"{measure}, {plane.numbering}, {plane.split}")


def _levels(known: Sequence[float]) -> list[float]:
    """Return rising levels from the least to the largest value."""
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high <= low:
        high = low + max(abs(low), 1.0) * 1e-6
    if low > 0 and high / low > WIDE:
        return [low * (high / low) ** (k / BANDS) for k in range(BANDS)] + [high]
    return [low + (high - low) * k / BANDS for k in range(BANDS)] + [high]


def _rows(plane: PlaneRecord, measure: Measure) -> list[list[float | None]]:
    return plane.loss if measure == "loss" else plane.error


def _quantity(record: Record, measure: Measure) -> str:
    return record.task.loss if measure == "loss" else record.task.error


def _holes(values: Sequence[float | None]) -> list[float]:
    """Put NaN, which matplotlib leaves out, where a value is not known."""
    return [math.nan if value is None else value for value in values]


def _name(axes: Axes, text: str) -> None:
    """Set a title as it is: names come from users, and `$` starts a formula for matplotlib."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    axes.set_title(printable, loc="left", fontsize=11, parse_math=False)
