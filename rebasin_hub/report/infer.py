"""Inferred specs as text for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.pipeline.inferring import FixedPlaces, FoundGroup, InferredSpec
from rebasin_hub.report.lines import cell, line, notes, write
from rebasin_hub.report.render import render

__all__: list[str] = []

COLUMNS = ("permutation", "within", "size", "tensors", "deviation", "left out")
SHOWN = 12
"""Reasons that are listed."""


@render.register
def _(found: InferredSpec, console: Console) -> None:
    line(console, "graph", f"{found.source}, {found.operators:,} operators")
    line(
        console,
        "renumbered",
        f"{100 * found.share:.1f} % of the parameters lie on a renumbered axis",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    for group in found.groups:
        table.add_row(*_row(group))
    console.print(table)
    for fixed in found.fixed[:SHOWN]:
        line(console, "fixed", _why(fixed))
    if len(found.fixed) > SHOWN:
        line(console, "fixed", f"… and for {len(found.fixed) - SHOWN} more reasons")
    for operator, count in found.unruled.items():
        notes(console, (f"{operator} has no rule: {count} of them fix what touches them",))
    notes(console, found.notes)
    for name, deviation in found.removed.items():
        console.print("[red]taken out[/red]    ", end="")
        write(console, f"{name}: renumbering it changed the outputs by {deviation:.1e} relative")
    if found.certified:
        console.print(
            f"[green]certified: all groups together change the outputs by {found.deviation:.1e} "
            f"relative (rounding stays below {found.tolerance:.0e})[/green]"
        )
    else:
        notes(console, ("not certified: the model was not run",))
    if found.output is not None:
        line(console, "wrote", found.output)
    else:
        write(console, found.text)


def _row(group: FoundGroup) -> tuple[Text | str, ...]:
    times = f"{group.name} ×{group.instances}" if group.instances > 1 else group.name
    return (
        cell(times),
        group.within or "",
        str(group.size),
        str(group.tensors),
        "" if group.deviation is None else f"{group.deviation:.1e}",
        "" if group.control is None else f"{group.control:.1e}",
    )


def _why(fixed: FixedPlaces) -> str:
    where = f" [{fixed.where}]" if fixed.where else ""
    more = f" and {fixed.axes - 1} more" if fixed.axes > 1 else ""
    return f"{fixed.reason}{where}: {fixed.example}{more}"
