"""Passes over one full matrix, on NumPy or on torch and its devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.edges import Edges
from rebasin_hub.permute import Index

__all__ = ["Array", "Beyond", "Dense", "Extremes", "Floats", "namespace"]

Array: TypeAlias = Any
"""An array of NumPy or of torch."""

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 1 << 24
"""Entries of a temporary array on a device."""

CACHED = 1 << 18
"""Entries of a temporary array in memory: what several passes over one block find in the cache."""

PARTS = 128
"""Parts of a line whose maxima are compared to find about its k-th largest entry."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """Where the largest entry of each row and of each column stands, and how large it is."""

    row_best: Index
    row_maxima: Floats
    column_best: Index
    column_maxima: Floats


@dataclass(frozen=True, eq=False)
class Beyond:
    """The largest `entry - price` of each row, and the entries above the row's floor."""

    maxima: Floats
    rows: Index
    columns: Index


class Dense:
    """Passes by the array API: blocks of the matrix are compared where the matrix lies."""

    def __init__(self, scores: Array, xp: Any) -> None:  # noqa: ANN401
        self.scores, self.xp = scores, xp
        self.shape: tuple[int, int] = tuple(scores.shape)

    @property
    def epsilon(self) -> float:
        """The rounding of the matrix's own numbers, relative to them."""
        return float(self.xp.finfo(self.scores.dtype).eps)

    def finite(self) -> bool:
        """Tell whether there is neither NaN nor infinity."""
        xp = self.xp
        return all(bool(xp.all(xp.isfinite(self.scores[part, :]))) for part in self._blocks(0))

    def best(self, prices: Floats | None) -> Index:
        """Return where the largest `entry - price` of each row stands, compared in float64."""
        xp, places = self.xp, []
        for part in self._blocks(0):
            gain = self.scores[part, :]
            if prices is not None:
                gain = xp.astype(gain, xp.float64) - self._there(prices)[None, :]
            places.append(self._numpy(xp.argmax(gain, axis=1)))
        return _joined(places)

    def extremes(self) -> Extremes | None:
        """Return where each row and column is largest; None if an entry is not finite."""
        xp, rows, highest = self.xp, [], []
        best, maxima = np.zeros(self.shape[1], np.int64), np.full(self.shape[1], -np.inf)
        for part in self._blocks(0):
            block = self.scores[part, :]
            highest.append(self._numpy(xp.max(block, axis=1)))
            peak = self._numpy(xp.max(block, axis=0))
            # A maximum is NaN or infinite where an entry is; only minus infinity is hidden.
            if not np.isfinite(peak).all() or not math.isfinite(float(xp.min(block))):
                return None
            rows.append(self._numpy(xp.argmax(block, axis=1)))
            larger = np.flatnonzero(peak > maxima)
            if len(larger):
                found = xp.argmax(xp.take(block, self._there(larger), axis=1), axis=0)
                best[larger], maxima[larger] = self._numpy(found) + part.start, peak[larger]
        return Extremes(_joined(rows), _joined(highest, float).astype(float), best, maxima)

    def row_floors(self, prices: Floats, k: int) -> tuple[NDArray[Any], Index]:
        """Return what about k entries of each row of `scores - prices` reach, and a largest one.

        That is the k-th largest of the maxima of 128 parts, as the k largest seldom share a part.
        """
        xp, floors, best = self.xp, [], []
        price = xp.astype(self._there(prices), self.scores.dtype)
        parts = min(PARTS, self.shape[1])
        whole = self.shape[1] // parts * parts
        for part in self._blocks(0):
            gain = self.scores[part, :] - price[None, :]
            peaks = xp.max(xp.reshape(gain[:, :whole], (gain.shape[0], -1, parts)), axis=1)
            rest = gain.shape[1] - whole
            if rest:
                peaks[:, :rest] = xp.maximum(peaks[:, :rest], gain[:, whole:])
            floors.append(self._numpy(xp.sort(peaks, axis=1)[:, -k]))
            best.append(self._numpy(xp.argmax(gain, axis=1)))
        return _joined(floors, self.scores.dtype), _joined(best)

    def column_floors(self, prices: NDArray[Any], k: int) -> NDArray[Any]:
        """Return what about k entries of each column of `scores - prices[:, None]` reach."""
        xp, n = self.xp, self.shape[0]
        price = xp.astype(self._there(prices), self.scores.dtype)[:, None]
        parts, peaks = min(PARTS, n), []
        for g in range(parts):
            part = slice(g * n // parts, (g + 1) * n // parts)
            peaks.append(xp.max(self.scores[part, :] - price[part], axis=0))
        return self._numpy(xp.sort(xp.stack(peaks), axis=0)[-k, :])

    def above(self, floors: NDArray[Any], prices: NDArray[Any], usual: int) -> Edges:
        """Return the entries with `entry - price >= floor`; not all if they are many.

        While there are more than `usual` a row and twice the columns on top, the matrix is full of
        ties, of which a row takes only so many.
        """
        xp, width = self.xp, self.shape[1]
        price, floor = (xp.astype(self._there(x), self.scores.dtype) for x in (prices, floors))
        counts, columns, entries, room = [], [], [], 2 * width
        for part in self._blocks(0):
            block = self.scores[part, :]
            hit = xp.reshape(block - price[None, :] >= floor[part, None], (-1,))
            row, column = np.divmod(self._numpy(xp.nonzero(hit)[0]), width)
            count = np.bincount(row, minlength=block.shape[0])
            room += usual * len(count)
            if len(row) > room:
                rank = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
                row, column = row[rank < usual], column[rank < usual]
                count = np.bincount(row, minlength=len(count))
            room -= len(row)
            counts.append(count)
            columns.append(column.astype(np.int32))
            entries.append(self._numpy(block[self._there(row), self._there(column)]))
        first = np.append(0, np.cumsum(_joined(counts)))
        return Edges(first, _joined(columns, np.int32), _joined(entries, float).astype(float))

    def beyond(self, rows: Index, prices: Floats, floors: Floats, slack: float, k: int) -> Beyond:
        """Return for some rows the largest `entry - price`, and at most k above floor + slack.

        `floors`, and `maxima` of the result, have one item for each of `rows`.
        """
        xp, full = self.xp, len(rows) == self.shape[0]
        price, maxima, lines, columns = self._there(prices), [], [], []
        for part in self._blocks(0, len(rows)):
            index = part if full else self._there(rows[part])
            gain = xp.astype(self.scores[index, :], xp.float64) - price[None, :]
            maxima.append(self._numpy(xp.max(gain, axis=1)))
            limit = floors[part] + slack
            hit = np.flatnonzero(maxima[-1] > limit)
            if len(hit):
                found = self._numpy(gain[self._there(hit), :])
                line, other = np.nonzero(found > limit[hit, None])
                keep = _largest(line, found[line, other], k)
                lines.append(rows[part][hit[line[keep]]])
                columns.append(other[keep])
        return Beyond(np.maximum(_joined(maxima, float), floors), _joined(lines), _joined(columns))

    def entries(self, rows: Index, columns: Index) -> Floats:
        """Return single entries, in float64."""
        found = self.scores[self._there(rows), self._there(columns)]
        return np.asarray(self._numpy(found), dtype=np.float64)

    def lines(self, axis: int, index: Index) -> NDArray[Any]:
        """Return whole rows (axis 0) or columns (axis 1) as NumPy rows."""
        found = self.xp.take(self.scores, self._there(index), axis=axis)
        return np.ascontiguousarray(self._numpy(found) if axis == 0 else self._numpy(found).T)

    def equal(self, axis: int, lines: Index, others: Index) -> NDArray[np.bool_]:
        """Tell for pairs of lines whether all their entries are equal."""
        step = max(1, BLOCK // max(1, self.shape[1 - axis]))
        same = [
            self._equal(axis, lines[first : first + step], others[first : first + step])
            for first in range(0, len(lines), step)
        ]
        return _joined(same, bool)

    def _equal(self, axis: int, lines: Index, others: Index) -> NDArray[np.bool_]:
        take = self.xp.take
        a, b = (take(self.scores, self._there(x), axis=axis) for x in (lines, others))
        return self._numpy(self.xp.all(a == b, axis=1 - axis))

    def part(self, rows: Index, columns: Index) -> Dense:
        """Return the matrix of some rows and columns."""
        made = self.xp.take(self.scores, self._there(rows), axis=0)
        return type(self)(self.xp.take(made, self._there(columns), axis=1), self.xp)

    def numpy(self) -> NDArray[Any]:
        """Return the whole matrix as NumPy's, without a copy if it is one."""
        return self._numpy(self.scores)

    def copied(self) -> NDArray[Any]:
        """Return the whole matrix as NumPy's, in memory of its own."""
        found = self.numpy()
        here = isinstance(self.scores, np.ndarray) or self.scores.device.type == "cpu"
        return found.copy() if here else found

    def float64(self) -> Floats:
        """Return the whole matrix as NumPy's float64."""
        return np.asarray(self._numpy(self.scores), dtype=np.float64)

    def _blocks(self, axis: int, count: int | None = None) -> Iterator[slice]:
        block = CACHED if isinstance(self.scores, np.ndarray) else BLOCK
        step = max(1, block // max(1, self.shape[1 - axis]))
        count = self.shape[axis] if count is None else count
        for first in range(0, count, step):
            yield slice(first, min(first + step, count))

    def _there(self, array: NDArray[Any]) -> Array:
        return (
            array
            if self.xp.__name__.endswith("numpy")
            else self.xp.asarray(np.ascontiguousarray(array), device=self.scores.device)
        )

    @staticmethod
    def _numpy(array: Array) -> NDArray[Any]:
        return np.asarray(array if isinstance(array, np.ndarray) else array.cpu().numpy())


def _joined(parts: list[NDArray[Any]], dtype: Any = np.int64) -> NDArray[Any]:  # noqa: ANN401
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _largest(line: Index, value: NDArray[Any], k: int) -> Index:
    """Return where the k largest values of each line stand, lines in order, largest first."""
    order = np.lexsort((-value, line))
    ordered = line[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.asarray(order[rank < k], dtype=np.int64)


def namespace(array: Array) -> Any:  # noqa: ANN401
    """Return the array API's functions for a NumPy array or a torch tensor."""
    if isinstance(array, np.ndarray):
        import array_api_compat.numpy

        return array_api_compat.numpy
    import array_api_compat

    return array_api_compat.array_namespace(array)
