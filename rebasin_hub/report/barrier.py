"""A record as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.barrier import Curve
from rebasin_hub.pipeline.barrier import BarrierPlan
from rebasin_hub.plot import terminal_curves
from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord
from rebasin_hub.record.select import at_midpoint, baselines, columns
from rebasin_hub.report.figures import duration, figure, number, percent, percent_figure, plain
from rebasin_hub.report.lines import line, notes
from rebasin_hub.report.render import LISTS, render
from rebasin_hub.tasks.find import TaskKind

__all__: list[str] = []

HEAD = ("B", "treatment", "loss at ½", "error", "loss barrier", "error barrier", "Frankle")


@render.register
def _(record: Record, console: Console) -> None:
    """Print what was measured, a table for each split, the curves as is, and the verdict."""
    for letter, model in record.models.items():
        line(console, f"model {letter}", f"{model.name} ({model.digest[:12]})")
    counts = ", ".join(f"{name} {split.count:,}" for name, split in record.task.splits.items())
    line(console, "task", f"{record.task.name}: {record.task.loss}; {counts} samples")
    for letter, found in record.alignments.items():
        line(
            console,
            f"aligned {letter}",
            f"{found.method}, cosine similarity {found.start_cosine:.4f} → {found.cosine:.4f}, "
            f"{sum(found.moved.values()):,} of {sum(found.units.values()):,} units moved",
        )
    line(console, "measured", f"in {duration(record.seconds)} on {record.device}")
    for split in record.task.splits:
        if columns(record, split):
            console.print()
            console.print(_table(record, split))
    if record.planes:
        console.print()
        console.print(_plane_table(record))
    drawn = _drawn(record)
    if drawn:
        console.print("\n" + drawn, markup=False, highlight=False)
    console.print()
    console.print(Text(plain(record.verdict), style="bold"))
    notes(console, record.notes)


@render.register
def _(steps: BarrierPlan, console: Console) -> None:
    """Print what a measurement will do."""
    for letter, path in zip("ABC", steps.models, strict=False):
        line(console, f"model {letter}", str(path))
    line(console, "spec", steps.spec)
    counts = ", ".join(
        f"{name} {split.count:,} of {split.available:,}" for name, split in steps.splits.items()
    )
    line(console, "task", f"{steps.task}; {counts} samples")
    line(console, "columns", ", ".join(steps.treatments))
    line(console, "would run", f"{steps.passes:,} forward passes of one sample on {steps.device}")
    notes(console, steps.notes)


def _all_tasks(kinds: Sequence[TaskKind], console: Console) -> None:
    """Print what barriers can be measured on, with an example of each."""
    table = Table.grid(padding=(0, 2))
    for kind in kinds:
        table.add_row(Text(kind.name, style="bold"), Text(f"{kind.description}\n{kind.example}"))
    console.print(table)


LISTS[TaskKind] = _all_tasks


def _table(record: Record, split: str) -> Table:
    """Return a table of one split: columns of the record, then the models and the ensemble."""
    table = _empty(f"{split}, intervals of 95 %", *HEAD)
    for curve in columns(record, split):
        table.add_row(*_curve_cells(record, curve))
    for baseline in baselines(record, split):
        name = baseline.name if baseline.name == "ensemble" else f"model {baseline.name}"
        table.add_row("", name, number(baseline.loss), percent(baseline.error), "", "", "")
    return table


def _curve_cells(record: Record, curve: CurveRecord) -> tuple[str, ...]:
    return (
        curve.numbering,
        curve.treatment,
        number(at_midpoint(record.lambdas, curve.loss)),
        percent(at_midpoint(record.lambdas, curve.error)),
        figure(curve.entezari.loss),
        percent_figure(curve.entezari.error),
        number(curve.frankle.loss.value),
    )


def _plane_table(record: Record) -> Table:
    table = _empty("plane through A, B and C", "B and C", "split", "points", "lowest", "highest")
    for plane in record.planes:
        known = [value for row in plane.loss for value in row if value is not None]
        ends = (number(min(known)), number(max(known))) if known else (number(None),) * 2
        points = f"{len(plane.x)}×{len(plane.y)}"
        table.add_row(plane.numbering, Text(plain(plane.split)), points, *ends)
    return table


def _empty(title: str, *head: str) -> Table:
    table = Table(
        title=Text(plain(title)),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < 2 else "right")  # noqa: PLR2004
    return table


def _drawn(record: Record) -> str:
    """Draw the naive and the aligned loss as is on the first split, without points unknown."""
    split = next(iter(record.task.splits))
    curves = {}
    for curve in columns(record, split):
        known = [
            (x, loss)
            for x, loss in zip(record.lambdas, curve.loss, strict=True)
            if loss is not None
        ]
        if curve.treatment == "as is" and known:
            lambdas, losses = zip(*known, strict=True)
            curves[f"{curve.numbering}, {plain(split)}"] = Curve(lambdas, losses)
    return terminal_curves(curves) if curves else ""
