"""Align one checkpoint to another, and keep the permutations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rebasin_hub.align import (
    METHODS,
    RESTARTS,
    Alignment,
    Evidence,
    Watch,
    align,
    check_streams,
    parse_method,
)
from rebasin_hub.align.result import Progress as Step
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError, NotFiniteError, RebasinError, StoppedError
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.apply import check_spec
from rebasin_hub.pipeline.memory import to_stream
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.pipeline.write import Found, default_output, free_output
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tasks import Network, Options, Task

__all__ = ["WEIGHT_MATCHING", "Aligned", "Matching", "Seen", "align_models"]

Seen: TypeAlias = tuple[Task, Network]
"""A task with the network that runs the models, where a caller has built them already."""


@dataclass(frozen=True)
class Matching:
    """How permutations are searched for.

    method: as `align` takes it.
    restarts: None for as many as the method has by default.
    start: a permutation file to start from.
    seconds: the time limit of each search.
    task: what methods that look at the network are given, with its `options`.
    bound: how many bytes of two models are held at a time, by methods that can read them again; by
        default all, if that is at most half of the memory that is free, else as many as that.
    """

    method: str = "weight"
    device: str = "auto"
    seed: int = 0
    restarts: int | None = None
    start: Path | None = None
    seconds: float | None = None
    task: str | None = None
    options: Options = field(default_factory=Options)
    bound: Bound = A_FEW

    def check(self) -> None:
        """Refuse an unknown method or setting, before any file is opened.

        Raises:
            InputError: there is no such method, or it has no such setting.

        """
        parse_method(self.method)

    def run(
        self,
        reference: Model,
        model: Model,
        progress: Progress | None,
        *,
        seen: Seen | None = None,
        watch: Watch | None = None,
    ) -> Alignment:
        """Align a model to a reference of the same tensors.

        Args:
            reference: the reference.
            model: the model.
            progress: told of reading and of the search.
            seen: the task and the network to look at; by default those of `task`.
            watch: to know the best so far of a search that fails.

        Raises:
            InputError: there is no such device, or no data where the method needs some.
            NotFiniteError: weights that count are NaN or infinite.
            PermutationError: the permutation file to start from does not fit.

        """
        evidence = self.evidence(model, seen)
        try:
            return self.search(
                model.binding,
                counting(reference.read, reference.header, progress, "reading the reference"),
                counting(model.read, model.header, progress, "reading the model"),
                evidence=evidence,
                start=self._start(model),
                watch=watch or self.watch(progress),
            )
        except NotFiniteError as problem:
            if evidence is not None:  # then a loss may have become so
                raise
            raise NotFiniteError(
                f"{problem}\nWeights can only be matched where they are numbers; 'canonicalize' "
                "without --reference needs none, and moves such values as they are."
            ) from problem

    def search(
        self,
        binding: Binding,
        read_reference: Read,
        read_model: Read,
        *,
        evidence: Evidence | None,
        watch: Watch,
        start: Element | None = None,
        restarts: int | None = None,
    ) -> Alignment:
        """Align what two readers read; see `align`."""
        return align(
            binding,
            read_reference,
            read_model,
            method=self.method,
            device=self.device,
            seed=self.seed,
            start=start,
            evidence=evidence,
            watch=watch,
            restarts=restarts or self.restarts or RESTARTS,
            memory=self.memory(binding),
        )

    def memory(self, binding: Binding) -> int | None:
        """Return how many bytes of two models are held at a time; None for all of them."""
        if not METHODS[parse_method(self.method)[0]].streams:
            return None
        return to_stream(binding) if self.bound.nbytes is None else self.bound.nbytes

    def watch(self, progress: Progress | None, what: str = "") -> Watch:
        """Return what follows a search: its time limit starts now."""
        if progress is None:
            return Watch(self.seconds)
        said = f"{what}, " if what else f"{self.method.partition(':')[0]}, "

        def report(step: Step) -> None:
            done = step.sweep + 1
            if step.of:
                progress(f"{said}{step.unit} {done:,}: {step.objective:.4g}", done, step.of)
            else:
                progress(f"{said}start {step.restart + 1}, {step.unit} {done:,}", 0, 0)

        return Watch(self.seconds, report)

    def evidence(self, model: Model, seen: Seen | None = None) -> Evidence | None:
        """Return what the method may look at; None for a method that needs nothing.

        Raises:
            InputError: no task is named, or its network cannot be looked into.

        """
        needs = METHODS[parse_method(self.method)[0]].needs
        if needs == "weights" or (needs == "either" and seen is None and self.task is None):
            return None
        from rebasin_hub.evidence import evidence_of

        if seen is None:
            if self.task is None:
                raise InputError(
                    f"method '{self.method}' looks at what the network computes, and needs a task "
                    "with its data: `rebasin-hub align … --task mnist --data DIR`"
                )
            from rebasin_hub.tasks.find import find_task

            task = find_task(self.task, self.options)
            seen = task, task.network(model.subject, self.device)
        task, network = seen
        return evidence_of(network, task, model.binding, seed=self.seed)

    def _start(self, model: Model) -> Element | None:
        if self.start is None:
            return None
        stored = PermutationFile.load(self.start)
        check_spec(stored, model, self.start)
        return stored.element


WEIGHT_MATCHING = Matching()


@dataclass(frozen=True, eq=False)
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
    notes: tuple[str, ...] = ()


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

    A search that fails or is interrupted leaves the best that it had found as NAME.best.safetensors
    beside the output.

    Raises:
        InputError: a checkpoint or the spec cannot be used.
        StoppedError: by the user, with permutations to be kept.
        OutputError: the permutation file exists or cannot be written.

    """
    matching.check()
    if matching.bound.nbytes is not None:
        check_streams(matching.method)
    inputs = [path, reference, *([matching.start] if matching.start else [])]
    free_output(output, force=force, inputs=inputs)
    with open_model(path, choice) as model, open_like(reference, model) as target:
        watch = matching.watch(progress)
        with _best_kept(watch, model, target, output, matching.method):
            result = matching.run(target, model, progress, watch=watch)
        if output is not None:
            read = counting(model.read, model.header, progress, "digesting")
            digest = target.digest(bound=matching.bound)
            found = Found(result.element, result.method, result, digest)
            _file(found, model, read, matching.bound).save(output, force=force)
        return Aligned(
            model=path,
            reference=reference,
            output=output,
            spec=model.binding.spec.name,
            alignment=result,
            units=model.binding.group.units,
            moved=model.binding.group.moved(result.element),
            notes=model.inferred,
        )


def _file(found: Found, model: Model, read: Read, bound: Bound = A_FEW) -> PermutationFile:
    renumbered = rearranged(model.binding, found.element, model.read)
    digests = (model.digest(reader, bound=bound) for reader in (read, renumbered))
    return found.file(model, *digests)


@contextmanager
def _best_kept(
    watch: Watch, model: Model, target: Model, output: Path | None, method: str
) -> Iterator[None]:
    """Write the best permutations so far where a search does not come to its end."""
    try:
        yield
    except (RebasinError, KeyboardInterrupt) as stop:
        if watch.best is None or output is None:
            raise
        kept = default_output(output, "best")
        found = Found(watch.best, f"{method}, stopped", reference_digest=target.digest())
        _file(found, model, model.read).save(kept, force=True)
        said = f"the best permutations that had been found are in {kept}"
        if isinstance(stop, KeyboardInterrupt):
            raise StoppedError(f"interrupted; {said}") from None
        stop.args = (f"{stop}\n{said[0].upper()}{said[1:]}.",)
        raise
