"""How conversions are printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rebasin_hub.pipeline.convert import Cast, ConversionPlan, Converted
from rebasin_hub.report.lines import cell, count, line, notes, size
from rebasin_hub.report.render import render

__all__: list[str] = []

SHOWN = 10


@render.register
def _(plan: ConversionPlan, console: Console) -> None:
    _what(plan, console)
    notes(console, (*plan.notes, "nothing was written (--dry-run)"))


@render.register
def _(done: Converted, console: Console) -> None:
    _what(done.plan, console)
    line(console, "written", f"{size(done.nbytes)} in {_files(len(done.files))}")
    line(console, "digest", f"{done.digest} (of the input: {done.source_digest})")
    _casts(done.casts, console)
    notes(console, done.notes)


def _what(plan: ConversionPlan, console: Console) -> None:
    line(console, "from", f"{plan.source} ({plan.source_format})")
    shards = f", {plan.shards} shards" if plan.shards > 1 else ""
    line(console, "to", f"{plan.output} ({plan.format}{shards})")
    changes = {"renamed": plan.renamed, "turned": plan.turned, "cast": plan.cast}
    told = ", ".join(f"{count(number)} {what}" for what, number in changes.items() if number)
    line(console, "tensors", f"{count(plan.tensors)}, {size(plan.nbytes)}{told and '; '}{told}")
    if plan.tied:
        line(console, "tied", ", ".join(f"{a} = {b}" for a, b in plan.tied.items()))


def _files(number: int) -> str:
    return f"{number} file" + "s" * (number != 1)


def _casts(casts: Sequence[Cast], console: Console) -> None:
    """Say what was lost, and print a table of the tensors that lost the most."""
    if not casts:
        return
    total = sum(found.size for found in casts)
    lost = {
        "rounded": sum(found.rounded for found in casts),
        "overflowed": sum(found.overflowed for found in casts),
        "underflowed to zero": sum(found.underflowed for found in casts),
    }
    told = ", ".join(f"{count(number)} {what}" for what, number in lost.items() if number)
    line(console, "cast", f"{count(total)} numbers: {told or 'all of them exactly'}")
    inexact = sorted(
        (found for found in casts if not found.exact),
        key=lambda found: (-found.overflowed, -found.underflowed, -found.largest_error),
    )
    if inexact:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("tensor", overflow="fold")
        for column in ("numbers", "overflowed", "underflowed", "rounded", "largest error"):
            table.add_column(column, justify="right")
        for found in inexact[:SHOWN]:
            table.add_row(
                cell(found.tensor),
                *map(count, (found.size, found.overflowed, found.underflowed, found.rounded)),
                f"{found.largest_error:.2g}",
            )
        console.print(table)
        if len(inexact) > SHOWN:
            notes(
                console, (f"{len(inexact) - SHOWN} more tensors lost something (--json has all)",)
            )
