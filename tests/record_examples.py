"""Records as they come out of measurements, made up from a seed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from rebasin_hub.barrier import Curve, grid
from rebasin_hub.record.model import (
    AlignmentRecord,
    Baseline,
    CurveRecord,
    Figure,
    Intervals,
    MatchRecord,
    ModelRecord,
    PlaneRecord,
    Record,
    Removed,
    SplitRecord,
    TaskRecord,
)

SPLITS = ("test", "train")
# Height of the hill in the loss, for each numbering and treatment.
HILLS = {
    ("naive", "as is"): 1.34,
    ("naive", "recomputed"): 1.02,
    ("naive", "repair"): 0.81,
    ("naive", "calibrated"): 0.95,
    ("aligned", "as is"): 0.093,
    ("aligned", "recomputed"): 0.051,
    ("aligned", "repair"): 0.034,
    ("aligned", "calibrated"): 0.078,
}
UNITS = {"hidden[0]": 512, "hidden[1]": 2000, "hidden[2]": 64}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def figure(value: float, spread: float = 0.08) -> Figure:
    return Figure(value=value, low=value * (1 - spread), high=value * (1 + spread))


def intervals(kind: str, loss: Curve, error: Curve) -> Intervals:
    return Intervals(loss=figure(getattr(loss, kind)), error=figure(getattr(error, kind)))


def curve(numbering: Any, treatment: Any, split: str) -> CurveRecord:
    x = np.array(grid())
    low, height = (0.071, 0.083) if split == "test" else (0.012, 0.019), HILLS[numbering, treatment]
    base = (1 - x) * low[0] + x * low[1]
    loss = base + height * (4 * x * (1 - x)) ** 2
    error = 0.02 + 0.3 * base + 0.35 * height / 1.34 * (4 * x * (1 - x)) ** 1.5
    curves = Curve(grid(), tuple(loss.tolist())), Curve(grid(), tuple(error.tolist()))
    return CurveRecord(
        numbering=numbering,
        treatment=treatment,
        split=split,
        loss=loss.tolist(),
        error=error.tolist(),
        temperature=(1 + 2 * x * (1 - x)).tolist() if treatment == "calibrated" else None,
        entezari=intervals("entezari", *curves),
        frankle=intervals("frankle", *curves),
    )


def match(name: str, units: int, rng: np.random.Generator) -> MatchRecord:
    return MatchRecord(
        permutation=name,
        naive=rng.normal(0.02, 0.09, units).clip(-1, 1).tolist(),
        aligned=(1 - 1.2 * rng.beta(2, 5, units)).clip(-1, 1).tolist(),
    )


def alignment(units: dict[str, int]) -> AlignmentRecord:
    return AlignmentRecord(
        method="weight",
        seed=0,
        sweeps=7,
        restarts=4,
        converged=True,
        start_cosine=0.0213,
        cosine=0.6841,
        moved={name: n - 3 for name, n in units.items()},
        units=units,
        permutations=digest("permutations"),
    )


def plane(numbering: Any, split: str = "test", points: int = 25) -> PlaneRecord:
    x, y = np.linspace(-3.0, 13.0, points), np.linspace(-3.0, 11.0, points)
    gx, gy = np.meshgrid(x, y)
    corners = {"A": (0.0, 0.0), "B": (10.0, 0.0), "C": (4.2, 8.1)}
    near = [np.hypot(gx - cx, gy - cy) for cx, cy in corners.values()]
    valley = np.min(near, axis=0) if numbering == "naive" else np.min(near, axis=0) * 0.35
    loss: list[list[float | None]] = (0.07 + 0.11 * valley**1.8).tolist()
    error: list[list[float | None]] = np.clip(0.02 + 0.09 * valley, 0, 0.9).tolist()
    loss[-1][-1] = error[-1][-1] = None
    return PlaneRecord(
        numbering=numbering,
        split=split,
        x=x.tolist(),
        y=y.tolist(),
        loss=loss,
        error=error,
        corners=corners,
    )


def common(names: dict[Any, str], units: dict[str, int]) -> dict[str, Any]:
    return {
        "created": "2025-03-14T09:26:53Z",
        "tool": "rebasin-hub 1.0.0",
        "command": "rebasin-hub barrier runs/a.safetensors runs/b.safetensors --task mnist -o out",
        "models": {key: ModelRecord(name=name, digest=digest(key)) for key, name in names.items()},
        "spec": "mlp",
        "spec_digest": digest("spec"),
        "alignments": {key: alignment(units) for key in names if key != "A"},
        "task": TaskRecord(
            name="mnist",
            loss="cross-entropy (in nats)",
            error="error rate",
            splits={
                split: SplitRecord(
                    count=count, available=count, digest=digest(split), source=f"{split}-images"
                )
                for split, count in zip(SPLITS, (10_000, 60_000), strict=True)
            },
            settings={"batch": 256},
        ),
        "device": "cpu",
        "versions": {"numpy": "2.4.0", "python": "3.11.9", "torch": "2.13.0"},
        "seconds": 92.4,
    }


def barrier_record(**changes: Any) -> Record:
    """Return a barrier of two splits, two numberings and four treatments, with matches."""
    rng = np.random.default_rng(0)
    values = {
        **common({"A": "runs/a.safetensors", "B": "runs/b.safetensors"}, UNITS),
        "lambdas": list(grid()),
        "curves": [curve(*column, split) for split in SPLITS for column in HILLS],
        "baselines": [
            Baseline(name=name, split=split, loss=loss, error=error)
            for split in SPLITS
            for name, loss, error in (
                ("A", 0.071, 0.0413),
                ("B", 0.083, 0.0449),
                ("ensemble", 0.061, 0.0356),
            )
        ],
        "removed": [
            Removed(
                split=split, treatment="as is", share=Figure(value=0.931, low=0.918, high=0.942)
            )
            for split in SPLITS
        ],
        "matches": [match(name, units, rng) for name, units in UNITS.items()],
        "verdict": "Alignment removed 93 % of the loss barrier.",
        "notes": ["BatchNorm statistics were recomputed on 5,000 training samples."],
    }
    return Record(**{**values, **changes})


def null_record() -> Record:
    """Return a barrier whose naive curve overflows in the middle, and whose interval is unknown."""
    curves = []
    for column in (("naive", "as is"), ("aligned", "as is")):
        one = curve(*column, "test")
        if column[0] == "naive":
            loss = [None if 9 < k < 15 else value for k, value in enumerate(one.loss)]
            unknown = Figure(value=None, low=None, high=None)
            both = Intervals(loss=unknown, error=one.entezari.error)
            one = one.model_copy(update={"loss": loss, "entezari": both, "frankle": both})
        curves.append(one)
    return barrier_record(
        curves=curves,
        removed=[],
        matches=[MatchRecord(permutation="p", naive=[None, 0.5], aligned=[None, 0.75])],
        verdict="The naive barrier is infinite; the aligned one is 0.093.",
    )


def large_record(permutations: int = 100, units: int = 300) -> Record:
    """Return a barrier with as many permutations as a language model has."""
    rng = np.random.default_rng(1)
    sizes = {f"ff[{k}]": units for k in range(permutations)}
    matches = [match(name, n, rng) for name, n in sizes.items()]
    return barrier_record(matches=matches, alignments={"B": alignment(sizes)})


def plane_record(**changes: Any) -> Record:
    """Return losses on the plane through three models."""
    names = {"A": "a.safetensors", "B": "b.safetensors", "C": "c.safetensors"}
    values = {
        **common(names, UNITS),
        "kind": "plane",
        "planes": [plane("naive"), plane("aligned")],
        "verdict": "In the aligned plane, one valley holds all three models.",
        "notes": [],
    }
    return Record(**{**values, **changes})


HOSTILE = (
    '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    "\u2028\u202e&amp;\x1b[31m[bold]$x_{1}$"
)


def hostile_record() -> Record:
    """Return a record in which every text of others holds markup and control characters."""
    record = barrier_record()
    task = record.task
    split = task.splits["test"].model_copy(update={"source": HOSTILE})
    return barrier_record(
        command=HOSTILE,
        models={key: ModelRecord(name=HOSTILE, digest=digest(key)) for key in ("A", "B")},
        spec=HOSTILE,
        task=task.model_copy(
            update={
                "name": HOSTILE,
                "loss": HOSTILE,
                "error": HOSTILE,
                "splits": {**task.splits, "test": split},
                "settings": {HOSTILE: HOSTILE},
            }
        ),
        matches=[MatchRecord(permutation=HOSTILE, naive=[0.1, 0.2], aligned=[0.9, 0.8])],
        notes=[HOSTILE],
        verdict=HOSTILE,
        versions={HOSTILE: HOSTILE},
    )
