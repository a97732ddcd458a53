"""What is asked of a measurement of connectivity, and what it will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.align.many import STRATEGIES as TOGETHER
from rebasin_hub.barrier import POINTS
from rebasin_hub.errors import InputError
from rebasin_hub.pipeline.barrier.request import MOST_POINTS, TREATMENTS
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice
from rebasin_hub.record.connect import JointStrategy, Strategy
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks import Options, Split

__all__ = [
    "JOINT",
    "STRATEGIES",
    "ConnectPlan",
    "ConnectRequest",
    "Measuring",
    "TrajectoryPlan",
    "TrajectoryRequest",
]

STRATEGIES: tuple[Strategy, ...] = ("naive", "pairwise", "reference", "universe")
"""`naive`: as numbered; `pairwise`: a permutation for each pair; `reference`: one for each model,
to the first; `universe`: one for each model, all found together."""
JOINT: tuple[JointStrategy, ...] = ("reference", "universe")
"""Strategies with one permutation for each model: those that decide on strong connectivity."""
MOST_RESOLUTION = 100
TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What lines are measured on, and how; the same for models and for trajectories.

    task: as `find_task` takes it, with its `options`.
    matching: how permutations are searched for.
    points: of each line.
    treatments: of `TREATMENTS`; None for as is and calibrated, and for networks that keep running
        statistics recomputed and repair as well.
    samples: how many samples statistics are measured on.
    seed: of the bootstrap and of the choice of samples for statistics.
    tolerance: a barrier of at most this share of the ends' mean loss counts as none.
    """

    task: str = "digits"
    options: Options = field(default_factory=Options)
    choice: Choice = AUTOMATIC
    matching: Matching = WEIGHT_MATCHING
    points: int = POINTS
    treatments: tuple[str, ...] | None = None
    samples: int = 5000
    seed: int = 0
    tolerance: float = TOLERANCE

    def check(self) -> None:
        """Refuse what no measurement can be made of, before anything is opened.

        Raises:
            InputError: with what to do.

        """
        self.matching.check()
        if self.matching.start is not None:
            raise InputError("a permutation file to start from belongs to one pair, not to many")
        if not 3 <= self.points <= MOST_POINTS:  # noqa: PLR2004
            raise InputError(f"points is {self.points}, expected 3 to {MOST_POINTS}")
        if not 0 <= self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}, expected 0 to 1, such as {TOLERANCE}")
        for treatment in self.treatments or ():
            if treatment not in TREATMENTS:
                hint = nearest(treatment, TREATMENTS)
                raise InputError(f"there is no treatment '{treatment}'{hint}")


@dataclass(frozen=True)
class ConnectRequest(Measuring):
    """Which models are measured against one another, in which numberings.

    models: two or more; the first one is the reference.
    strategies: of `STRATEGIES`; `naive` and `pairwise`, which others are compared with, are always
        measured.
    simplex: whether simplices of three models are measured too; None for: where there are three.
    resolution: intervals along each edge of a simplex's grid.
    """

    models: tuple[Path, ...]
    strategies: tuple[str, ...] = STRATEGIES
    simplex: bool | None = None
    resolution: int = 12

    @property
    def measured(self) -> tuple[Strategy, ...]:
        """The strategies in the order in which they are shown."""
        return tuple(s for s in STRATEGIES if s in {"naive", "pairwise", *self.strategies})

    def check(self) -> None:
        """Refuse what no measurement can be made of; see `Measuring.check`."""
        super().check()
        if len(self.models) < 2:  # noqa: PLR2004
            raise InputError(
                f"{len(self.models)} model was given; connectivity is one of two models or more"
            )
        for strategy in self.strategies:
            if strategy not in STRATEGIES:
                raise InputError(
                    f"there is no strategy '{strategy}'{nearest(strategy, STRATEGIES)}; choose of "
                    f"{', '.join(STRATEGIES)}"
                )
        if "universe" in self.strategies and "universe" not in TOGETHER:
            raise InputError(
                "this version cannot align many models by 'universe'; choose of "
                f"{', '.join(s for s in STRATEGIES if s != 'universe')} with --strategies"
            )
        if self.simplex and len(self.models) < 3:  # noqa: PLR2004
            raise InputError("a simplex takes three models; give another one, or --no-simplex")
        if not 2 <= self.resolution <= MOST_RESOLUTION:  # noqa: PLR2004
            raise InputError(f"resolution is {self.resolution}, expected 2 to {MOST_RESOLUTION}")


@dataclass(frozen=True)
class TrajectoryRequest(Measuring):
    """Two lists of checkpoints in the order of their training, equally long.

    a, b: the checkpoints; A is the reference.
    masks_a, masks_b: a mask file for each checkpoint of a pruned sequence; by default the weights
        that are zero are the pruned ones.
    own: whether each step is measured with a permutation of its own as well.
    """

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    masks_a: tuple[Path, ...] = ()
    masks_b: tuple[Path, ...] = ()
    own: bool = True

    def check(self) -> None:
        """Refuse what no measurement can be made of; see `Measuring.check`."""
        super().check()
        if not self.a or len(self.a) != len(self.b):
            raise InputError(
                f"the trajectories have {len(self.a)} and {len(self.b)} checkpoints; give two "
                "lists of the same length, step by step"
            )
        if bool(self.masks_a) != bool(self.masks_b):
            raise InputError("masks were given for one trajectory alone; give them for both")
        for letter, masks in (("A", self.masks_a), ("B", self.masks_b)):
            if masks and len(masks) != len(self.a):
                raise InputError(
                    f"trajectory {letter} has {len(self.a)} checkpoints and {len(masks)} mask "
                    "files; give one mask file for each checkpoint"
                )


@dataclass(frozen=True)
class ConnectPlan:
    """What measuring models against one another will do, known before any model is run.

    `passes` counts forward passes of one sample at most: what lines share is measured once.
    """

    models: tuple[Path, ...]
    spec: str
    task: str
    splits: Mapping[str, Split]
    strategies: tuple[str, ...]
    pairs: int
    simplices: int
    points: int
    treatments: tuple[str, ...]
    passes: int
    device: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrajectoryPlan:
    """What measuring two trajectories will do, known before any model is run."""

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    spec: str
    task: str
    splits: Mapping[str, Split]
    points: int
    treatments: tuple[str, ...]
    passes: int
    device: str
    notes: tuple[str, ...]
