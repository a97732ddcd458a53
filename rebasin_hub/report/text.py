"""Results as text for people."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.align import Alignment
from rebasin_hub.align.many import Step
from rebasin_hub.errors import Problem
from rebasin_hub.pipeline.compare import Comparison, Difference, Relation
from rebasin_hub.pipeline.inspect import Digests, Inspection, PermutationInspection
from rebasin_hub.pipeline.matching import Aligned
from rebasin_hub.pipeline.merging import Merged, MergePlan
from rebasin_hub.pipeline.ordering import NOT_EXACT
from rebasin_hub.pipeline.specs import Detected, ListedSpec
from rebasin_hub.pipeline.write import Plan, Rebased
from rebasin_hub.prove import Proof
from rebasin_hub.report.barrier import render_plan, render_record, render_tasks
from rebasin_hub.tasks.find import TaskKind

__all__ = ["render", "tensor_table"]

METADATA_SHOWN = 200
"""Characters of one entry of the metadata that are shown."""
SHOWN_GROUPS = 8
"""Tensors of equal weights that are shown of a merge."""


@functools.singledispatch
def render(result: object, console: Console) -> None:  # noqa: ARG001 - of those registered
    """Print one result as text."""
    raise TypeError(f"nothing is known about showing a {type(result).__name__}")


render.register(render_record)
render.register(render_plan)


@render.register
def _(results: list, console: Console) -> None:  # type: ignore[type-arg]
    if results and isinstance(results[0], ListedSpec):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("spec", "permutations", "what it describes"):
            table.add_column(column, overflow="fold")
        for spec in results:
            table.add_row(spec.name, _cell(", ".join(spec.permutations)), _cell(spec.description))
        console.print(table)
        return
    if results and isinstance(results[0], TaskKind):
        render_tasks(results, console)
        return
    for result in results:
        render(result, console)


@render.register
def _(problem: Problem, console: Console) -> None:
    console.print(str(problem), markup=False)


@render.register
def _(steps: Plan, console: Console) -> None:
    _line(console, "model", f"{steps.model} ({steps.format}, {_size(steps.nbytes)})")
    if steps.reference is not None:
        _line(console, "reference", str(steps.reference))
    _spec_lines(console, steps.spec, steps.permutations, steps.log10_order)
    _line(console, "would write", f"{steps.output} ({steps.tensors} tensors)")


@render.register
def _(done: Rebased, console: Console) -> None:
    steps = done.plan
    _line(
        console, "model", f"{steps.model} ({steps.format}, {_count(steps.parameters)} parameters)"
    )
    if steps.reference is not None:
        _line(console, "reference", str(steps.reference))
    _spec_lines(console, steps.spec, steps.permutations, steps.log10_order)
    if done.alignment is not None:
        _alignment_lines(console, done.alignment)
    _moved_line(console, done)
    _line(console, "proven", f"{done.proven} of {steps.tensors} tensors are the input renumbered")
    _line(console, "digest", done.digest)
    if done.permutations is not None:
        _line(console, "permutations", str(done.permutations))
    _line(console, "wrote", f"{done.output} ({_size(done.nbytes)})")
    _notes(console, done.notes)


@render.register
def _(aligned: Aligned, console: Console) -> None:
    _line(console, "spec", aligned.spec)
    _alignment_lines(console, aligned.alignment)
    _moved_line(console, aligned)
    if aligned.output is not None:
        _line(console, "wrote", str(aligned.output))


def _moved_line(console: Console, result: Aligned | Rebased) -> None:
    units, moved = sum(result.units.values()), sum(result.moved.values())
    _line(console, "moved", f"{moved:,} of {units:,} units")


def _alignment_lines(console: Console, alignment: Alignment) -> None:
    gain = alignment.cosine - alignment.start_cosine
    _line(
        console,
        "alignment",
        f"cosine similarity {alignment.start_cosine:.4f} → {alignment.cosine:.4f}"
        + ("" if gain > 0 else " (nothing was gained)"),
    )
    _line(
        console,
        "search",
        f"{alignment.method}, {alignment.sweeps} sweeps, best of {len(alignment.restarts)} starts"
        + ("" if alignment.converged else "; it had not converged"),
    )


@render.register
def _(steps: MergePlan, console: Console) -> None:
    _merge_lines(console, steps)
    _line(console, "would read", _size(steps.read_bytes))
    types = ", ".join(f"{dtype} {count}" for dtype, count in steps.dtypes.items())
    written = f"{_size(steps.write_bytes)} in {steps.tensors} tensors: {types}"
    _line(console, "would write", f"{steps.output} ({written})")
    _line(console, "disk", f"{_size(steps.disk.needed)} of {_size(steps.disk.free)} that are free")
    if (guess := steps.estimate) is not None:
        parts = ", ".join(f"{part} {_size(nbytes)}" for part, nbytes in guess.memory.items())
        _line(console, "memory", f"about {_size(guess.peak)} at most ({parts})")
        parts = ", ".join(f"{part} {_duration(s)}" for part, s in guess.seconds.items())
        on_task = "" if steps.task is None else f", and measuring on the task '{steps.task}'"
        _line(console, "time", f"about {_duration(guess.total)} ({parts}){on_task}")
    _notes(console, steps.notes)


@render.register
def _(merged: Merged, console: Console) -> None:
    plan = merged.plan
    _merge_lines(console, plan)
    if merged.distances:
        rounds, ends = len(merged.distances) - 1, (merged.distances[0], merged.distances[-1])
        _line(
            console,
            "distance",
            f"{ends[0]:.4g} → {ends[1]:.4g} to the mean, after {rounds} rounds of {plan.strategy}",
        )
    else:
        for step in merged.steps:
            _line(console, "aligned", _step(step, plan.models))
            _alignment_lines(console, step.alignment)
    if (chosen := merged.selected) is not None:
        _line(
            console,
            "selected",
            f"λ = {chosen.value:.4g}: loss {chosen.loss:.4g} on the split '{chosen.split}', "
            f"{chosen.losses[0]:.4g} and {chosen.losses[-1]:.4g} at the ends",
        )
    _line(console, "wrote", f"{merged.output} ({_size(merged.nbytes)})")
    _notes(console, merged.notes)


def _merge_lines(console: Console, steps: MergePlan) -> None:
    for number, path in enumerate(steps.models):
        share = "" if steps.weights is None else f" × {steps.weights[number]:.4g}"
        _line(console, "model", f"{path}{share}")
    if steps.weights is None:
        for group in steps.groups[:SHOWN_GROUPS]:
            shares = ", ".join(f"{weight:.4g}" for weight in group.weights)
            _line(console, "weights", f"{shares} in {_some(group.tensors)}")
        if len(steps.groups) > SHOWN_GROUPS:
            _line(console, "", f"and {len(steps.groups) - SHOWN_GROUPS} more; --json has them all")
    how = "" if len(steps.models) == 2 else f", {steps.strategy}"  # noqa: PLR2004
    _line(console, "method", steps.method + (how if steps.align else ", not aligned"))
    _line(console, "spec", steps.spec)


def _step(step: Step, paths: Sequence[Path]) -> str:
    models, references = (
        ", ".join(str(paths[number]) for number in numbers)
        for numbers in (step.models, step.references)
    )
    return models if step.references == (0,) else f"{models} to {references}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{max(seconds, 0.01):.2f} s"
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004


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
    _line(console, "A", str(comparison.a))
    _line(console, "B", str(comparison.b))
    _line(console, "spec", comparison.spec)
    if comparison.canonical is None:
        _line(console, "digest", comparison.digests[0])
    else:
        _line(console, "canonical A", comparison.canonical[0])
        _line(console, "canonical B", comparison.canonical[1])
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
        _notes(console, (f"integers or booleans differ in {_some(nearest.other)}",))
    _notes(console, comparison.notes)


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
    console.print(_plain(f"{found.canonical}  {found.path}"), markup=False)
    if not found.exact:
        _notes(console, (NOT_EXACT,))


@render.register
def _(seen: Inspection, console: Console) -> None:
    _line(console, "file", f"{seen.path} ({seen.format}, {_size(seen.nbytes)})")
    _line(console, "tensors", f"{len(seen.tensors):,} with {_count(seen.parameters)} parameters")
    _line(console, "types", ", ".join(f"{k} {_count(n)}" for k, n in seen.dtypes.items()))
    for key, value in seen.metadata.items():
        cut = len(value) > METADATA_SHOWN
        shown = f"{value[:METADATA_SHOWN]}… (--json shows all of it)" if cut else value
        _line(console, "metadata", f"{key}: {' '.join(shown.split())}")
    if seen.tied:
        _line(console, "tied", ", ".join(f"{a} = {b}" for a, b in seen.tied.items()))
    if seen.spec is not None:
        _spec_lines(console, seen.spec, seen.permutations, seen.log10_order)
    _notes(console, seen.notes)
    if seen.problem is not None:
        console.print("[yellow]no spec fits[/yellow]: ", end="")
        console.print(_plain(seen.problem), markup=False)


@render.register
def _(seen: PermutationInspection, console: Console) -> None:
    _line(console, "file", f"{seen.path} (permutations)")
    _line(console, "spec", f"{seen.spec} ({seen.spec_digest[:12]})")
    _line(console, "from model", seen.source)
    _line(console, "to model", seen.result)
    _line(console, "method", seen.method)
    for key, value in seen.details.items():
        _line(console, key, value)
    for name, moved in seen.moved.items():
        _line(console, name, f"{moved:,} of {seen.units[name]:,} units moved")


@render.register
def _(found: Detected, console: Console) -> None:
    _line(console, "spec", found.spec)
    _line(console, "tensors", f"all {found.tensors} described, {len(found.ignored)} ignored")
    # Sizes of axes written `_` have made-up names.
    named = {key: size for key, size in found.sizes.items() if not key.startswith("_")}
    _line(console, "sizes", _listed(named))
    _line(console, "permutations", _listed(found.permutations))


@render.register
def _(proof: Proof, console: Console) -> None:
    _line(console, "spec", proof.spec)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "permutation", "deviation", "left out: noticed", "largest"):
        table.add_column(column, justify="left" if column in {"model", "permutation"} else "right")
    for example in proof.examples:
        for p in example.permutations:
            noticed = sum(control.noticed for control in p.controls)
            largest = max((control.deviation for control in p.controls), default=0.0)
            table.add_row(
                _cell(example.model),
                p.name,
                f"{p.deviation:.1e}",
                f"{noticed} of {len(p.controls)}",
                f"{largest:.1e}",
            )
        table.add_row(_cell(example.model), "all together", f"{example.deviation:.1e}", "", "")
    console.print(table)
    for place in proof.unnoticed:
        _notes(console, (f"no example notices when {place} is left out",))
    for line in proof.unused:
        _notes(console, (f"no example has {line}",))
    if proof.holds:
        console.print("[green]proven: the function is unchanged up to rounding in float64[/green]")
    for failure in proof.failures:
        console.print("[red]failed[/red]       ", end="")
        console.print(failure, markup=False)


def _spec_lines(
    console: Console, spec: str, permutations: Mapping[str, int], log10_order: float
) -> None:
    _line(console, "spec", spec)
    _line(
        console,
        "permutations",
        f"{_listed(permutations)}; 10^{log10_order:,.0f} equal renumberings",
    )


def _listed(sizes: Mapping[str, int]) -> str:
    """List sizes with the instances of one name together: `embed 384, ff 1536 ×6`."""
    grouped: dict[tuple[str, int], int] = {}
    for key, size in sizes.items():
        name = key.partition("[")[0]
        grouped[name, size] = grouped.get((name, size), 0) + 1
    return ", ".join(
        f"{name} {size}" + (f" ×{count}" if count > 1 else "")
        for (name, size), count in grouped.items()
    )


def tensor_table(seen: Inspection) -> Table:
    """Return a table of every tensor of a checkpoint."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tensor", "type", "shape"):
        table.add_column(column, overflow="fold")
    for name, info in seen.tensors.items():
        table.add_row(_cell(name), info.dtype, "×".join(map(str, info.shape)) or "scalar")
    return table


def _line(console: Console, key: str, value: str) -> None:
    console.print(f"[bold]{key:<13}[/bold]", end="")
    console.print(_plain(value), markup=False)


def _plain(text: str) -> str:
    """Escape control characters: names and metadata come from files, and terminals obey."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _cell(text: str) -> Text:
    """Return a table cell that shows its text as it is, without markup."""
    return Text(_plain(text))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004
    return ", ".join(names[:3]) + more


def _notes(console: Console, notes: Sequence[str]) -> None:
    for note in dict.fromkeys(notes):
        console.print("[yellow]note[/yellow]         ", end="")
        console.print(_plain(note), markup=False)


def _size(nbytes: int) -> str:
    value, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:  # noqa: PLR2004
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _count(number: int) -> str:
    return f"{number:,}"
