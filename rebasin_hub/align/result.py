"""What aligning returns, and what it reports on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rebasin_hub.permute import Index

__all__ = ["Alignment", "Goal", "Progress", "Report"]


@dataclass(frozen=True)
class Progress:
    """One finished step of a search: which restart and step (both from 0), and the value after it.

    `unit` names the step, `of` is how many there will be at most (0 where that is unknown).
    """

    restart: int
    sweep: int
    objective: float
    unit: str = "sweep"
    of: int = 0


Report: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class Goal:
    """What a method optimizes where that is not the objective, in the method's own measure.

    All three values are of the same fixed samples or weights, so that they can be compared.
    The law: `end` is no worse than `start`.
    """

    name: str
    identity: float
    start: float
    end: float
    larger_is_better: bool = False


@dataclass(frozen=True, eq=False)
class Alignment:
    """The renumbering of a model B that brings it to a reference A, and how it was found.

    `objective` is the sum of ⟨A, element(B)⟩ over the tensors that count; `start_objective` is
    that of the identity; `norm_a` and `norm_b` are the Frobenius norms of the same tensors.
    `history` holds the objective before the first sweep and after each sweep of the winning
    restart, `restarts` the last objective of every restart; both in the measure of `goal` where the
    method has one of its own. `converged` tells whether the winning restart stopped because nothing
    could be gained. `notes` are what a user should know, in whole sentences.
    """

    element: dict[str, Index]
    method: str
    seed: int
    objective: float
    start_objective: float
    norm_a: float
    norm_b: float
    history: tuple[float, ...]
    restarts: tuple[float, ...]
    converged: bool
    goal: Goal | None = None
    notes: tuple[str, ...] = ()

    @property
    def sweeps(self) -> int:
        """How many sweeps the winning restart took."""
        return len(self.history) - 1

    @property
    def cosine(self) -> float:
        """The cosine of the angle between A and the renumbered B; 1 for two zero models."""
        return self._cosine(self.objective)

    @property
    def start_cosine(self) -> float:
        """The cosine of the angle between A and B as they are numbered."""
        return self._cosine(self.start_objective)

    def _cosine(self, objective: float) -> float:
        norms = self.norm_a * self.norm_b
        return objective / norms if norms else 1.0

    @property
    def squared_distance(self) -> float:
        """The squared Frobenius distance between A and the renumbered B.

        It is a difference of large numbers, exact to about 1e-15 of the squared norms.
        """
        return float(np.maximum(self.norm_a**2 + self.norm_b**2 - 2 * self.objective, 0.0))
