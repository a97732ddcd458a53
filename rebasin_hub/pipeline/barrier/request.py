"""What is asked of a barrier's measurement, and what it will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.barrier import POINTS
from rebasin_hub.errors import InputError
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice
from rebasin_hub.record.model import Treatment
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks import Options, Split

__all__ = ["TREATMENTS", "BarrierPlan", "Request"]

TREATMENTS: tuple[Treatment, ...] = ("as is", "calibrated", "recomputed", "repair")
"""How a point of the line is treated before it is measured; see `record.CurveRecord`."""
MOST_POINTS = 1001
LINE, PLANE = 2, 3


@dataclass(frozen=True)
class Request:
    """Which models are measured, on what, and how.

    models: A and B, the ends of a line; or A, B and C, the corners of a plane.
    task: as `find_task` takes it, with its `options`.
    permutations: a permutation file from B to A to use instead of aligning.
    align: whether the models are aligned at all.
    points: of the line; for a plane, along each of its axes.
    treatments: of `TREATMENTS`; None for all that the network allows.
    samples: how many samples statistics are measured on.
    seed: of the bootstrap and of the choice of samples for statistics.
    """

    models: tuple[Path, ...]
    task: str
    options: Options = field(default_factory=Options)
    choice: Choice = AUTOMATIC
    matching: Matching = WEIGHT_MATCHING
    permutations: Path | None = None
    align: bool = True
    points: int = POINTS
    treatments: tuple[str, ...] | None = None
    samples: int = 5000
    seed: int = 0

    @property
    def is_plane(self) -> bool:
        """Whether there are three models."""
        return len(self.models) == PLANE

    def check(self) -> None:
        """Refuse what no measurement can be made of, before anything is opened.

        Raises:
            InputError: with what to do.

        """
        self.matching.check()
        if not 3 <= self.points <= MOST_POINTS:  # noqa: PLR2004
            raise InputError(f"points is {self.points}, expected 3 to {MOST_POINTS}")
        for treatment in self.treatments or ():
            if treatment not in TREATMENTS:
                hint = nearest(treatment, TREATMENTS)
                raise InputError(f"there is no treatment '{treatment}'{hint}")
        if len(self.models) not in {LINE, PLANE}:
            raise InputError(
                f"{len(self.models)} models were given; a line takes two and a plane three"
            )
        if self.permutations is not None and self.is_plane:
            raise InputError("a permutation file belongs to a line of two models, not to a plane")


@dataclass(frozen=True)
class BarrierPlan:
    """What a measurement will do, known before any model is run.

    `passes` counts forward passes of one sample.
    """

    models: tuple[Path, ...]
    spec: str
    task: str
    splits: Mapping[str, Split]
    points: int
    treatments: tuple[str, ...]
    passes: int
    device: str
    notes: tuple[str, ...]
