"""Align two checkpoints by any methods, one after another, and measure the line between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rebasin_hub.experiments.experiment import Facts
from rebasin_hub.experiments.lab import Lab
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.tasks import Options

__all__ = ["aligned_line"]


def aligned_line(
    lab: Lab,
    a: Path,
    b: Path,
    methods: Sequence[str],
    *,
    seconds: float | None = None,
    restarts: int | None = None,
    **measurement: Any,  # noqa: ANN401
) -> Facts:
    """Bring B to A by methods of which each starts where the last one ended, and measure.

    Args:
        lab: where.
        a: the reference.
        b: the other end.
        methods: as `--method` takes them.
        seconds: that each of them may take.
        restarts: of methods that have some.
        measurement: fields of `measure.Measurement`.

    Returns the figures of `measure.figures`, and of the last method: `cosine` of the weights,
    `goal`, the name of what it optimizes, with the values `goal_identity`, `goal_start` and
    `goal_end`, and whether `larger_is_better`; `seconds` of all methods.

    """
    with TemporaryDirectory(dir=lab.folder) as folder:
        start: Path | None = None
        spent = 0.0
        for number, method in enumerate(methods):
            lab.tell(f"aligning {b.stem} to {a.stem}, {method}")
            file = Path(folder) / f"{number}.safetensors"
            matching = Matching(
                method,
                lab.device,
                restarts=restarts,
                start=start,
                seconds=seconds,
                task=lab.task,
                options=Options(data=lab.data),
            )
            started = time.perf_counter()
            found = align_models(b, a, file, matching=matching).alignment
            spent += time.perf_counter() - started
            start = file
        figures = lab.line(a, b, permutations=start, **measurement)
    goal = found.goal
    return {
        **figures,
        "cosine": found.cosine,
        "seconds": spent,
        "goal": "inner product of the weights" if goal is None else goal.name,
        "goal_identity": found.start_objective if goal is None else goal.identity,
        "goal_start": found.history[0] if goal is None else goal.start,
        "goal_end": found.objective if goal is None else goal.end,
        "larger_is_better": True if goal is None else goal.larger_is_better,
    }
