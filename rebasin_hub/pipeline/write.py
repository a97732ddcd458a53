"""Write a renumbered checkpoint, and say what will be written before."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.align import Alignment
from rebasin_hub.digest import digest_of
from rebasin_hub.errors import OutputError
from rebasin_hub.formats import save_like
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.models import Model
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.pipeline.proof import Prover
from rebasin_hub.stream import A_FEW, Bound

__all__ = ["Found", "Plan", "Rebased", "default_output", "free_output", "plan_rebase", "write"]


@dataclass(frozen=True)
class Plan:
    """What renumbering a checkpoint will do, known from its header alone.

    `permutations` maps each permutation to the number of indices that it renumbers (a dependent
    one for each index of its parent); 10 to the `log10_order` is the number of renumberings that
    keep the function.
    """

    model: Path
    reference: Path | None
    output: Path
    format: str
    spec: str
    tensors: int
    parameters: int
    nbytes: int
    permutations: Mapping[str, int]
    log10_order: float


@dataclass(frozen=True)
class Rebased:
    """A checkpoint that was renumbered and written, every tensor of it proven.

    `units` counts the units of each permutation (a dependent one's over all its parents), `moved`
    those that changed their place; `proven` the tensors
    that the inverse led back to the input's bits and that read back from disk as written. The
    digests are plain ones of input and output; for a canonical order the output's is the model's
    canonical digest.
    """

    plan: Plan
    output: Path
    nbytes: int
    permutations: Path | None
    units: Mapping[str, int]
    moved: Mapping[str, int]
    proven: int
    source_digest: str
    digest: str
    alignment: Alignment | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """Permutations and how they were found."""

    element: Element
    method: str
    alignment: Alignment | None = None
    reference_digest: str | None = None
    notes: tuple[str, ...] = field(default=())

    def file(self, model: Model, source: str, result: str) -> PermutationFile:
        """Return the permutation file of them.

        Args:
            model: the model that they renumber.
            source: its plain digest.
            result: the plain digest of the renumbered model.

        """
        details: dict[str, str] = {}
        if self.alignment is not None:
            details = {
                "seed": str(self.alignment.seed),
                "objective": repr(self.alignment.objective),
                "start_objective": repr(self.alignment.start_objective),
                "sweeps": str(self.alignment.sweeps),
                "restarts": str(len(self.alignment.restarts)),
                "converged": "yes" if self.alignment.converged else "no",
            }
        if self.reference_digest is not None:
            details["reference"] = self.reference_digest
        return PermutationFile(
            element=self.element,
            group=model.binding.group,
            spec=model.binding.spec.name,
            spec_digest=model.spec_digest,
            source=source,
            result=result,
            method=self.method,
            details=details,
        )


def default_output(model: Path, tag: str = "canonical") -> Path:
    """Return the path beside a checkpoint: `NAME.canonical.safetensors`, `NAME.canonical/`."""
    whole = model if model.name not in {"", ".", ".."} else model.resolve()
    if model.is_dir():
        return whole.with_name(f"{whole.name}.{tag}")
    return whole.with_name(f"{whole.stem}.{tag}{whole.suffix}")


def free_output(
    path: Path | None, *, force: bool, inputs: Sequence[Path], output: Path | None = None
) -> None:
    """Refuse a permutation file that cannot be written, before any long work starts.

    Raises:
        OutputError: it exists, and `force` is not set; it is a directory, one of the inputs, or the
            other output; or it cannot be written there.

    """
    if path is None:
        return
    if output is not None and path.resolve() == output.resolve():
        raise OutputError(f"{path}: is the other output; name another permutation file")
    if path.exists() and any(path.samefile(one) for one in inputs if one.exists()):
        raise OutputError(f"{path}: is an input, which is never changed; choose another name")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; choose another name or give --force")
    parent = path.resolve().parent
    if not parent.is_dir():
        raise OutputError(f"{path}: the directory {parent} does not exist; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {parent}; choose another place")


def plan_rebase(model: Model, reference: Path | None, output: Path) -> Plan:
    """Return what renumbering an open checkpoint will do."""
    return Plan(
        model=model.checkpoint.path,
        reference=reference,
        output=output,
        format=model.checkpoint.format,
        spec=model.binding.spec.name,
        tensors=len(model.header),
        parameters=model.parameters,
        nbytes=model.nbytes,
        permutations={n: f.size for n, f in model.binding.group.factors.items()},
        log10_order=model.binding.group.log10_order,
    )


def write(
    model: Model,
    steps: Plan,
    found: Found,
    *,
    permutations: Path | None = None,
    promised: Callable[[str, str], None] | None = None,
    bound: Bound = A_FEW,
    force: bool = False,
    progress: Progress | None = None,
) -> Rebased:
    """Write a model renumbered, and its permutation file where one is wanted.

    Args:
        model: the open model.
        steps: where to write.
        found: the permutations.
        permutations: where to write them as well.
        promised: told the plain digests of the model and of the result before that takes its name;
            raises if they are not what was promised.
        bound: how many bytes of tensors are held at a time.
        force: replace existing outputs.
        progress: told how far it has come.

    Raises:
        OutputError: an output exists or cannot be written.
        ProofError: a tensor did not lead back to the input; nothing was written.

    """
    prover, tied = Prover(model, found.element), model.checkpoint.tied

    def approve(written: Mapping[str, str]) -> None:
        if promised is not None:
            digests = (digest_of(model.header, own, tied) for own in (prover.sources, written))
            promised(*digests)

    saved = save_like(
        model.checkpoint,
        steps.output,
        prover,
        approve=approve,
        cost=prover.cost,
        bound=bound,
        force=force,
        progress=stage(progress, "writing"),
    )
    source = digest_of(model.header, prover.sources, tied)
    result = digest_of(model.header, saved.tensors, tied)
    if permutations is not None:
        found.file(model, source, result).save(permutations, force=force)
    return Rebased(
        plan=steps,
        output=steps.output,
        nbytes=saved.nbytes,
        permutations=permutations,
        units=model.binding.group.units,
        moved=model.binding.group.moved(found.element),
        proven=len(prover.sources),
        source_digest=source,
        digest=result,
        alignment=found.alignment,
        notes=(*model.checkpoint.notes, *saved.notes, *found.notes),
    )
