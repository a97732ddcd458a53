"""What an assignment is, and the proof that it is the best one."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(eq=False, slots=True)
class Assignment:
    """A best pairing with its proof: row `i` goes with column `columns[..., i]`.

    `columns` (int64) has shape (n,) or (batch, n), and each last axis is a permutation of
    `range(n)`; `value` (float64) has shape () or (batch,) and holds the sum of the paired entries.

    `solver` says which solver found it, or the solvers of a batch, joined by "+".

    `evidence` is the proof, or a copy of the matrix from which it is made when prices or gap are
    first asked for, since that takes as long again; None claims nothing.
    """

    # Not frozen: that takes longer than to pair eight rows.
    columns: Index
    value: Floats
    solver: str
    evidence: Proof | NDArray[np.floating] | None = field(repr=False)

    @property
    def proof(self) -> Proof:
        """The prices that prove that nothing is better."""
        if not isinstance(self.evidence, Proof):
            self.evidence = made(self.evidence, self.columns)
        return self.evidence

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


def made(matrix: NDArray[np.floating] | None, columns: Index) -> Proof:
    """Find prices for the best pairing of a matrix or of a batch; without one nothing is known."""
    prices, row_prices = np.full(columns.shape, np.nan), np.full(columns.shape, np.nan)
    gap = np.full(columns.shape[:-1], np.inf)
    if matrix is None:
        return Proof(row_prices, prices, gap)
    for at in np.ndindex(gap.shape):
        one = matrix[at].astype(np.float64)
        prices[at] = prices_of(one, columns[at])
        gain = one - prices[at]
        row_prices[at] = gain.max(axis=-1, initial=-np.inf)
        gap[at] = (row_prices[at] - gain[np.arange(len(gain)), columns[at]]).sum()
    return Proof(row_prices, prices, gap)


def prices_of(scores: Floats, columns: Index) -> Floats:
    """Return column prices at which each row of an optimal pairing has its best column.

    Bellman and Ford: each price is the longest path to its column, where a step from the column
    of row i to column j is what the row would gain there. Without an optimal pairing there is no
    end; as many rounds as rows are made at most.
    """
    size = len(columns)
    paired = scores[np.arange(size), columns]
    step = np.empty_like(scores)
    np.subtract(scores, paired[:, None], out=step)
    prices = np.zeros(size)
    work = np.empty_like(scores)
    tolerance = 4 * np.finfo(np.float64).eps * float(np.abs(scores).max(initial=0))
    for _ in range(size):
        np.add(step, prices[columns][:, None], out=work)
        raised = np.maximum(prices, work.max(axis=0))
        if (raised - prices).max(initial=0) <= tolerance:
            break
        prices = raised
    return prices


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
