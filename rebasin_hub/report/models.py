"""Answers about checkpoints and permutation files as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from rebasin_hub.align import Alignment
from rebasin_hub.pipeline.compare import Comparison, Difference, Relation
from rebasin_hub.pipeline.inspect import (
    Digests,
    Inspection,
    PermutationInspection,
    PlainDigest,
)
from rebasin_hub.pipeline.matching import Aligned
from rebasin_hub.pipeline.ordering import NOT_EXACT
from rebasin_hub.pipeline.write import Plan, Rebased
from rebasin_hub.report.figures import plain
from rebasin_hub.report.lines import cell, count, line, listed, notes, size, some
from rebasin_hub.report.render import render

__all__ = ["alignment_lines", "tensor_table"]

METADATA_SHOWN = 200
"""Characters of one entry of the metadata that are shown."""


@render.register
def _(steps: Plan, console: Console) -> None:
    line(console, "model", f"{steps.model} ({steps.format}, {size(steps.nbytes)})")
    if steps.reference is not None:
        line(console, "reference", str(steps.reference))
    _spec_lines(console, steps.spec, steps.permutations, steps.log10_order)
    line(console, "would write", f"{steps.output} ({steps.tensors} tensors)")


@render.register
def _(done: Rebased, console: Console) -> None:
    steps = done.plan
    line(console, "model", f"{steps.model} ({steps.format}, {count(steps.parameters)} parameters)")
    if steps.reference is not None:
        line(console, "reference", str(steps.reference))
    _spec_lines(console, steps.spec, steps.permutations, steps.log10_order)
    if done.alignment is not None:
        alignment_lines(console, done.alignment)
    _moved_line(console, done)
    line(console, "proven", f"{done.proven} of {steps.tensors} tensors are the input renumbered")
    line(console, "digest", done.digest)
    if done.permutations is not None:
        line(console, "permutations", str(done.permutations))
    line(console, "wrote", f"{done.output} ({size(done.nbytes)})")
    notes(console, done.notes)


@render.register
def _(aligned: Aligned, console: Console) -> None:
    line(console, "spec", aligned.spec)
    alignment_lines(console, aligned.alignment)
    _moved_line(console, aligned)
    if aligned.output is not None:
        line(console, "wrote", str(aligned.output))
    notes(console, aligned.notes)


def _moved_line(console: Console, result: Aligned | Rebased) -> None:
    units, moved = sum(result.units.values()), sum(result.moved.values())
    line(console, "moved", f"{moved:,} of {units:,} units")


def alignment_lines(console: Console, alignment: Alignment) -> None:
    """Print what an alignment achieved, and how it was searched for."""
    gain = alignment.cosine - alignment.start_cosine
    line(
        console,
        "alignment",
        f"cosine similarity {alignment.start_cosine:.4f} → {alignment.cosine:.4f}"
        + ("" if gain > 0 else " (nothing was gained)"),
    )
    if alignment.goal is not None:
        goal = alignment.goal
        line(
            console,
            goal.name,
            f"{goal.identity:.4g} as numbered, {goal.start:.4g} at the start → {goal.end:.4g}"
            + ("" if goal.end != goal.start else " (nothing was gained)"),
        )
    step = ("sweep" if alignment.goal is None else "step") + "s" * (alignment.sweeps != 1)
    starts = len(alignment.restarts)
    line(
        console,
        "search",
        f"{alignment.method}, {alignment.sweeps:,} {step}"
        + (f", best of {starts} starts" if starts > 1 else "")
        + ("" if alignment.converged else "; it had not converged"),
    )
    notes(console, alignment.notes)


_VERDICTS = {
    Relation.IDENTICAL: "the same model, stored in the same numbering",
    Relation.RENUMBERED: "the same model, renumbered: both compute the same function",
    Relation.ROUNDED: "the same model up to renumbering and rounding",
    Relation.RELATED: "relatives: after alignment they are near, as a fine-tuned copy is",
    Relation.UNRELATED: "different models: they stay far apart after alignment",
    Relation.UNKNOWN: "different bits; how far apart cannot be told, since they cannot be aligned",
}


@render.register
def _(comparison: Comparison, console: Console) -> None:
    line(console, "A", str(comparison.a))
    line(console, "B", str(comparison.b))
    line(console, "spec", comparison.spec)
    if comparison.canonical is None:
        line(console, "digest", comparison.digests[0])
    else:
        line(console, "canonical A", comparison.canonical[0])
        line(console, "canonical B", comparison.canonical[1])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "‖A−B‖/‖A‖", "cosine", "largest", "equal"):
        table.add_column(column, justify="left" if not column else "right")
    _difference_row(table, "as stored", comparison.as_stored)
    if comparison.aligned is not None:
        _difference_row(table, "aligned", comparison.aligned)
    console.print(table)
    color = "green" if comparison.same else "yellow"
    console.print(f"[{color}]{_VERDICTS[comparison.relation]}[/{color}]")
    nearest = comparison.aligned or comparison.as_stored
    if nearest.other:
        notes(console, (f"integers or booleans differ in {some(nearest.other)}",))
    notes(console, comparison.notes)


def _difference_row(table: Table, name: str, difference: Difference) -> None:
    table.add_row(
        name,
        f"{difference.relative:.4g}",
        f"{difference.cosine:.4f}",
        f"{difference.largest:.3g}",
        f"{100 * difference.equal:.1f} %",
    )


@render.register
def _(found: Digests, console: Console) -> None:
    console.print(plain(f"{found.canonical}  {found.path}"), markup=False)
    notes(console, (*found.notes, *(() if found.exact else (NOT_EXACT,))))


@render.register
def _(found: PlainDigest, console: Console) -> None:
    console.print(plain(f"{found.digest}  {found.path}"), markup=False)
    notes(console, found.notes)


@render.register
def _(seen: Inspection, console: Console) -> None:
    line(console, "file", f"{seen.path} ({seen.format}, {size(seen.nbytes)})")
    line(console, "tensors", f"{len(seen.tensors):,} with {count(seen.parameters)} parameters")
    line(console, "types", ", ".join(f"{k} {count(n)}" for k, n in seen.dtypes.items()))
    for key, value in seen.metadata.items():
        cut = len(value) > METADATA_SHOWN
        shown = f"{value[:METADATA_SHOWN]}… (--json shows all of it)" if cut else value
        line(console, "metadata", f"{key}: {' '.join(shown.split())}")
    if seen.tied:
        line(console, "tied", ", ".join(f"{a} = {b}" for a, b in seen.tied.items()))
    if seen.spec is not None:
        _spec_lines(console, seen.spec, seen.permutations, seen.log10_order)
    notes(console, seen.notes)
    if seen.problem is not None:
        console.print("[yellow]no spec fits[/yellow]: ", end="")
        console.print(plain(seen.problem), markup=False)


@render.register
def _(seen: PermutationInspection, console: Console) -> None:
    line(console, "file", f"{seen.path} (permutations)")
    line(console, "spec", f"{seen.spec} ({seen.spec_digest[:12]})")
    line(console, "from model", seen.source)
    line(console, "to model", seen.result)
    line(console, "method", seen.method)
    for key, value in seen.details.items():
        line(console, key, value)
    for name, moved in seen.moved.items():
        line(console, name, f"{moved:,} of {seen.units[name]:,} units moved")


def _spec_lines(
    console: Console, spec: str, permutations: Mapping[str, int], log10_order: float
) -> None:
    line(console, "spec", spec)
    line(
        console,
        "permutations",
        f"{listed(permutations)}; 10^{log10_order:,.0f} equal renumberings",
    )


def tensor_table(seen: Inspection) -> Table:
    """Return a table of every tensor of a checkpoint."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tensor", "type", "shape"):
        table.add_column(column, overflow="fold")
    for name, info in seen.tensors.items():
        table.add_row(cell(name), info.dtype, "×".join(map(str, info.shape)) or "scalar")
    return table
