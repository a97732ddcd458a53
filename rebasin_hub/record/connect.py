"""`connect.json`: how several models, or two trainings, are connected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from rebasin_hub.record.model import (
    Cosine,
    Digest,
    Figure,
    Intervals,
    ModelRecord,
    Number,
    TaskRecord,
    Treatment,
)
from rebasin_hub.yamlfile import Strict

__all__ = [
    "ConnectRecord",
    "Connectivity",
    "EndRecord",
    "JointStrategy",
    "MaskRecord",
    "PairRecord",
    "PermutationRecord",
    "PermutationStrategy",
    "SimplexRecord",
    "SimplexStrategy",
    "StepCurve",
    "StepNumbering",
    "StepRecord",
    "Strategy",
    "StrategySummary",
    "TrajectoryRecord",
]

Strategy: TypeAlias = Literal["naive", "pairwise", "reference", "universe"]
JointStrategy: TypeAlias = Literal["reference", "universe"]
PermutationStrategy: TypeAlias = Literal["pairwise", "reference", "universe", "last", "own"]
SimplexStrategy: TypeAlias = Literal["naive", "reference", "universe"]
StepNumbering: TypeAlias = Literal["naive", "last", "own"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Version: TypeAlias = Annotated[
    # To Python, true is 1.
    Literal[1], BeforeValidator(lambda value: "true" if value is True else value)
]


class EndRecord(Strict):
    """A model by itself, treated or not."""

    model: str
    split: str
    treatment: Treatment
    loss: Number
    error: Number


class PermutationRecord(Strict):
    """The renumbering of one model to another one's numbering, and its file."""

    strategy: PermutationStrategy
    model: str
    to: str
    file: str | None = None
    """The permutation file's name beside the record."""
    digest: Digest | None = None
    """SHA-256 of that file."""
    method: str
    start_cosine: Cosine
    """Of all weights that count, before."""
    cosine: Cosine
    """Of all weights that count, after."""
    moved: int
    """Units that changed their place."""
    units: int
    """All units."""


class PairRecord(Strict):
    """The line between two models in one numbering, with one treatment, on one split."""

    first: str
    second: str
    strategy: Strategy
    split: str
    treatment: Treatment
    loss: list[Number]
    """At each of the record's λ: 0 is the first model, 1 the second one."""
    error: list[Number]
    entezari: Intervals
    frankle: Intervals


class StrategySummary(Strict):
    """All pairs of one strategy and treatment on one split: their loss barriers (Entezari)."""

    strategy: Strategy
    split: str
    treatment: Treatment
    mean: Figure
    """Over all pairs."""
    largest: Number
    pair: tuple[str, str]
    """Where the largest is."""
    connected: bool
    """Whether every pair's barrier is negligible."""


class Connectivity(Strict):
    """The verdict of one treatment on one split."""

    split: str
    treatment: Treatment
    weak: bool
    """Some permutation for each pair, its own, leaves no barrier."""
    strong: bool | None
    """One permutation for each model leaves none in any pair; null where none was tried."""
    strategy: JointStrategy | None
    """The one with the least mean barrier."""
    gap: Figure | None
    """Its mean barrier over the pairs, less that of the pairs' own permutations."""


class SimplexRecord(Strict):
    """The triangle between three models in one numbering, as is, on one split."""

    models: tuple[str, str, str]
    strategy: SimplexStrategy
    split: str
    weights: list[tuple[float, float, float]]
    """Of the three models at each point."""
    loss: list[Number]
    error: list[Number]
    barrier: Intervals
    """max over the simplex of L(Σ αᵢ·θᵢ) − Σ αᵢ·L(θᵢ)."""
    highest: tuple[float, float, float]
    """The weights at which the loss rises most."""


class _Measured(Strict):
    """What both kinds of records have."""

    rebasin: Version = 1
    """The version of this format."""
    created: str
    """When, ISO 8601 in UTC."""
    tool: str
    """The program with its version."""
    command: str
    """As it can be typed again."""
    spec: str
    spec_digest: Digest
    method: str
    """Of aligning."""
    seed: int
    task: TaskRecord
    treatments: list[Treatment]
    lambdas: list[float]
    tolerance: float
    """A barrier of at most this share of the ends' mean loss counts as none."""
    permutations: list[PermutationRecord]
    verdict: str
    """A few sentences that a person understands."""
    notes: list[str]
    """What limits the result."""
    device: str
    versions: dict[str, str]
    seconds: float


class ConnectRecord(_Measured):
    """Weak and strong linear connectivity of models, modulo permutation."""

    model_config = ConfigDict(title="rebasin-hub record of connectivity")

    kind: Literal["connect"] = "connect"
    models: dict[str, ModelRecord]
    """By letter; A is the reference."""
    strategies: list[Strategy]
    ends: list[EndRecord]
    pairs: list[PairRecord]
    summaries: list[StrategySummary]
    connectivity: list[Connectivity]
    simplices: list[SimplexRecord] = Field(default_factory=list)
    cycle_error: dict[PermutationStrategy, Number] = Field(default_factory=dict)
    """Share of units that a way round three models, along the pairs' permutations, does not lead
    back to where it began; null where there are not three models."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse lists of unequal lengths, unknown names and columns that stand there twice."""
        names = [
            (f"{p.first}–{p.second}, {p.strategy}, {p.treatment}, {p.split}", p) for p in self.pairs
        ]
        used = {end for pair in self.pairs for end in (pair.first, pair.second)}
        used |= {end.model for end in self.ends}
        used |= {model for simplex in self.simplices for model in simplex.models}
        findings = [
            *_repeated(name for name, _ in names),
            *_wrong_lengths(self.lambdas, names),
            *(f"model '{name}' is not one of them" for name in sorted(used - self.models.keys())),
            *_unknown_splits(self.task, [*self.pairs, *self.ends, *self.simplices]),
        ]
        for simplex in self.simplices:
            if not len(simplex.loss) == len(simplex.error) == len(simplex.weights):
                findings.append(f"simplex {simplex.models} has not one value for each point")
        if findings:
            raise ValueError("; ".join(findings))
        return self


class MaskRecord(Strict):
    """What is pruned at one step."""

    sparsity_a: Share
    """Share of the prunable weights of A that are pruned."""
    sparsity_b: Share
    merged: dict[StepNumbering, Share]
    """Share that is pruned in the mean of A and B, in each numbering of B."""
    overlap: dict[StepNumbering, Share]
    """Weights that both keep, as a share of those that either keeps."""


class StepRecord(Strict):
    """One step of both trajectories."""

    step: int
    """From 0."""
    a: ModelRecord
    b: ModelRecord
    cosine: dict[StepNumbering, Cosine]
    """Of all weights that count, between A and B in each numbering."""
    agreement: Share | None = None
    """Units that have the same partner by this step's own permutation as by the last one's."""
    masks: MaskRecord | None = None


class StepCurve(Strict):
    """The line between A and B at one step."""

    step: int
    numbering: StepNumbering
    """`last`: B renumbered by the permutation of the last step; `own`: by this step's own."""
    split: str
    treatment: Treatment
    loss: list[Number]
    error: list[Number]
    entezari: Intervals
    frankle: Intervals


class TrajectoryRecord(_Measured):
    """Two trainings step by step, with one permutation for all of the second one's steps."""

    model_config = ConfigDict(title="rebasin-hub record of trajectories")

    kind: Literal["trajectory"] = "trajectory"
    steps: list[StepRecord]
    curves: list[StepCurve]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse lists of unequal lengths, unknown names and columns that stand there twice."""
        names = [
            (f"step {c.step}, {c.numbering}, {c.treatment}, {c.split}", c) for c in self.curves
        ]
        findings = [
            *_repeated(name for name, _ in names),
            *_wrong_lengths(self.lambdas, names),
            *_unknown_splits(self.task, self.curves),
        ]
        if [step.step for step in self.steps] != list(range(len(self.steps))):
            findings.append("steps are not numbered from 0")
        if findings:
            raise ValueError("; ".join(findings))
        return self


def _repeated(names: Iterable[str]) -> Iterator[str]:
    yield from (f"line ({name}) is there twice" for name, n in Counter(names).items() if n > 1)


def _wrong_lengths(
    lambdas: list[float], lines: Iterable[tuple[str, PairRecord | StepCurve]]
) -> Iterator[str]:
    for name, line in lines:
        if not len(line.loss) == len(line.error) == len(lambdas):
            yield f"line ({name}) has not one value for each of the lambdas"


def _unknown_splits(
    task: TaskRecord, items: Iterable[PairRecord | EndRecord | SimplexRecord | StepCurve]
) -> Iterator[str]:
    for split in sorted({item.split for item in items} - task.splits.keys()):
        yield f"split '{split}' is not one of the task's {list(task.splits)}"
