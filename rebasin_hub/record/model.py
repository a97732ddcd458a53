"""`rebasin.json`: what was measured between two models, complete enough to check it again."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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

Digest: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number: TypeAlias = float | None
"""A number, or null where it is infinite or not a number."""
Treatment: TypeAlias = Literal["as is", "recomputed", "repair", "calibrated"]
Numbering: TypeAlias = Literal["naive", "aligned"]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class ModelRecord(_Strict):
    """One end of a line."""

    name: str
    """The file's or directory's name, or a Hub id with its commit."""
    digest: Digest
    """The plain digest of the weights."""


class MatchRecord(_Strict):
    """How well the units of one permutation matched: cosines of a unit's weights in both models."""

    permutation: str
    """Its name in the spec, with its index, such as `hidden[0]`."""
    naive: list[Number]
    """One for each unit of A: its cosine with the unit of the same number in B."""
    aligned: list[Number]
    """One for each unit of A: its cosine with the unit of B that it was matched to."""


class AlignmentRecord(_Strict):
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


class SplitRecord(_Strict):
    """The samples that were measured."""

    count: int
    available: int
    digest: Digest
    source: str


class TaskRecord(_Strict):
    """What was measured on."""

    name: str
    loss: str
    """What the loss is, such as cross-entropy (in nats)."""
    error: str
    """What the error is, a share from 0 to 1."""
    splits: dict[str, SplitRecord]
    settings: dict[str, JsonValue]


class Figure(_Strict):
    """A barrier, with its bootstrap interval over the samples of the split."""

    value: Number
    low: Number
    high: Number


class Intervals(_Strict):
    """A barrier in the loss and in the error."""

    loss: Figure
    error: Figure


class CurveRecord(_Strict):
    """One column: a numbering and a treatment, on one split, along the whole line."""

    numbering: Numbering
    """Whether B is as it was trained, or aligned to A."""
    treatment: Treatment
    """`as is`: interpolated weights and running statistics; `recomputed`: statistics of
    normalization layers measured anew at each point; `repair`: each channel's mean and deviation
    set to the interpolation of the ends'; `calibrated`: as is, with the logits divided by the
    best temperature, which is chosen on one half of the samples and used on the other."""
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


class Baseline(_Strict):
    """A model or an ensemble that is no point of the line."""

    name: Literal["A", "B", "ensemble"]
    """`ensemble` is the mean of the logits of A and B."""
    split: str
    loss: Number
    error: Number


class PlaneRecord(_Strict):
    """Losses on the plane through three models, at A + x·u + y·v.

    u and v are orthogonal and of length one in units of the weights' Frobenius norm: u points from
    A to B, v to C's side (Garipov et al. 2018, arXiv:1802.10026, figure 1).
    """

    numbering: Numbering
    split: str
    x: list[float]
    y: list[float]
    loss: list[list[Number]]
    """One row for each y."""
    error: list[list[Number]]
    corners: dict[Literal["A", "B", "C"], tuple[float, float]]
    """Where the models are in the plane."""


class Removed(_Strict):
    """The share of the naive loss barrier (Entezari) that is gone after alignment."""

    split: str
    treatment: Treatment
    share: Figure


class Record(_Strict):
    """What was measured between models."""

    model_config = ConfigDict(title="rebasin-hub record")

    rebasin: Literal[1] = 1
    """The version of this format."""
    kind: Literal["barrier", "plane"] = "barrier"
    created: str
    """When, ISO 8601 in UTC."""
    tool: str
    """The program with its version."""
    command: str
    """As it can be typed again."""
    models: dict[Literal["A", "B", "C"], ModelRecord]
    spec: str
    spec_digest: Digest
    alignments: dict[Literal["B", "C"], AlignmentRecord]
    """Of each model to A; empty where nothing was aligned."""
    task: TaskRecord
    lambdas: list[float] = []
    """0 is A, 1 is B."""
    curves: list[CurveRecord] = []
    baselines: list[Baseline] = []
    planes: list[PlaneRecord] = []
    removed: list[Removed] = []
    matches: list[MatchRecord] = []
    verdict: str
    """One sentence that a person understands."""
    notes: list[str]
    """What limits the result, and which columns are missing and why."""
    device: str
    versions: dict[str, str]
    seconds: float
