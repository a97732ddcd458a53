"""Bring a checkpoint into a reference's numbering, or into its own canonical order."""

from __future__ import annotations

from pathlib import Path

from rebasin_hub.canonical import canonical_order
from rebasin_hub.digest import canonical_digest
from rebasin_hub.formats import check_output
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import Choice, Model, Progress, counting, open_like, open_model
from rebasin_hub.pipeline.write import (
    Found,
    Plan,
    Rebased,
    default_output,
    free_output,
    plan_rebase,
    write,
)

__all__ = ["NOT_EXACT", "canonical_digest_of", "canonicalize"]

NOT_EXACT = (
    "some units are tied in a way that the canonical order could not resolve: another renumbered "
    "copy of this model may come out in another order"
)


def canonicalize(
    path: Path,
    output: Path | None = None,
    *,
    reference: Path | None = None,
    choice: Choice | None = None,
    matching: Matching | None = None,
    permutations: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Plan | Rebased:
    """Write a checkpoint renumbered to a reference, or without one in canonical order.

    Args:
        path: the checkpoint.
        output: where to write; `NAME.canonical…` beside the input by default.
        reference: the checkpoint whose numbering is taken over.
        choice: the spec; found by itself by default.
        matching: how to align to the reference.
        permutations: where to write the permutation file as well.
        force: replace existing outputs.
        dry_run: only return the plan; no weight is read.
        progress: told of each stage.

    Raises:
        InputError: the checkpoint, the spec or the reference cannot be used.
        OutputError: an output exists or cannot be written.
        ProofError: a renumbered tensor did not lead back to the input; nothing was written.

    """
    output = output or default_output(path)
    with open_model(path, choice or Choice()) as model:
        steps = plan_rebase(model, reference, output)
        if reference is None:
            check_output(model.checkpoint, output, force=force)
            free_output(permutations, force=force, inputs=[path])
            found = None if dry_run else _order(model, progress)
        else:
            with open_like(reference, model) as target:
                check_output(model.checkpoint, output, others=[target.checkpoint], force=force)
                free_output(permutations, force=force, inputs=[path, reference])
                found = None if dry_run else _match(target, model, matching, progress)
        if found is None:
            return steps
        return write(model, steps, found, permutations=permutations, force=force, progress=progress)


def _order(model: Model, progress: Progress | None) -> Found:
    """Return the permutations that bring a model into canonical order."""
    read = counting(model.read, model.header, progress, "ordering")
    canonical = canonical_order(model.binding, read, skip=model.checkpoint.tied)
    return Found(
        canonical.element, "canonical order", notes=() if canonical.exact else (NOT_EXACT,)
    )


def canonical_digest_of(model: Model, progress: Progress | None) -> tuple[str, bool]:
    """Return a model's canonical digest, and whether every renumbered copy has the same one."""
    tied = model.checkpoint.tied
    read = counting(model.read, model.header, progress, "ordering")
    canonical = canonical_order(model.binding, read, skip=tied)
    digest = canonical_digest(model.binding, canonical.element, model.read, skip=tied)
    return digest, canonical.exact


def _match(
    target: Model, model: Model, matching: Matching | None, progress: Progress | None
) -> Found:
    result = (matching or Matching()).run(target, model, progress)
    return Found(result.element, result.method, result, target.digest())
