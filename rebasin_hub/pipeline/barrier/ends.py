"""The models of a line or a plane: opened, digested, aligned to the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.align import Alignment, align
from rebasin_hub.align.matches import match_cosines
from rebasin_hub.hub.reference import name_of
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.apply import check_source, check_spec
from rebasin_hub.pipeline.barrier.points import Points
from rebasin_hub.pipeline.barrier.request import Request
from rebasin_hub.pipeline.matching import Seen
from rebasin_hub.pipeline.models import Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.pipeline.write import Found
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.record.model import AlignmentRecord, Letter, MatchRecord, ModelRecord

__all__ = ["LETTERS", "Aligned", "Ends", "open_ends"]

LETTERS: tuple[Letter, ...] = ("A", "B", "C")


@dataclass(frozen=True, eq=False)
class Aligned:
    """A model other than the first, with the renumbering that brings it to the first."""

    model: Model
    element: Element
    record: AlignmentRecord
    file: PermutationFile

    @property
    def read(self) -> Read:
        """Read the model renumbered."""
        return rearranged(self.model.binding, self.element, self.model.read)


@dataclass(frozen=True, eq=False)
class Ends:
    """Open models of one architecture, the first of which is the reference."""

    models: tuple[Model, ...]
    digests: tuple[str, ...]

    @property
    def first(self) -> Model:
        """The reference."""
        return self.models[0]

    @property
    def records(self) -> dict[Letter, ModelRecord]:
        """The models as a record names them."""
        return {
            letter: ModelRecord(name=name_of(model.checkpoint.path), digest=digest)
            for letter, model, digest in zip(LETTERS, self.models, self.digests, strict=False)
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the checkpoints."""
        told = [
            note for model in self.models for note in (*model.checkpoint.notes, *model.borrowed)
        ]
        return tuple(dict.fromkeys(told))

    def align(
        self, request: Request, points: Points, progress: Progress | None, seen: Seen
    ) -> list[Aligned]:
        """Return every model but the first with its renumbering; none where none is wanted.

        Renumberings that `points` has are taken from there, and new ones are kept there.

        Raises:
            PermutationError: the permutation file that was given does not fit.
            NotFiniteError: weights that count are NaN or infinite.

        """
        if not request.align:
            return []
        found = []
        for letter, model, digest in zip(
            LETTERS[1:], self.models[1:], self.digests[1:], strict=False
        ):
            kept = points.permutations(letter)
            known = kept if kept is not None and kept.exists() else None
            file = request.permutations or known
            aligned = self._align(model, digest, file, request, progress=progress, seen=seen)
            if kept is not None and known is None:
                aligned.file.save(kept)
            found.append(aligned)
        return found

    def _align(
        self,
        model: Model,
        digest: str,
        file: Path | None,
        request: Request,
        *,
        progress: Progress | None,
        seen: Seen,
    ) -> Aligned:
        if file is not None:
            stored = PermutationFile.load(file)
            check_spec(stored, model, file)
            check_source(stored, digest, file, model.checkpoint.path)
            found = align(model.binding, self.first.read, model.read, method=stored.element)
        else:
            found = request.matching.run(self.first, model, progress, seen=seen)
            renumbered = model.digest(rearranged(model.binding, found.element, model.read))
            kept = Found(found.element, found.method, found, self.digests[0])
            stored = kept.file(model, digest, renumbered)
        return Aligned(model, stored.element, _record(model, found, stored), stored)

    def matches(self, aligned: Aligned) -> list[MatchRecord]:
        """Return how well the units of each permutation matched, before and after aligning."""
        read = self.first.read
        before = match_cosines(aligned.model.binding, read, aligned.model.read)
        after = match_cosines(aligned.model.binding, read, aligned.read)
        return [
            MatchRecord(
                permutation=name,
                naive=[float(x) for x in before[name].flat],
                aligned=[float(x) for x in after[name].flat],
            )
            for name in after
        ]


@contextmanager
def open_ends(request: Request, progress: Progress | None, *, read: bool) -> Iterator[Ends]:
    """Open the models of a request, and digest them unless no weights shall be read.

    Raises:
        InputError: a checkpoint or the spec cannot be used, or the models differ in architecture.

    """
    with ExitStack() as stack:
        first = stack.enter_context(open_model(request.models[0], request.choice))
        others = [stack.enter_context(open_like(path, first)) for path in request.models[1:]]
        models = (first, *others)
        digests = tuple(
            model.digest(counting(model.read, model.header, progress, f"digesting {letter}"))
            for letter, model in zip(LETTERS, models, strict=False)
            if read
        )
        yield Ends(models, digests)


def _record(model: Model, found: Alignment, file: PermutationFile) -> AlignmentRecord:
    details = file.details
    return AlignmentRecord(
        method=file.method,
        seed=int(details.get("seed", found.seed)),
        sweeps=int(details.get("sweeps", found.sweeps)),
        restarts=int(details.get("restarts", len(found.restarts))),
        converged=details.get("converged", "yes") == "yes",
        start_cosine=found.start_cosine,
        cosine=found.cosine,
        moved=model.binding.group.moved(file.element),
        units=dict(model.binding.group.units),
    )
