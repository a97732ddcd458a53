"""Bring a checkpoint into a reference's numbering, or into its own canonical order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rebasin_hub.bind import Binding
from rebasin_hub.formats import check_output
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.ordering import NOT_EXACT, ordered
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.pipeline.write import (
    Found,
    Plan,
    Rebased,
    default_output,
    free_output,
    plan_rebase,
    write,
)
from rebasin_hub.stream import A_FEW, Bound

__all__ = ["canonicalize"]


def canonicalize(
    path: Path,
    output: Path | None = None,
    *,
    reference: Path | None = None,
    reference_for: Callable[[Binding], Path | None] | None = None,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    permutations: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    bound: Bound = A_FEW,
    progress: Progress | None = None,
) -> Plan | Rebased:
    """Write a checkpoint renumbered to a reference, or without one in canonical order.

    Args:
        path: the checkpoint.
        output: where to write; `NAME.canonical…` beside the input by default.
        reference: the checkpoint whose numbering is taken over.
        reference_for: finds one for the architecture, where none is given.
        choice: the spec; found by itself by default.
        matching: how to align to the reference.
        permutations: where to write the permutation file as well.
        force: replace existing outputs.
        dry_run: only return the plan; no weight is read.
        bound: how many bytes of tensors are held at a time, also where a reference is aligned to,
            unless `matching` has a method that holds both models.
        progress: told of each stage.

    Raises:
        InputError: the checkpoint, the spec or the reference cannot be used.
        OutputError: an output exists or cannot be written.
        ProofError: a renumbered tensor did not lead back to the input; nothing was written.

    """
    matching.check()
    output = output or default_output(path)
    with open_model(path, choice) as model:
        if reference is None and reference_for is not None:
            reference = reference_for(model.binding)
        steps = plan_rebase(model, reference, output)
        if reference is None:
            check_output(model.checkpoint, output, force=force)
            free_output(permutations, force=force, inputs=[path], output=output)
            found = None if dry_run else _order(model, progress, bound)
        else:
            with open_like(reference, model) as target:
                check_output(model.checkpoint, output, others=[target.checkpoint], force=force)
                inputs = [path, reference]
                free_output(permutations, force=force, inputs=inputs, output=output)
                bounded = matching if bound.nbytes is None else replace(matching, bound=bound)
                found = None if dry_run else _match(target, model, bounded, progress)
        if found is None:
            return steps
        return write(
            model,
            steps,
            found,
            permutations=permutations,
            bound=bound,
            force=force,
            progress=progress,
        )


def _order(model: Model, progress: Progress | None, bound: Bound) -> Found:
    canonical = ordered(model, progress, model.checkpoint.tied, bound)
    return Found(
        canonical.element, "canonical order", notes=() if canonical.exact else (NOT_EXACT,)
    )


def _match(target: Model, model: Model, matching: Matching, progress: Progress | None) -> Found:
    result = matching.run(target, model, progress)
    return Found(result.element, result.method, result, target.digest())
