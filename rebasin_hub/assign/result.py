"""What an assignment is, and the proof that it is the best one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.permute import Index

__all__ = ["Assignment", "Proof", "check_certificate", "rounding"]

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 1 << 22
"""Entries that are widened to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Proof:
    """Row prices u and column prices p that bound every pairing, float64, shaped as the columns.

    The law: `u[i] + p[j] >= similarity[i, j]` for all entries, so that sum(u) + sum(p) is at least
    the value of any pairing; `gap` (float64, the shape of the value) is that bound minus the value
    of the pairing that was found, summed pair by pair. An optimal pairing has prices with gap 0,
    but for rounding. Without a certificate prices are NaN and the gap is infinite.
    """

    row_prices: Floats
    column_prices: Floats
    gap: Floats


@dataclass(frozen=True, eq=False)
class Assignment:
    """A best pairing with its proof: row `i` goes with column `columns[..., i]`.

    `columns` (int64) has shape (n,) or (batch, n), and each last axis is a permutation of
    `range(n)`; `value` (float64) has shape () or (batch,) and holds the sum of the paired entries.

    `solver` says which solver found it, or the solvers of a batch, joined by "+".

    `prove` gives the proof, which takes a small matrix that SciPy solves as long again, and is
    called when prices or gap are first asked for.
    """

    columns: Index
    value: Floats
    solver: str
    prove: Callable[[], Proof] = field(repr=False)

    @cached_property
    def proof(self) -> Proof:
        """The prices that prove that nothing is better."""
        return self.prove()

    @property
    def row_prices(self) -> Floats:
        """What each row is worth."""
        return self.proof.row_prices

    @property
    def column_prices(self) -> Floats:
        """What each column costs."""
        return self.proof.column_prices

    @property
    def gap(self) -> Floats:
        """How far the prices' bound is above the value."""
        return self.proof.gap

    @property
    def certified(self) -> bool:
        """Whether the prices prove that nothing is better, up to the rounding of float64 sums."""
        return bool(np.all(self.gap <= rounding(self.row_prices, self.column_prices)))


def rounding(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how large a gap may be by the rounding of float64 alone.

    An entry is compared with the sum of two prices, and a price is the end of a chain of such
    sums: 64 roundings for each row at the scale of the largest price.
    """
    size = rows.shape[-1]
    scale = np.abs(rows).max(-1, initial=0) + np.abs(columns).max(-1, initial=0)
    return np.asarray(64 * np.finfo(np.float64).eps * size * scale, dtype=np.float64)


def check_certificate(similarity: NDArray[Any], assignment: Assignment) -> bool:
    """Tell whether an assignment's prices prove that it is the best for a matrix.

    Args:
        similarity: the matrix or batch that was solved, of any real dtype; compared in float64,
            in blocks of rows.
        assignment: what is claimed of it.

    The law: true only if `columns` are permutations, every entry is at most the sum of its two
    prices, and every paired entry equals that sum, up to `rounding`. It uses no solver.

    """
    rows, prices = assignment.row_prices, assignment.column_prices
    columns = np.asarray(assignment.columns)
    shape = np.shape(similarity)
    if shape != (*columns.shape, *columns.shape[-1:]):
        return False
    size = columns.shape[-1]
    if not np.array_equal(np.sort(columns, axis=-1), np.broadcast_to(np.arange(size), shape[:-1])):
        return False
    slack = np.broadcast_to(rounding(rows, prices), columns.shape[:-1])
    step = max(1, BLOCK // max(1, size))
    for at in np.ndindex(columns.shape[:-1]):
        bound, paired = 0.0, 0.0
        for first in range(0, size, step):
            part = slice(first, first + step)
            block = np.asarray(similarity[(*at, part)], dtype=np.float64)
            if not np.all(block <= rows[at][part, None] + prices[at] + slack[at] / size):
                return False
            paired += float(block[np.arange(len(block)), columns[at][part]].sum())
        bound = float(rows[at].sum() + prices[at].sum())
        if not bound - paired <= slack[at]:
            return False
    return True
