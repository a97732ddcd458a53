"""What the solvers of one large matrix take and give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.dense import Dense, Extremes
from rebasin_hub.permute import Index

__all__ = ["KEPT", "Floats", "Problem", "Solution", "Solver"]

Floats: TypeAlias = NDArray[np.float64]

KEPT = 32
"""Entries that are kept of each row and of each column."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A matrix of which row `i` stands for `supply[i]` equal rows, and columns likewise.

    `start` holds earlier column prices, or None. Sums of supply and capacity are the same.
    """

    dense: Dense
    supply: Index
    capacity: Index
    start: Floats | None = None

    @cached_property
    def kinds(self) -> Index:
        """For each row, copies counted, the row of the matrix that it is a copy of."""
        return np.repeat(np.arange(len(self.supply)), self.supply)

    @property
    def finite(self) -> bool:
        """Whether there is neither NaN nor infinity; the pass that tells is not lost."""
        return self._extremes is not None if self.start is None else self.dense.finite()

    @property
    def extremes(self) -> Extremes:
        """Where the largest entries of rows and columns stand, of a finite matrix."""
        assert self._extremes is not None
        return self._extremes

    @cached_property
    def _extremes(self) -> Extremes | None:
        return self.dense.extremes()

    @cached_property
    def best(self) -> Index:
        """Where the largest entry of each row stands, at the prices of the start or none."""
        return self.extremes.row_best if self.start is None else self.dense.best(self.start)

    @property
    def plain(self) -> bool:
        """Whether every row and every column stands for itself alone."""
        return bool((self.supply == 1).all() and (self.capacity == 1).all())


@dataclass(frozen=True, eq=False)
class Solution:
    """A pairing of every row, copies counted, with a column of the matrix, and column prices.

    `row_prices` are each matrix row's largest `entry - price`, or None where no pass has told yet.
    `prices` are None where finding them takes longer than all else.
    """

    columns: Index
    prices: Floats | None
    row_prices: Floats | None = None


Solver: TypeAlias = Callable[[Problem], Solution | None]
"""Solves a problem, or declines with None what another solver does better."""
