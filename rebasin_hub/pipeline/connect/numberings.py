"""The renumberings of each strategy: searched for once, kept meanwhile, and written at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from rebasin_hub.align import Alignment, Evidence
from rebasin_hub.align.many import align_many
from rebasin_hub.align.many import cycle_error as error_of_cycles
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.barrier.points import Points
from rebasin_hub.pipeline.connect.members import Member, cosine
from rebasin_hub.pipeline.connect.places import relative
from rebasin_hub.pipeline.connect.request import Measuring
from rebasin_hub.pipeline.matching import Seen
from rebasin_hub.pipeline.pairs import Together, align_pairs
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.pipeline.write import Found
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.record.connect import (
    PermutationRecord,
    PermutationStrategy,
    Strategy,
)
from rebasin_hub.workers import Workers

__all__ = ["Brought", "Numberings", "Searcher", "cycle_error", "find_numberings"]


@dataclass(frozen=True, eq=False)
class Brought:
    """The renumbering that brings a model to another one's numbering."""

    name: str
    model: Member
    to: Member
    file: PermutationFile

    @property
    def element(self) -> Element:
        """The renumbering."""
        return self.file.element

    def record(self, strategy: PermutationStrategy) -> PermutationRecord:
        """Return the renumbering as a record names it, without its file.

        Cosines are computed anew: a renumbering that was kept then has them to the last bit.
        """
        binding, read = self.model.model.binding, self.model.read
        return PermutationRecord(
            strategy=strategy,
            model=self.model.label,
            to=self.to.label,
            method=self.file.method,
            start_cosine=cosine(binding, self.to.read, read),
            cosine=cosine(binding, self.to.read, rearranged(binding, self.element, read)),
            moved=sum(binding.group.moved(self.element).values()),
            units=sum(binding.group.units.values()),
        )


@dataclass(eq=False)
class Searcher:
    """Searches for renumberings; those that `points` has are taken from there.

    `workers` are those that align the pairs of many models; by default this process does.
    """

    request: Measuring
    seen: Seen
    points: Points
    progress: Progress | None
    workers: Workers | None = None
    _evidence: list[Evidence | None] = field(default_factory=list)

    def bring(self, model: Member, to: Member, name: str) -> Brought:
        """Return the renumbering that brings a model to another one.

        Raises:
            InputError: the method needs what the task does not have.
            NotFiniteError: weights that count are NaN or infinite.

        """
        stored = self.points.permutations(name)
        if stored is not None and stored.exists():
            return Brought(name, model, to, PermutationFile.load(stored))
        what = f"{model.label} to {to.label}"
        alignment = self.request.matching.search(
            model.model.binding,
            self._counting(to, what),
            self._counting(model, what),
            evidence=self.evidence(model),
            watch=self.request.matching.watch(self.progress, what),
        )
        return self.kept(name, model, to, Found(alignment.element, alignment.method, alignment))

    def bring_pairs(
        self, members: Sequence[Member], names: Mapping[tuple[int, int], str]
    ) -> dict[tuple[int, int], Brought]:
        """Return what brings model j to model i, under (i, j); see `bring`."""
        found = {} if self.workers is None else self._spread(members, names, self.workers)
        return {
            (i, j): found.get((i, j)) or self.bring(members[j], members[i], name)
            for (i, j), name in names.items()
        }

    def _spread(
        self, members: Sequence[Member], names: Mapping[tuple[int, int], str], workers: Workers
    ) -> dict[tuple[int, int], Brought]:
        """Have workers align the pairs that are not kept already."""
        stored = {pair: self.points.permutations(name) for pair, name in names.items()}
        missing = [(j, i) for (i, j), path in stored.items() if path is None or not path.exists()]
        request = self.request
        together = Together(
            tuple(member.model.checkpoint.path for member in members),
            request.choice,
            replace(request.matching, task=request.task, options=request.options),
        )
        found = {}
        for (j, i), alignment in align_pairs(together, missing, workers, self.progress):
            how = Found(alignment.element, alignment.method, alignment)
            found[i, j] = self.kept(names[i, j], members[j], members[i], how)
        return found

    def kept(self, name: str, model: Member, to: Member, found: Found) -> Brought:
        """Make the permutation file of what was found, and keep it meanwhile."""
        moved = rearranged(model.model.binding, found.element, model.model.read)
        complete = Found(found.element, found.method, found.alignment, to.digest)
        file = complete.file(model.model, model.digest, model.model.digest(moved))
        if (stored := self.points.permutations(name)) is not None:
            file.save(stored, force=True)
        return Brought(name, model, to, file)

    def evidence(self, model: Member) -> Evidence | None:
        """Return what the method may look at, built once."""
        if not self._evidence:
            self._evidence.append(self.request.matching.evidence(model.model, self.seen))
        return self._evidence[0]

    def _counting(self, member: Member, what: str) -> Read:
        return counting(member.read, member.model.header, self.progress, f"reading, {what}")


@dataclass(frozen=True, eq=False)
class Numberings:
    """Of all models: for each pair a renumbering, and of each joint strategy one for each model.

    pairs: under (i, j) with i < j what brings model j to model i.
    joint: for each strategy what brings each model but the first to the first one's numbering.
    """

    members: Sequence[Member]
    pairs: Mapping[tuple[int, int], Brought]
    joint: Mapping[PermutationStrategy, Sequence[Brought]]

    def elements(self, strategy: Strategy, numbers: Sequence[int]) -> list[Element]:
        """Return what brings some models to one numbering; for `pairwise` two models."""
        identity = self.members[0].model.binding.group.identity()
        if strategy == "naive":
            return [identity for _ in numbers]
        if strategy == "pairwise":
            first, second = numbers
            return [identity, self.pairs[first, second].element]
        brought = self.joint[strategy]
        return [brought[number - 1].element if number else identity for number in numbers]

    def relative(self, strategy: Strategy, first: int, second: int) -> Element:
        """Return what brings the second model to the first one as it is numbered."""
        binding = self.members[0].model.binding
        return relative(binding, *self.elements(strategy, (first, second)))

    @property
    def brought(self) -> dict[PermutationStrategy, Sequence[Brought]]:
        """All renumberings by strategy, in the order of the models."""
        return {"pairwise": list(self.pairs.values()), **self.joint}

    def records(self) -> list[PermutationRecord]:
        """Return the renumberings as a record names them, without their files."""
        return [one.record(strategy) for strategy, each in self.brought.items() for one in each]


def find_numberings(
    members: Sequence[Member], strategies: Sequence[Strategy], searcher: Searcher
) -> Numberings:
    """Align the models in every way that the strategies ask for.

    Raises:
        InputError: the method needs what the task does not have.
        NotFiniteError: weights that count are NaN or infinite.

    """
    names = {
        (i, j): f"pairwise-{members[j].label}-to-{members[i].label}"
        for i, j in combinations(range(len(members)), 2)
    }
    pairs = searcher.bring_pairs(members, names)
    joint: dict[PermutationStrategy, Sequence[Brought]] = {}
    if "reference" in strategies:
        # Aligning to the first model is what its own pairs do as well.
        joint["reference"] = [pairs[0, j] for j in range(1, len(members))]
    if "universe" in strategies:
        joint["universe"] = _universe(members, searcher)
    return Numberings(members, pairs, joint)


def _universe(members: Sequence[Member], searcher: Searcher) -> list[Brought]:
    first, *others = members
    names = [f"universe-{other.label}-to-{first.label}" for other in others]
    stored = [searcher.points.permutations(name) for name in names]
    if all(path is not None and path.exists() for path in stored):
        files = [PermutationFile.load(path) for path in stored if path is not None]
        return [
            Brought(name, other, first, file)
            for name, other, file in zip(names, others, files, strict=True)
        ]
    binding, matching = first.model.binding, searcher.request.matching

    def align(read_reference: Read, read_model: Read, *, first: bool, what: str) -> Alignment:
        return matching.search(
            binding,
            read_reference,
            read_model,
            evidence=searcher.evidence(members[0]),
            watch=matching.watch(searcher.progress, what),
            start=None if first else binding.group.identity(),
            restarts=None if first else 1,
        )

    reads = [member.read for member in members]
    found = align_many(
        binding,
        reads,
        align,
        strategy="universe",
        seed=matching.seed,
        device=matching.device,
        watch=matching.watch(searcher.progress, "universe"),
    )
    return [
        searcher.kept(name, other, first, Found(element, f"universe of {matching.method}"))
        for name, other, element in zip(names, others, found.elements[1:], strict=True)
    ]


def cycle_error(numberings: Numberings, strategy: Strategy) -> float | None:
    """Return the share of units that a way round three models moves; None without three models.

    Zero by construction where each model has one permutation, and measured nevertheless.
    """
    pairs = combinations(range(len(numberings.members)), 2)
    maps = {(j, i): numberings.relative(strategy, i, j) for i, j in pairs}
    return error_of_cycles(numberings.members[0].model.binding.group, maps)
