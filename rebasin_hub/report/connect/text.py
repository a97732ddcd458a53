"""Connectivity as text for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.pipeline.connect import ConnectPlan, TrajectoryPlan
from rebasin_hub.record.connect import ConnectRecord, StrategySummary, TrajectoryRecord
from rebasin_hub.record.model import Treatment
from rebasin_hub.report.connect.parts import NUMBERINGS, cells, curves, pairs
from rebasin_hub.report.figures import duration, figure, number, percent, plain
from rebasin_hub.report.lines import cell, line, notes
from rebasin_hub.report.render import render

__all__: list[str] = []

SHOWN_PAIRS = 15


@render.register
def _(record: ConnectRecord, console: Console) -> None:
    """Print the matrix of each split, the simplices and the verdict."""
    for letter, model in record.models.items():
        line(console, f"model {letter}", f"{model.name} ({model.digest[:12]})")
    _circumstances(console, record)
    for split in record.task.splits:
        console.print()
        console.print(_matrix(record, split))
    if len(pairs(record)) > SHOWN_PAIRS:
        line(console, "", f"of {len(pairs(record))} pairs; --json has them all")
    if record.simplices:
        console.print()
        console.print(_simplices(record))
    for strategy, share in record.cycle_error.items():
        if share:
            told = f"{percent(share)} of the units, round three models by {strategy} permutations"
            line(console, "cycle error", told)
    _verdict(console, record)


@render.register
def _(record: TrajectoryRecord, console: Console) -> None:
    """Print a table of the steps for each split, and the verdict."""
    first, last = record.steps[0], record.steps[-1]
    for letter, a, b in (("A", first.a, last.a), ("B", first.b, last.b)):
        line(console, f"model {letter}", f"{a.name} … {b.name}, {len(record.steps)} steps")
    _circumstances(console, record)
    for split in record.task.splits:
        for treatment in record.treatments:
            console.print()
            console.print(_steps(record, split, treatment))
    if any(step.masks for step in record.steps):
        console.print()
        console.print(_masks(record))
    _verdict(console, record)


@render.register
def _(steps: ConnectPlan, console: Console) -> None:
    """Print what a measurement will do."""
    for path in steps.models:
        line(console, "model", str(path))
    line(console, "strategies", ", ".join(steps.strategies))
    simplices = f", {steps.simplices} simplices" if steps.simplices else ""
    line(console, "lines", f"{steps.pairs} pairs of {steps.points} points each{simplices}")
    _would_run(console, steps)


@render.register
def _(steps: TrajectoryPlan, console: Console) -> None:
    """Print what a measurement will do."""
    for letter, paths in (("A", steps.a), ("B", steps.b)):
        line(console, f"model {letter}", f"{paths[0]} … {paths[-1]}")
    line(console, "lines", f"{len(steps.a)} steps of {steps.points} points each")
    _would_run(console, steps)


def _would_run(console: Console, steps: ConnectPlan | TrajectoryPlan) -> None:
    line(console, "spec", steps.spec)
    counts = ", ".join(
        f"{name} {split.count:,} of {split.available:,}" for name, split in steps.splits.items()
    )
    line(console, "task", f"{steps.task}; {counts} samples")
    line(console, "columns", ", ".join(steps.treatments))
    told = f"up to {steps.passes:,} forward passes of one sample on {steps.device}"
    line(console, "would run", told)
    notes(console, steps.notes)


def _circumstances(console: Console, record: ConnectRecord | TrajectoryRecord) -> None:
    counts = ", ".join(f"{name} {split.count:,}" for name, split in record.task.splits.items())
    line(console, "task", f"{record.task.name}: {record.task.loss}; {counts} samples")
    line(console, "aligned by", record.method)
    line(console, "measured", f"in {duration(record.seconds)} on {record.device}")


def _verdict(console: Console, record: ConnectRecord | TrajectoryRecord) -> None:
    console.print()
    console.print(Text(plain(record.verdict), style="bold"))
    notes(console, record.notes)


def _titled(title: str, *head: str, left: int = 1) -> Table:
    """Return an empty table of which the first `left` columns hold text."""
    table = Table(
        title=cell(title), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < left else "right")
    return table


def _matrix(record: ConnectRecord, split: str) -> Table:
    """Return the loss barriers of one split: a row for each pair, a column for each strategy."""
    title = f"loss barriers on {split}, intervals of 95 %"
    table = _titled(title, "pair", "treatment", *record.strategies, left=2)
    for treatment in record.treatments:
        found = cells(record, split, treatment)
        for pair in pairs(record)[:SHOWN_PAIRS]:
            barriers = [found[pair, s].entezari.loss for s in record.strategies]
            table.add_row("–".join(pair), treatment, *map(figure, barriers))
        summaries = {
            s.strategy: s for s in record.summaries if (s.split, s.treatment) == (split, treatment)
        }
        chosen = [summaries[strategy] for strategy in record.strategies]
        table.add_row("mean", treatment, *(figure(s.mean) for s in chosen), style="bold")
        table.add_row("largest", treatment, *map(_largest, chosen), end_section=True)
    return table


def _largest(summary: StrategySummary) -> str:
    return f"{number(summary.largest)} ({'–'.join(summary.pair)})"


def _simplices(record: ConnectRecord) -> Table:
    head = ("models", "numbering", "split", "loss barrier", "error barrier", "highest at")
    table = _titled("simplices of three models, as is", *head, left=3)
    for one in record.simplices:
        error = one.barrier.error.value
        table.add_row(
            ", ".join(one.models),
            one.strategy,
            cell(one.split),
            figure(one.barrier.loss),
            percent(error),
            " ".join(f"{weight:.2f}" for weight in one.highest),
        )
    return table


def _steps(record: TrajectoryRecord, split: str, treatment: Treatment) -> Table:
    found = curves(record, split, treatment)
    names = [NUMBERINGS[numbering] for numbering in found]
    title = f"loss barriers on {split}, {treatment}, intervals of 95 %"
    table = _titled(title, "step", "loss of A", "of B", *names)
    for step in range(len(record.steps)):
        ends = next(iter(found.values()))[step].loss
        barriers = [figure(lines[step].entezari.loss) for lines in found.values()]
        table.add_row(str(step), number(ends[0]), number(ends[-1]), *barriers)
    return table


def _masks(record: TrajectoryRecord) -> Table:
    head = ("step", "pruned in A", "in B", "in the mean", "aligned", "masks overlap", "aligned")
    table = _titled("masks, aligned by the last step's permutation", *head)
    for step in record.steps:
        if (found := step.masks) is not None:
            shares = (
                found.sparsity_a,
                found.sparsity_b,
                found.merged["naive"],
                found.merged["last"],
                found.overlap["naive"],
                found.overlap["last"],
            )
            table.add_row(str(step.step), *map(percent, shares))
    return table
