"""`rebasin.json`: what was measured between two models, complete enough to check it again."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from rebasin_hub.yamlfile import Strict

__all__ = [
    "AlignmentRecord",
    "Baseline",
    "CurveRecord",
    "Figure",
    "Intervals",
    "MatchRecord",
    "ModelRecord",
    "PlaneRecord",
    "Record",
    "SplitRecord",
    "TaskRecord",
]


def _finite(value: object) -> object:
    """Take infinities and NaN for null: JSON has no words for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: object) -> object:
    """Keep four decimals: a record of a large model holds millions of cosines."""
    return round(value, 4) if isinstance(value, float) and math.isfinite(value) else _finite(value)


Digest: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number: TypeAlias = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or null where it is infinite or not a number."""
Cosine: TypeAlias = Annotated[Annotated[float, Field(ge=-1, le=1)] | None, BeforeValidator(_short)]
"""A cosine to four decimals, or null where a unit has no weights but zeros."""
Treatment: TypeAlias = Literal["as is", "recomputed", "repair", "calibrated"]
Numbering: TypeAlias = Literal["naive", "aligned"]
Letter: TypeAlias = Literal["A", "B", "C"]


class ModelRecord(Strict):
    """One end of a line."""

    name: str
    """The file's or directory's name, or a Hub id with its commit."""
    digest: Digest
    """The plain digest of the weights."""


class MatchRecord(Strict):
    """How well the units of one permutation matched: cosines of a unit's weights in both models."""

    permutation: str
    """Its name in the spec, with its index, such as `hidden[0]`."""
    naive: list[Cosine]
    """One for each unit of A: its cosine with the unit of the same number in B."""
    aligned: list[Cosine]
    """One for each unit of A: its cosine with the unit of B that it was matched to."""


class AlignmentRecord(Strict):
    """How B was renumbered."""

    method: str
    seed: int
    sweeps: int
    restarts: int
    converged: bool
    start_cosine: float
    """Of all weights that count, before."""
    cosine: float
    """Of all weights that count, after."""
    moved: dict[str, int]
    """Units of each permutation that changed their place."""
    units: dict[str, int]
    """Units of each permutation."""
    permutations: Digest | None = None
    """SHA-256 of the permutation file beside the record."""


class SplitRecord(Strict):
    """The samples that were measured."""

    count: int
    available: int
    digest: Digest
    source: str


class TaskRecord(Strict):
    """What was measured on."""

    name: str
    loss: str
    """What the loss is, such as cross-entropy (in nats)."""
    error: str
    """What the error is, a share from 0 to 1."""
    splits: dict[str, SplitRecord]
    settings: dict[str, JsonValue]


class Figure(Strict):
    """A barrier, with its bootstrap interval over the samples of the split."""

    value: Number
    low: Number
    high: Number


class Intervals(Strict):
    """A barrier in the loss and in the error."""

    loss: Figure
    error: Figure


class CurveRecord(Strict):
    """One column: a numbering and a treatment, on one split, along the whole line."""

    numbering: Numbering
    """Whether B is as it was trained, or aligned to A."""
    treatment: Treatment
    """`as is`: interpolated weights and running statistics; `recomputed`: statistics of
    normalization layers measured anew at each point; `repair`: each channel's mean and deviation
    set to the interpolation of the ends'; `calibrated`: as is, with the logits divided by the
    best temperature, which is chosen on nine tenths of the samples and used on the others."""
    split: str
    loss: list[Number]
    """At each of the record's λ."""
    error: list[Number]
    """At each of the record's λ, a share from 0 to 1."""
    temperature: list[Number] | None = None
    """Of `calibrated`, at each λ."""
    entezari: Intervals
    """max over λ of L(λ) − [(1−λ)·L(A) + λ·L(B)]."""
    frankle: Intervals
    """max over λ of L(λ) − ½·(L(A) + L(B))."""


class Baseline(Strict):
    """A model or an ensemble that is no point of the line."""

    name: Literal["A", "B", "ensemble"]
    """`ensemble` is the mean of the logits of A and B."""
    split: str
    loss: Number
    error: Number


class PlaneRecord(Strict):
    """Losses on the plane through three models, at A + x·u + y·v.

    u and v are orthogonal and of length one in units of the weights' Frobenius norm: u points from
    A to B, v to C's side (Garipov et al. 2018, arXiv:1802.10026, figure 1).
    """

    numbering: Numbering
    treatment: Treatment = "as is"
    split: str
    x: list[float]
    y: list[float]
    loss: list[list[Number]]
    """One row for each y."""
    error: list[list[Number]]
    corners: dict[Letter, tuple[float, float]]
    """Where the models are in the plane."""


class Removed(Strict):
    """The share of the naive loss barrier (Entezari) that is gone after alignment."""

    split: str
    treatment: Treatment
    share: Figure


class Record(Strict):
    """What was measured between models."""

    model_config = ConfigDict(title="rebasin-hub record")

    # To Python, true is 1.
    rebasin: Annotated[
        Literal[1], BeforeValidator(lambda value: "true" if value is True else value)
    ] = 1
    """The version of this format."""
    kind: Literal["barrier", "plane"] = "barrier"
    created: str
    """When, ISO 8601 in UTC."""
    tool: str
    """The program with its version."""
    command: str
    """As it can be typed again."""
    models: dict[Letter, ModelRecord]
    spec: str
    spec_digest: Digest
    alignments: dict[Literal["B", "C"], AlignmentRecord]
    """Of each model to A; empty where nothing was aligned."""
    task: TaskRecord
    lambdas: list[float] = Field(default_factory=list)
    """0 is A, 1 is B."""
    curves: list[CurveRecord] = Field(default_factory=list)
    baselines: list[Baseline] = Field(default_factory=list)
    planes: list[PlaneRecord] = Field(default_factory=list)
    removed: list[Removed] = Field(default_factory=list)
    matches: list[MatchRecord] = Field(default_factory=list)
    verdict: str
    """One sentence that a person understands."""
    notes: list[str]
    """What limits the result, and which columns are missing and why."""
    device: str
    versions: dict[str, str]
    seconds: float

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse lists of unequal lengths, unknown splits and columns that stand there twice."""
        findings = [*_line_findings(self), *_plane_findings(self)]
        used = {curve.split for curve in self.curves}
        used |= {baseline.split for baseline in self.baselines}
        used |= {plane.split for plane in self.planes} | {item.split for item in self.removed}
        for split in sorted(used - self.task.splits.keys()):
            findings.append(f"split '{split}' is not one of the task's {list(self.task.splits)}")
        for match in self.matches:
            if len(match.naive) != len(match.aligned):
                findings.append(
                    f"matches of {match.permutation}: naive and aligned differ in length"
                )
        if findings:
            raise ValueError("; ".join(findings))
        return self


def _line_findings(record: Record) -> list[str]:
    findings = []
    if any(right <= left for left, right in zip(record.lambdas, record.lambdas[1:], strict=False)):
        findings.append("lambdas do not rise")
    names = [f"{curve.split}, {curve.numbering}, {curve.treatment}" for curve in record.curves]
    findings += [f"curve ({name}) is there twice" for name, n in Counter(names).items() if n > 1]
    for name, curve in zip(names, record.curves, strict=True):
        columns = [curve.loss, curve.error, *([curve.temperature] if curve.temperature else [])]
        if any(len(column) != len(record.lambdas) for column in columns):
            findings.append(f"curve ({name}) has not one value for each of the lambdas")
    return findings


def _plane_findings(record: Record) -> list[str]:
    findings = []
    for plane in record.planes:
        name = f"plane ({plane.split}, {plane.numbering})"
        for rows in (plane.loss, plane.error):
            if len(rows) != len(plane.y) or any(len(row) != len(plane.x) for row in rows):
                findings.append(f"{name} has not one value for each x and y")
        if plane.corners.keys() != {"A", "B", "C"}:
            findings.append(f"{name} does not say where A, B and C are")
    return findings
