"""How experiments are shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.experiments import ExperimentPlan, ExperimentResult
from rebasin_hub.experiments.experiment import ExperimentFacts
from rebasin_hub.experiments.words import cell_text
from rebasin_hub.report.figures import duration
from rebasin_hub.report.lines import cell, line, write
from rebasin_hub.report.render import LISTS, render

__all__: list[str] = []


@render.register
def _(result: ExperimentResult, console: Console) -> None:
    """Print what was found, the table, and where it all is."""
    write(console, result.title)
    for finding in result.findings:
        write(console, finding)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in result.columns:
        table.add_column(cell(column.head), justify="left" if column.key else "right")
    for row in result.table:
        table.add_row(*(cell(cell_text(row, column)) for column in result.columns))
    console.print(table)
    console.print()
    line(console, "measured", f"in {duration(result.seconds)} on {result.device}")
    for kind, path in result.files.items():
        line(console, kind, path)


@render.register
def _(plan: ExperimentPlan, console: Console) -> None:
    """Print what a run would do."""
    line(console, "experiment", f"{plan.experiment}: {plan.title}")
    line(console, "scale", plan.scale)
    if plan.task is not None:
        line(console, "task", plan.task)
    for key, value in plan.settings.items():
        if key != "task":
            line(console, key, value)
    line(console, "would measure", f"{plan.cells - plan.measured} of {plan.cells} cells")
    line(console, "device", plan.device)
    line(console, "output", plan.output)


def _all(found: Sequence[ExperimentFacts], console: Console) -> None:
    """Print the experiments with their questions."""
    table = Table.grid(padding=(0, 2))
    for one in found:
        table.add_row(Text(one.name, style="bold"), Text(f"{one.title}\n{one.question}"))
    console.print(table)


LISTS[ExperimentFacts] = _all
