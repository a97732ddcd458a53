"""Passes over one full matrix in memory, compiled by numba."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.dense import Array, Beyond, Dense, Extremes, Floats, namespace
from rebasin_hub.assign.edges import Edges
from rebasin_hub.machinecode import loaded
from rebasin_hub.permute import Index

__all__ = ["Compiled", "compiled_code", "dense"]


class Compiled(Dense):
    """The passes of `Dense` over a C-contiguous float32 or float64 array in memory."""

    def finite(self) -> bool:
        """Tell whether there is neither NaN nor infinity."""
        from rebasin_hub.assign import kernels

        bits = self.scores.view(np.uint32 if self.scores.itemsize == 4 else np.uint64)  # noqa: PLR2004
        exponent = np.array(np.inf, dtype=self.scores.dtype).view(bits.dtype)[()]
        return bool(kernels.all_finite(bits, exponent))

    def extremes(self) -> Extremes | None:
        """Return where each row and column is largest; None if an entry is not finite."""
        from rebasin_hub.assign import kernels

        (n, m), kind = self.shape, self.scores.dtype
        row_best, column_best = np.zeros(n, np.int32), np.zeros(m, np.int32)
        row_maxima, column_maxima = np.empty(n, kind), np.full(m, -np.inf, kind)
        if not kernels.extremes(self.scores, row_best, row_maxima, column_best, column_maxima):
            return None
        return Extremes(
            row_best.astype(np.int64),
            row_maxima.astype(np.float64),
            column_best.astype(np.int64),
            column_maxima.astype(np.float64),
        )

    def row_floors(self, prices: Floats, k: int) -> tuple[NDArray[Any], Index]:
        """Return what about k entries of each row of `scores - prices` reach, and a largest one."""
        from rebasin_hub.assign import quantiles

        n, kind = self.shape[0], self.scores.dtype
        floors, best = np.empty(n, kind), np.empty(n, np.int64)
        quantiles.row_floors(self.scores, prices.astype(kind), k, floors, best)
        return floors, best

    def column_floors(self, prices: NDArray[Any], k: int) -> NDArray[Any]:
        """Return what about k entries of each column of `scores - prices[:, None]` reach."""
        from rebasin_hub.assign import quantiles

        (n, m), kind = self.shape, self.scores.dtype
        peaks, floors = np.empty((min(quantiles.PARTS, n), m), kind), np.empty(m, kind)
        quantiles.column_floors(self.scores, prices.astype(kind), k, peaks, floors)
        return floors

    def above(self, floors: NDArray[Any], prices: NDArray[Any], usual: int) -> Edges:
        """Return the entries with `entry - price >= floor`; not all if they are many."""
        from rebasin_hub.assign import kernels, quantiles

        (n, m), kind = self.shape, self.scores.dtype
        room = n * usual + 4 * m + kernels.BLOCK
        first, columns, entries = (
            np.empty(n + 1, np.int64),
            np.empty(room, np.int32),
            np.empty(room),
        )
        quantiles.above(
            self.scores, floors.astype(kind), prices.astype(kind), usual, first, columns, entries
        )
        return Edges(first, columns[: first[-1]], entries[: first[-1]])

    def beyond(self, rows: Index, prices: Floats, floors: Floats, slack: float, k: int) -> Beyond:
        """Return for some rows the largest `entry - price`, and at most k above floor + slack."""
        from rebasin_hub.assign import kernels

        maxima, counts = np.empty(len(rows)), np.zeros(len(rows), np.int64)
        places = np.empty((len(rows), 2 * (k + kernels.BLOCK)), np.int32)
        kernels.beyond(self.scores, rows, prices, floors, slack, k, maxima, counts, places)
        kept = np.arange(k) < counts[:, None]
        return Beyond(maxima, np.repeat(rows, counts), places[:, :k][kept].astype(np.int64))

    def part(self, rows: Index, columns: Index) -> Dense:
        """Return the matrix of some rows and columns."""
        from rebasin_hub.assign import kernels

        made = np.empty((len(rows), len(columns)), self.scores.dtype)
        kernels.gather(self.scores, rows, columns, made)
        return Compiled(made, self.xp)


def compiled_code() -> ModuleType | None:
    """Return the compiled passes, or None where numba is not installed."""
    return loaded("rebasin_hub.assign.kernels")


def dense(scores: Array) -> Dense:
    """Return the passes for a matrix: compiled ones for float arrays in memory, if they may be."""
    xp = namespace(scores)
    if isinstance(scores, np.ndarray) and compiled_code() is not None:
        return Compiled(np.ascontiguousarray(scores), xp)
    return Dense(scores, xp)
