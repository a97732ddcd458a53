"""Align one checkpoint to another, and keep the permutations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebasin_hub.align import METHODS, Alignment, Report, align
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.pipeline.write import Found, free_output
from rebasin_hub.rearrange import rearranged

__all__ = ["WEIGHT_MATCHING", "Aligned", "Matching", "align_models"]


@dataclass(frozen=True)
class Matching:
    """How permutations are searched for."""

    method: str = "weight"
    device: str = "auto"
    seed: int = 0
    restarts: int | None = None

    def check(self) -> None:
        """Refuse an unknown method, before any file is opened.

        Raises:
            InputError: there is no such method.

        """
        if self.method not in METHODS:
            raise InputError(f"method '{self.method}' is none of {', '.join(METHODS)}; choose one")

    def run(self, reference: Model, model: Model, progress: Progress | None) -> Alignment:
        """Align a model to a reference of the same tensors.

        Raises:
            InputError: there is no such device.
            NotFiniteError: weights that count are NaN or infinite.

        """
        options: dict[str, Any] = {} if self.restarts is None else {"restarts": self.restarts}
        try:
            return align(
                model.binding,
                counting(reference.read, reference.header, progress, "reading the reference"),
                counting(model.read, model.header, progress, "reading the model"),
                method=self.method,
                device=self.device,
                seed=self.seed,
                progress=_sweeps(progress),
                **options,
            )
        except NotFiniteError as problem:
            raise NotFiniteError(
                f"{problem}\nWeights can only be matched where they are numbers; 'canonicalize' "
                "without --reference needs none, and moves such values as they are."
            ) from problem


WEIGHT_MATCHING = Matching()


def _sweeps(progress: Progress | None) -> Report | None:
    if progress is None:
        return None
    return lambda p: progress(f"matching, start {p.restart + 1}, sweep {p.sweep + 1}", 0, 0)


@dataclass(frozen=True)
class Aligned:
    """Permutations that were found, what they achieve, and where they were written.

    `units` counts the units of each permutation, `moved` those that change their place.
    """

    model: Path
    reference: Path
    output: Path | None
    spec: str
    alignment: Alignment
    units: Mapping[str, int]
    moved: Mapping[str, int]


def align_models(
    path: Path,
    reference: Path,
    output: Path | None = None,
    *,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    force: bool = False,
    progress: Progress | None = None,
) -> Aligned:
    """Find the permutations that bring a model to a reference, and write them to a file.

    Raises:
        InputError: a checkpoint or the spec cannot be used.
        OutputError: the permutation file exists or cannot be written.

    """
    matching.check()
    free_output(output, force=force, inputs=[path, reference])
    with open_model(path, choice) as model, open_like(reference, model) as target:
        result = matching.run(target, model, progress)
        if output is not None:
            read = counting(model.read, model.header, progress, "digesting")
            found = Found(result.element, result.method, result, target.digest())
            source = model.digest(read)
            renumbered = model.digest(rearranged(model.binding, result.element, model.read))
            found.file(model, source, renumbered).save(output, force=force)
        return Aligned(
            model=path,
            reference=reference,
            output=output,
            spec=model.binding.spec.name,
            alignment=result,
            units=model.binding.group.units,
            moved=model.binding.group.moved(result.element),
        )
