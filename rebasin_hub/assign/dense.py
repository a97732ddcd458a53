"""Passes over one full matrix: on NumPy, on torch and its devices, or compiled by numba."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.permute import Index

__all__ = ["Array", "Beyond", "Compiled", "Dense", "Top", "compiled_code", "dense", "namespace"]

Array: TypeAlias = Any
"""An array of NumPy or of torch."""

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 1 << 24
"""Entries of a temporary array, on the CPU or on a device."""

MOST = 8
"""A pass that keeps more than this many times what it was asked for met a matrix full of ties."""


@dataclass(frozen=True, eq=False)
class Top:
    """About the k largest entries of each line (row or column) of a matrix minus prices.

    `floor` and `best` have one item a line: the least kept value, and where the largest stands.
    `lines` and `others` are the kept entries: the line, and the index on the other axis.
    """

    floor: NDArray[Any]
    best: Index
    lines: Index
    others: Index

    @property
    def share(self) -> float:
        """The share of distinct places among the largest entries: 1 is a permutation."""
        return len(np.unique(self.best)) / max(1, len(self.best))


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

    def top_rows(self, prices: Floats, k: int) -> Top | None:
        """Return the largest entries of each row of `scores - prices`; None if too many tie."""
        return self._top(0, prices, k)

    def top_columns(self, prices: Floats, k: int) -> Top | None:
        """Return the largest entries of each column of `scores - prices[:, None]`, likewise."""
        return self._top(1, prices, k)

    def beyond(self, prices: Floats, floors: Floats, slack: float, k: int) -> Beyond:
        """Return each row's largest `entry - price`, and at most k entries above floor + slack."""
        xp = self.xp
        price, maxima, rows, columns = self._there(prices), [], [], []
        for part in self._blocks(0):
            gain = xp.astype(self.scores[part, :], xp.float64) - price[None, :]
            maxima.append(self._numpy(xp.max(gain, axis=1)))
            hit = np.flatnonzero(maxima[-1] > floors[part] + slack)
            if len(hit):
                found = self._numpy(gain[self._there(hit), :])
                limit = floors[part][hit] + slack
                line, other = np.nonzero(found > limit[:, None])
                keep = _largest(line, found[line, other], k)
                rows.append(hit[line[keep]] + part.start)
                columns.append(other[keep])
        return Beyond(np.maximum(_joined(maxima, float), floors), _joined(rows), _joined(columns))

    def column_maxima(self, prices: Floats) -> Floats:
        """Return the largest of `scores + prices[:, None]` in each column, in float64."""
        xp, highest = self.xp, np.full(self.shape[1], -np.inf)
        for part in self._blocks(0):
            gain = xp.astype(self.scores[part, :], xp.float64) + self._there(prices[part])[:, None]
            highest = np.maximum(highest, self._numpy(xp.max(gain, axis=0)))
        return highest

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

    def float64(self) -> Floats:
        """Return the whole matrix as NumPy's float64."""
        return np.asarray(self._numpy(self.scores), dtype=np.float64)

    def _top(self, axis: int, prices: Floats, k: int) -> Top | None:
        """Keep what is above a floor that a sample of each line gives, then k a line of it."""
        xp, count = self.xp, self.shape[axis]
        length = self.shape[1 - axis]
        stride = 8 if length >= 64 * k else 1
        nth = min(max(k if stride == 1 else k // 4, 1), -(-length // stride))
        price = xp.astype(self._there(prices), self.scores.dtype)
        lines, others, gains = [], [], []
        for part in self._blocks(axis):
            block = self.scores[part, :] if axis == 0 else self.scores[:, part].T
            gain = block - price[None, :]
            floor = xp.sort(gain[:, ::stride], axis=1)[:, -nth]
            line, other = xp.nonzero(gain >= floor[:, None])
            if line.shape[0] > MOST * k * gain.shape[0]:
                return None
            lines.append(self._numpy(line) + part.start)
            others.append(self._numpy(other))
            gains.append(self._numpy(gain[line, other]))
        line, other, gain = _joined(lines), _joined(others), _joined(gains, self.scores.dtype)
        order = _largest(line, gain, k)
        line, other, gain = line[order], other[order], gain[order]
        starts = np.searchsorted(line, np.arange(count + 1))
        return Top(gain[starts[1:] - 1], other[starts[:-1]], line, other)

    def _blocks(self, axis: int) -> Iterator[slice]:
        step = max(1, BLOCK // max(1, self.shape[1 - axis]))
        for first in range(0, self.shape[axis], step):
            yield slice(first, min(first + step, self.shape[axis]))

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


class Compiled(Dense):
    """The same passes over a C-contiguous float32 or float64 array in memory, by numba."""

    def __init__(self, scores: NDArray[Any], xp: Any) -> None:  # noqa: ANN401
        super().__init__(scores, xp)
        code = compiled_code()
        assert code is not None
        self.code = code

    def finite(self) -> bool:
        """Tell whether there is neither NaN nor infinity."""
        bits = self.scores.view(np.uint32 if self.scores.itemsize == 4 else np.uint64)  # noqa: PLR2004
        exponent = np.array(np.inf, dtype=self.scores.dtype).view(bits.dtype)[()]
        return bool(self.code.all_finite(bits, exponent))

    def beyond(self, prices: Floats, floors: Floats, slack: float, k: int) -> Beyond:
        """Return each row's largest `entry - price`, and at most k entries above floor + slack."""
        n = self.shape[0]
        maxima, counts = np.empty(n), np.zeros(n, np.int64)
        places = np.empty((n, 2 * (k + self.code.BLOCK)), np.int32)
        self.code.beyond(self.scores, prices, floors, slack, k, maxima, counts, places)
        rows = np.repeat(np.arange(n), counts)
        return Beyond(maxima, rows, places[:, :k][_ragged(counts, k)].astype(np.int64))

    def part(self, rows: Index, columns: Index) -> Dense:
        """Return the matrix of some rows and columns."""
        made = np.empty((len(rows), len(columns)), self.scores.dtype)
        self.code.gather(self.scores, rows, columns, made)
        return Compiled(made, self.xp)

    def _top(self, axis: int, prices: Floats, k: int) -> Top | None:
        kind = self.scores.dtype
        count = self.shape[axis]
        width = 4 * k + 2 * self.code.BLOCK
        counts = np.zeros(count, np.int64)
        values, places = np.empty((count, width), kind), np.empty((count, width), np.int32)
        price = prices.astype(kind)
        if axis == 0:
            self.code.top_rows(self.scores, price, k, counts, values, places)
        else:
            floors = np.full(count, -np.inf, kind)
            self.code.top_columns(self.scores, price, k, counts, values, places, floors)
        values, places, kept = values[:, :k], places[:, :k], _ragged(counts, k)
        floor = np.min(values, axis=1, where=kept, initial=np.inf)
        masked = np.where(kept, values, -np.inf)
        best = np.take_along_axis(places, masked.argmax(1)[:, None], 1)[:, 0].astype(np.int64)
        return Top(floor, best, np.repeat(np.arange(count), counts), places[kept].astype(np.int64))


def _ragged(counts: Index, width: int) -> NDArray[np.bool_]:
    return np.asarray(np.arange(width) < counts[:, None])


@functools.cache
def compiled_code() -> ModuleType | None:
    """Return the compiled passes, or None where numba is not installed."""
    try:
        from rebasin_hub.assign import kernels
    except ImportError:
        return None
    return kernels


def namespace(array: Array) -> Any:  # noqa: ANN401
    """Return the array API's functions for a NumPy array or a torch tensor."""
    if isinstance(array, np.ndarray):
        import array_api_compat.numpy

        return array_api_compat.numpy
    import array_api_compat

    return array_api_compat.array_namespace(array)


def dense(scores: Array, *, fast: bool = True) -> Dense:
    """Return the passes for a matrix: compiled ones for float arrays in memory, if they may be."""
    xp = namespace(scores)
    if fast and isinstance(scores, np.ndarray) and compiled_code() is not None:
        return Compiled(np.ascontiguousarray(scores), xp)
    return Dense(scores, xp)
