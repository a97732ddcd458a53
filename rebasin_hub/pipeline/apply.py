"""Renumber checkpoints by permutation files, and combine such files."""

from __future__ import annotations

from pathlib import Path

from rebasin_hub.errors import OutputError, PermutationError, ProofError
from rebasin_hub.formats import check_output
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_model
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.pipeline.write import Found, Plan, Rebased, free_output, plan_rebase, write
from rebasin_hub.stream import A_FEW, Bound

__all__ = ["apply_file", "check_source", "check_spec", "compose_files"]


def apply_file(
    file: Path,
    path: Path,
    output: Path,
    *,
    invert: bool = False,
    other_model: bool = False,
    choice: Choice = AUTOMATIC,
    force: bool = False,
    dry_run: bool = False,
    bound: Bound = A_FEW,
    progress: Progress | None = None,
) -> Plan | Rebased:
    """Renumber a checkpoint by a permutation file.

    Args:
        file: the permutation file.
        path: the checkpoint that the file was made for, or, with `other_model`, any checkpoint of
            the same architecture and sizes (an earlier one of the same training run, say).
        output: where to write.
        invert: go from the result back to the source.
        other_model: do not ask that the checkpoint is the one that the file was made for.
        choice: the spec, where it is no shipped one.
        force: replace an existing output.
        dry_run: only return the plan.
        bound: how many bytes of tensors are held at a time.
        progress: told of each stage.

    Raises:
        PermutationError: the file does not fit the checkpoint.
        InputError: the file, the checkpoint or the spec cannot be used.
        OutputError: the output exists or cannot be written.
        ProofError: a renumbered tensor did not lead back to the input; nothing was written.

    """
    permutations = PermutationFile.load(file)
    if output.exists() and output.samefile(file):
        raise OutputError(f"{output}: is an input, which is never changed; choose another name")
    if invert:
        permutations = permutations.inverted()
    with open_model(path, choice) as model:
        check_output(model.checkpoint, output, force=force)
        check_spec(permutations, model, file)
        steps = plan_rebase(model, None, output)
        if dry_run:
            return steps

        def promised(source: str, result: str) -> None:
            check_source(permutations, source, file, path)
            _check_result(permutations, result)

        return write(
            model,
            steps,
            Found(permutations.element, permutations.method),
            promised=None if other_model else promised,
            bound=bound,
            force=force,
            progress=progress,
        )


def compose_files(
    first: Path, second: Path, output: Path, *, force: bool = False
) -> PermutationFile:
    """Write the permutation file that does what `first` and then `second` do.

    Raises:
        PermutationError: they do not follow one another.
        OutputError: the output exists or cannot be written.

    """
    free_output(output, force=force, inputs=[first, second])
    composed = PermutationFile.load(second).after(PermutationFile.load(first))
    composed.save(output, force=force)
    return composed


def check_spec(permutations: PermutationFile, model: Model, file: Path) -> None:
    """Refuse permutations of another spec, or of other sizes, than a model's.

    Raises:
        PermutationError: with the difference.

    """
    if permutations.spec_digest != model.spec_digest:
        raise PermutationError(
            f"{file} was made with spec '{permutations.spec}' "
            f"({permutations.spec_digest[:12]}), {model.checkpoint.path} is read with "
            f"'{model.binding.spec.name}' ({model.spec_digest[:12]}); give the same --spec, or "
            "align again"
        )
    permutations.check_group(model.binding.group, str(model.checkpoint.path))


def check_source(permutations: PermutationFile, digest: str, file: Path, path: Path) -> None:
    """Refuse permutations that were not made for a model.

    Args:
        permutations: what `file` holds.
        digest: the model's plain digest.
        file: named in the message.
        path: the model's, named in the message.

    Raises:
        PermutationError: they were made for another model, or lead to this one.

    """
    if permutations.source == digest:
        return
    if permutations.result == digest:
        raise PermutationError(
            f"{path} is what {file} leads to, not what it starts from; the other direction is "
            "given by --invert"
        )
    raise PermutationError(
        f"{file} was made for model {permutations.source[:12]}, {path} is model {digest[:12]}; "
        "give --other-model if it is meant for this one too"
    )


def _check_result(permutations: PermutationFile, digest: str) -> None:
    """Refuse a result that is not what the permutation file promises."""
    if digest != permutations.result:
        raise ProofError(
            f"the permutations lead to model {digest[:12]}, their file promises "
            f"{permutations.result[:12]}; the file was changed, and nothing was written"
        )
