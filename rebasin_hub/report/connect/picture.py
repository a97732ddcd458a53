"""The picture of a record of connectivity as a PNG."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.formats import new_file
from rebasin_hub.record.connect import ConnectRecord, SimplexRecord, Strategy, TrajectoryRecord
from rebasin_hub.report.connect.parts import NUMBERINGS, cells, curves, drawn_treatment, extent
from rebasin_hub.report.figures import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_picture"]

COLOURS = {"naive": "#b5420a", "last": "#0b57a4", "own": "#2a7f8f"}
DASHES = {"naive": "-", "last": "-", "own": "--"}
MAP = "OrRd"
DARK = 0.6
"""From this share of the scale on, text on a colour is white."""


def save_picture(
    record: ConnectRecord | TrajectoryRecord, path: Path, *, force: bool = False
) -> None:
    """Write a picture of a record as a PNG.

    Of models: a heat map of the loss barriers for each strategy and the simplex of the first three,
    a row for each split. Of trajectories: loss barrier and error barrier over the steps.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: `path` exists and `force` is not set, or it cannot be written.

    """
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise MissingExtraError("drawing a picture", "plot") from problem
    splits = list(record.task.splits)
    columns = _columns(record) if isinstance(record, ConnectRecord) else 2
    figure = Figure(figsize=(3.6 * columns, 3.6 * len(splits)), layout="constrained")
    places: Any = figure.subplots(len(splits), columns, squeeze=False)
    for row, split in zip(places, splits, strict=True):
        if isinstance(record, ConnectRecord):
            _draw_models(row, record, split)
        else:
            _draw_steps(row, record, split)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    with new_file(path, force=force) as file:
        file.put(buffer.getvalue())


def _columns(record: ConnectRecord) -> int:
    return len(record.strategies) + len(_simplices(record, next(iter(record.task.splits))))


def _simplices(record: ConnectRecord, split: str) -> list[SimplexRecord]:
    """Return the simplices of the first three models."""
    models = record.simplices[0].models if record.simplices else None
    return [one for one in record.simplices if (one.split, one.models) == (split, models)]


def _draw_models(row: Any, record: ConnectRecord, split: str) -> None:  # noqa: ANN401 - an array
    found = cells(record, split, drawn_treatment(record))
    top = extent(pair.entezari.loss.value for pair in found.values())
    for axes, strategy in zip(row, record.strategies, strict=False):
        _draw_matrix(axes, record, split, strategy, top)
    simplices = _simplices(record, split)
    known = [loss for one in simplices for loss in one.loss if loss is not None]
    for axes, one in zip(row[len(record.strategies) :], simplices, strict=True):
        _draw_simplex(axes, one, min(known, default=0.0), max(known, default=1.0))


def _draw_matrix(
    axes: Axes, record: ConnectRecord, split: str, strategy: Strategy, top: float
) -> None:
    names = list(record.models)
    places = {name: place for place, name in enumerate(names)}
    shown = [[math.nan] * len(names) for _ in names]
    for (pair, of), found in cells(record, split, drawn_treatment(record)).items():
        if of == strategy:
            value = found.entezari.loss.value
            a, b = (places[name] for name in pair)
            shown[a][b] = shown[b][a] = math.nan if value is None else value
            colour = "white" if value is not None and value > DARK * top else "black"
            for x, y in ((a, b), (b, a)):
                axes.text(x, y, number(value), ha="center", va="center", color=colour, fontsize=8)
    axes.imshow(shown, vmin=0, vmax=top, cmap=MAP)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _name(axes, f"{strategy}, {split}")


def _draw_simplex(axes: Axes, record: SimplexRecord, low: float, top: float) -> None:
    height = math.sqrt(3) / 2
    x = [b + c / 2 for _, b, c in record.weights]
    y = [c * height for _, _, c in record.weights]
    losses = [math.nan if loss is None else loss for loss in record.loss]
    if not any(map(math.isnan, losses)):
        top = top if top > low else low + 1e-6
        axes.tripcolor(x, y, losses, shading="gouraud", cmap=MAP, vmin=low, vmax=top)
    for name, place in zip(record.models, ((0, 0), (1, 0), (0.5, height)), strict=True):
        axes.annotate(name, place, xytext=(0, 4), textcoords="offset points", weight="bold")
    axes.set_aspect("equal")
    axes.axis("off")
    _name(axes, f"{record.strategy}: barrier {number(record.barrier.loss.value)}")


def _draw_steps(row: Any, record: TrajectoryRecord, split: str) -> None:  # noqa: ANN401 - an array
    found = curves(record, split, drawn_treatment(record))
    for axes, measure in zip(row, ("loss", "error"), strict=True):
        for numbering, lines in found.items():
            values = [getattr(curve.entezari, measure).value for curve in lines]
            axes.plot(
                range(len(values)),
                [math.nan if value is None else value for value in values],
                DASHES[numbering],
                marker="o",
                markersize=3,
                color=COLOURS[numbering],
                label=NUMBERINGS[numbering],
            )
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        _name(axes, f"{measure} barrier, {split}")
    row[0].legend(frameon=False, fontsize=8)


def _name(axes: Axes, text: str) -> None:
    """Set a title as it is: names come from users, and `$` starts a formula for matplotlib."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    axes.set_title(printable, loc="left", fontsize=10, parse_math=False)
