"""Specs and proofs as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rebasin_hub.pipeline.specs import Detected, ListedSpec
from rebasin_hub.prove import Proof
from rebasin_hub.report.lines import cell, line, listed, notes
from rebasin_hub.report.render import LISTS, render

__all__: list[str] = []


def _all_specs(specs: Sequence[ListedSpec], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("spec", "permutations", "what it describes"):
        table.add_column(column, overflow="fold")
    for spec in specs:
        table.add_row(spec.name, cell(", ".join(spec.permutations)), cell(spec.description))
    console.print(table)


LISTS[ListedSpec] = _all_specs


@render.register
def _(found: Detected, console: Console) -> None:
    line(console, "spec", found.spec)
    line(console, "tensors", f"all {found.tensors} described, {len(found.ignored)} ignored")
    # Sizes of axes written `_` have made-up names.
    named = {key: size for key, size in found.sizes.items() if not key.startswith("_")}
    line(console, "sizes", listed(named))
    line(console, "permutations", listed(found.permutations))


@render.register
def _(proof: Proof, console: Console) -> None:
    line(console, "spec", proof.spec)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "permutation", "deviation", "left out: noticed", "largest"):
        table.add_column(column, justify="left" if column in {"model", "permutation"} else "right")
    for example in proof.examples:
        for p in example.permutations:
            noticed = sum(control.noticed for control in p.controls)
            largest = max((control.deviation for control in p.controls), default=0.0)
            table.add_row(
                cell(example.model),
                p.name,
                f"{p.deviation:.1e}",
                f"{noticed} of {len(p.controls)}",
                f"{largest:.1e}",
            )
        table.add_row(cell(example.model), "all together", f"{example.deviation:.1e}", "", "")
    console.print(table)
    for place in proof.unnoticed:
        notes(console, (f"no example notices when {place} is left out",))
    for missing in proof.unused:
        notes(console, (f"no example has {missing}",))
    if proof.holds:
        console.print("[green]proven: the function is unchanged up to rounding in float64[/green]")
    for failure in proof.failures:
        console.print("[red]failed[/red]       ", end="")
        console.print(failure, markup=False)
