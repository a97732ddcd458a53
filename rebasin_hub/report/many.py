"""Many aligned models as text for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from rebasin_hub.pipeline.aligning_many import AlignedMany
from rebasin_hub.report.figures import percent
from rebasin_hub.report.lines import cell, line, notes
from rebasin_hub.report.render import render

__all__: list[str] = []


@render.register
def _(aligned: AlignedMany, console: Console) -> None:
    line(console, "spec", aligned.spec)
    ended = "" if aligned.converged else "; it had not converged"
    line(console, "search", f"{aligned.strategy}, {aligned.method}{ended}")
    console.print(_pairs(aligned) if aligned.pairs else _members(aligned))
    if aligned.distances:
        shown = " → ".join(f"{distance:.4g}" for distance in aligned.distances)
        rounds = len(aligned.distances) - 2
        each = f"; the last {rounds} after a round each" if rounds > 0 else ""
        line(console, "distance", f"{shown} to the mean{each}")
    if aligned.cycle_error is not None:
        way = "of the units are others after the way round three models"
        line(console, "cycle error", f"{percent(aligned.cycle_error)} {way}")
    if aligned.output is not None:
        count = len(aligned.members) + len(aligned.pairs)
        line(console, "wrote", f"{aligned.output} ({count} permutation files)")
    notes(console, aligned.notes)


def _members(aligned: AlignedMany) -> Table:
    table = _table("model", "cosine to the others", "aligned", "moved", "file")
    for one in aligned.members:
        table.add_row(
            cell(str(one.model)),
            f"{one.start_cosine:.4f}",
            f"{one.cosine:.4f}",
            f"{one.moved:,} of {one.units:,}",
            cell("" if one.output is None else one.output.name),
        )
    return table


def _pairs(aligned: AlignedMany) -> Table:
    table = _table("model", "to", "cosine", "aligned", "file")
    for one in aligned.pairs:
        table.add_row(
            cell(str(one.model)),
            cell(str(one.reference)),
            f"{one.alignment.start_cosine:.4f}",
            f"{one.alignment.cosine:.4f}",
            cell("" if one.output is None else one.output.name),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        left = column in {"model", "to", "file"}
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    return table
