"""Merges as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rebasin_hub.align.many import Step
from rebasin_hub.pipeline.merging import Merged, MergePlan
from rebasin_hub.report.figures import duration
from rebasin_hub.report.lines import line, notes, size, some
from rebasin_hub.report.models import alignment_lines
from rebasin_hub.report.render import render

__all__: list[str] = []

SHOWN_GROUPS = 8
"""Tensors of equal weights that are shown of a merge."""


@render.register
def _(steps: MergePlan, console: Console) -> None:
    _merge_lines(console, steps)
    line(console, "would read", size(steps.read_bytes))
    types = ", ".join(f"{dtype} {count}" for dtype, count in steps.dtypes.items())
    written = f"{size(steps.write_bytes)} in {steps.tensors} tensors: {types}"
    line(console, "would write", f"{steps.output} ({written})")
    line(console, "disk", f"{size(steps.disk.needed)} of {size(steps.disk.free)} that are free")
    if (guess := steps.estimate) is not None:
        parts = ", ".join(f"{part} {size(nbytes)}" for part, nbytes in guess.memory.items())
        line(console, "memory", f"about {size(guess.peak)} at most ({parts})")
        parts = ", ".join(f"{part} {duration(s)}" for part, s in guess.seconds.items())
        on_task = "" if steps.task is None else f", and measuring on the task '{steps.task}'"
        line(console, "time", f"about {duration(guess.total)} ({parts}){on_task}")
    notes(console, steps.notes)


@render.register
def _(merged: Merged, console: Console) -> None:
    plan = merged.plan
    _merge_lines(console, plan)
    if merged.distances:
        rounds, ends = len(merged.distances) - 1, (merged.distances[0], merged.distances[-1])
        line(
            console,
            "distance",
            f"{ends[0]:.4g} → {ends[1]:.4g} to the mean, after {rounds} rounds of {plan.strategy}",
        )
    else:
        for step in merged.steps:
            line(console, "aligned", _step(step, plan.models))
            alignment_lines(console, step.alignment)
    if (chosen := merged.selected) is not None:
        line(
            console,
            "selected",
            f"λ = {chosen.value:.4g}: loss {chosen.loss:.4g} on the split '{chosen.split}', "
            f"{chosen.losses[0]:.4g} and {chosen.losses[-1]:.4g} at the ends",
        )
    if (found := merged.layered) is not None:
        shares = sorted(found.shares.items(), key=lambda item: item[1])
        line(
            console,
            "selected",
            f"λ of {len(shares)} layers from {_share(shares[0])} to {_share(shares[-1])}, "
            f"{found.mean:.4g} on average: {found.loss_name} {found.start:.4g} → {found.loss:.4g} "
            f"on {found.samples:,} samples",
        )
    line(console, "wrote", f"{merged.output} ({size(merged.nbytes)})")
    notes(console, merged.notes)


def _share(layer: tuple[str, float]) -> str:
    name, value = layer
    return f"{value:.4g} ({name})"


def _merge_lines(console: Console, steps: MergePlan) -> None:
    for number, path in enumerate(steps.models):
        share = "" if steps.weights is None else f" × {steps.weights[number]:.4g}"
        line(console, "model", f"{path}{share}")
    if steps.weights is None:
        for group in steps.groups[:SHOWN_GROUPS]:
            shares = ", ".join(f"{weight:.4g}" for weight in group.weights)
            line(console, "weights", f"{shares} in {some(group.tensors)}")
        if len(steps.groups) > SHOWN_GROUPS:
            line(console, "", f"and {len(steps.groups) - SHOWN_GROUPS} more; --json has them all")
    how = "" if len(steps.models) == 2 else f", {steps.strategy}"  # noqa: PLR2004
    line(console, "method", steps.method + (how if steps.align else ", not aligned"))
    line(console, "spec", steps.spec)


def _step(step: Step, paths: Sequence[Path]) -> str:
    models, references = (
        ", ".join(str(paths[number]) for number in numbers)
        for numbers in (step.models, step.references)
    )
    return models if step.references == (0,) else f"{models} to {references}"
