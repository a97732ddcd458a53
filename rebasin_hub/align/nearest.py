"""Matching units that are nearly the same in both models, proven without all of their products.

The sum of ⟨a_i, b_p(i)⟩ over a numbering p is largest where that of ⟨a_i, b_p(i)⟩ − |b_p(i)|²/2
is, and so where every a_i has its nearest b. Checkpoints of one lineage (a fine-tune, a renumbered
copy) have such pairs: far nearer to one another than to anything else. Some coordinates are then
enough to see it, and to prove it: what all others add to a product is at most the product of the
norms of what they are made of (Cauchy and Schwarz).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.later import Later, made
from rebasin_hub.align.room import Room
from rebasin_hub.permute import Index

__all__ = ["nearest"]

LEAST_UNITS = 1024
"""Units from which on a product of all pairs takes long enough to be avoided."""

LEAST_SAVED = 4
"""How many times narrower than all the sampled coordinates have to be, to be worth a trial."""

PROBED_UNITS = 32
PROBED_WIDTH = 256

BLOCK = 1 << 21
"""Entries of bounds that are held at a time."""

CHUNK = 1 << 20
"""Numbers of each model that are multiplied pair by pair at a time."""

MORE = 4
"""By how much more coordinates the units get that are not proven, the fewer of which there are."""

WIDEST = 1 << 18
"""Coordinates beyond which bounds on rounding in float32 say little."""

ROUNDING, EXACT_ROUNDING = 2.0**-24, 2.0**-53
"""Of one operation in float32 and in float64."""

VANISHED = 2.0**-120
"""More than what one product and its factors, all at most 1, lose where float32 has no numbers."""

LARGEST, SMALLEST = 1e30, 1e-30
"""Squares of norms beyond which other parts of the program may fail first."""

Floats = NDArray[np.float64]


Pairs: TypeAlias = Sequence[tuple[Array | Later, Array | Later]]


def nearest(backend: Backend, pairs: Pairs) -> Index | None:
    """Return the best numbering of B's units if every one of A's has its nearest there.

    Args:
        backend: where the arrays are.
        pairs: for each block the units of A and those of B as rows, (n, k) each; products are
            summed over the blocks.

    The law: a numbering that is returned is the only one with the largest sum of products, in exact
    arithmetic on the numbers as they are; all errors of rounding are bounded. Units that are zero
    in both models may be in any order, and keep theirs.

    Returns None, after far less work than the products of all pairs, where that is not so or
    cannot be shown.

    """
    size, width = int(pairs[0][0].shape[0]), sum(int(a.shape[1]) for a, _ in pairs)
    if size < LEAST_UNITS or width < LEAST_SAVED * PROBED_WIDTH or not _is_exact(backend):
        return None
    needed = _needed(backend, pairs, width)
    if needed is None:
        return None
    search = _Search(*(_Units.of(backend, blocks) for blocks in zip(*pairs, strict=True)))
    return search.run(needed)


def _needed(backend: Backend, pairs: Pairs, width: int) -> int | None:
    """Return how many coordinates should tell pairs from others; None if that saves nothing.

    It is judged by a few units. Of Gaussian ones with variance 1, the squared distance of two that
    have nothing in common is 2d ± √(8d) over d coordinates: even the nearest of a hundred million
    is beyond 2d − 16 √d. That has to be more than the distance of a pair over all coordinates.
    """
    xp, size = backend.xp, int(pairs[0][0].shape[0])
    some = np.arange(0, size, -(-size // PROBED_UNITS))
    blocks_a, blocks_b = zip(*pairs, strict=True)
    a = _rows(backend, _sampled(backend, blocks_a, PROBED_WIDTH), some)
    b = _sampled(backend, blocks_b, PROBED_WIDTH)
    near = a @ xp.matrix_transpose(b) - xp.sum(b * b, axis=1) / 2
    best = backend.numpy(xp.argmax(near, axis=1))
    squares, products = np.zeros(len(some)), np.zeros(len(some))
    for left, right in pairs:
        x, y = _rows(backend, made(left), some), _rows(backend, made(right), best)
        products += backend.row_products(x, y)
        squares += backend.row_products(x, x) + backend.row_products(y, y)
    alive = squares > 0
    if not alive.any():
        return None
    share = float(np.median(1 - 2 * products[alive] / squares[alive]))
    distance = 2 * width * max(share, 0.0)
    needed = 1.25 * ((16 + math.sqrt(256 + 8 * distance)) / 4) ** 2
    return int(needed) if LEAST_SAVED * needed < width and needed < WIDEST else None


def _sampled(backend: Backend, blocks: Sequence[Array | Later], width: int) -> Array:
    """Return evenly spaced coordinates of units, side by side, in the type that holds them all."""
    ends = np.cumsum([int(rows.shape[1]) for rows in blocks])
    places = np.arange(width) * int(ends[-1]) // width
    parts = []
    for rows, end in zip(blocks, ends, strict=True):
        first = end - int(rows.shape[1])
        own = places[(first <= places) & (places < end)] - first
        parts.append(backend.take(made(rows), backend.asarray(own), 1))
    kind = backend.product_type(*(part.dtype for part in parts))
    return backend.xp.concat([backend.xp.astype(part, kind, copy=False) for part in parts], axis=1)


@dataclass(frozen=True, eq=False)
class _Units:
    """The units of one model as rows of several blocks, with the squares of their norms."""

    backend: Backend
    blocks: Sequence[Array | Later]
    squares: Floats

    @classmethod
    def of(cls, backend: Backend, blocks: Sequence[Array | Later]) -> _Units:
        return cls(backend, blocks, _row_products(backend, zip(blocks, blocks, strict=True)))

    def any(self, units: Index) -> bool:
        """Tell whether a number of these units is not zero; its square may have vanished."""
        taken = (_rows(self.backend, made(x), units) for x in self.blocks) if len(units) else ()
        return any(bool(self.backend.xp.any(rows != 0)) for rows in taken)

    def sampled(self, width: int, scale: float, units: Index | None) -> tuple[Array, Floats]:
        """Return evenly spaced coordinates in float32 and a bound on the norm of the others."""
        sample = _rows(self.backend, _sampled(self.backend, self.blocks, width), units)
        squares = self.squares if units is None else self.squares[units]
        rest = squares - _row_products(self.backend, [(sample, sample)])
        # Sums of squares are wrong by a rounding for each of their numbers at most.
        numbers = sum(int(rows.shape[1]) for rows in self.blocks)
        rest = np.maximum(rest, 0) + 4 * numbers * EXACT_ROUNDING * squares
        xp = self.backend.xp
        return xp.astype(sample * scale, xp.float32), np.sqrt(rest) * scale


@dataclass(frozen=True, eq=False)
class _Search:
    a: _Units
    b: _Units

    @property
    def width(self) -> int:
        """How many numbers a unit has."""
        return sum(int(rows.shape[1]) for rows in self.a.blocks)

    def run(self, needed: int) -> Index | None:
        """Prove pairs by as many coordinates as needed, and by more where these are too few."""
        largest = max(float(self.a.squares.max()), float(self.b.squares.max()))
        if not SMALLEST < largest < LARGEST:
            return None
        live = np.flatnonzero(self.a.squares)
        width: int | None = needed
        best = np.full(len(self.a.squares), -1)
        while width is not None and len(live):
            best[live], proven = self._matched(live, width)
            rest, live = len(live), live[~proven]
            # So it is no more work than what has been done.
            again = len(live) * MORE <= rest and width < min(self.width, WIDEST)
            width = width * MORE if again else None
        return None if len(live) else self._completed(best)

    def _completed(self, best: Index) -> Index | None:
        """Let units that are zero in both models keep their order; None if there is no pairing."""
        idle = np.flatnonzero(best < 0)
        left = np.setdiff1d(np.arange(len(best)), best)
        if len(left) != len(idle) or self.a.any(idle) or self.b.any(left):
            return None
        own = np.isin(idle, left)
        best[idle[own]] = idle[own]
        best[idle[~own]] = left[~np.isin(left, idle)]
        return best

    def _matched(self, units: Index, width: int) -> tuple[Index, NDArray[np.bool_]]:
        """Return the nearest of B for units of A, and for which of them that is proven."""
        best, second = self._bounds(units, width)
        squares = self.b.squares[best]
        wrong = np.sqrt(self.a.squares[units] * squares) + squares
        own = self._products(units, best) - squares / 2
        return best, second < own - 4 * self.width * EXACT_ROUNDING * wrong

    def _products(self, units: Index, others: Index) -> Floats:
        """Return ⟨a, b⟩ for pairs of units."""
        blocks = zip(self.a.blocks, self.b.blocks, strict=True)
        return _row_products(self.a.backend, blocks, units, others)

    def _bounds(self, units: Index, width: int) -> tuple[Index, Floats]:
        """Return for units of A where the largest bound on ⟨a, b⟩ − |b|²/2 is, and the second.

        A bound is one product of d + 3 numbers in float32. Two of them bound by how much that
        product and the rounding of its factors may be wrong, in whatever order it is summed. All
        is scaled by one power of two, so that nothing that counts overflows or vanishes.
        """
        backend, xp = self.a.backend, self.a.backend.xp
        width = min(width, self.width)
        largest = max(float(self.a.squares.max()), float(self.b.squares.max()))
        scale = 2.0 ** -math.frexp(math.sqrt(largest))[1]
        slack = 4 * (width + 4) * ROUNDING
        sample_a, rest_a = self.a.sampled(width, scale, units)
        sample_b, rest_b = self.b.sampled(width, scale, None)
        norms_a, norms_b = (scale * np.sqrt(side.squares) for side in (self.a, self.b))
        ones = np.ones(len(units))
        a = _beside(backend, sample_a, rest_a, slack * norms_a[units], ones)
        b = _beside(backend, sample_b, rest_b, norms_b, (slack - 1) * norms_b**2 / 2)
        best, second = np.empty(len(units), np.int64), np.empty(len(units))
        step = max(1, BLOCK // len(norms_b))
        for first in range(0, len(units), step):
            part = slice(first, first + step)
            bounds = a[part] @ xp.matrix_transpose(b)
            top = xp.argmax(bounds, axis=1)
            bounds[backend.asarray(np.arange(len(top))), top] = -np.inf
            best[part] = backend.numpy(top)
            second[part] = backend.numpy(xp.max(bounds, axis=1))
        return best, (second + width * VANISHED) / scale**2


def _beside(backend: Backend, sample: Array, *columns: Floats) -> Array:
    """Return a matrix with more columns, in float32."""
    more = backend.asarray(np.stack(columns, axis=1).astype(np.float32))
    return backend.xp.concat([sample, more], axis=1)


def _row_products(
    backend: Backend,
    blocks: Iterable[tuple[Array | Later, Array | Later]],
    units: Index | None = None,
    others: Index | None = None,
) -> Floats:
    """Return ⟨a, b⟩ for pairs of rows, over all blocks: products and sums in float64."""
    size, room = None if units is None else len(units), Room()
    total: Floats = np.zeros(0)
    for left, right in blocks:
        a = made(left)
        b = a if right is left else made(right)
        size = int(a.shape[0]) if size is None else size
        total = total if len(total) else np.zeros(size)
        for part, columns in _parts(backend, a, size):
            room.clear()
            x, y = (
                _rows(backend, side[:, columns], index, part, room)
                for side, index in ((a, units), (b, others))
            )
            total[part] += backend.row_products(x, y)
        del a, b, x, y  # before the next ones are made
    return total


def _parts(backend: Backend, array: Array, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of a part at a time, whole ones of those that memory holds."""
    length, whole = int(array.shape[1]), slice(None)
    if backend.is_fastest(array, 1):
        step = max(1, CHUNK // max(1, length))
        yield from ((slice(first, first + step), whole) for first in range(0, size, step))
    else:
        step = max(1, CHUNK // max(1, size))
        yield from ((whole, slice(first, first + step)) for first in range(0, length, step))


def _rows(
    backend: Backend,
    array: Array,
    index: Index | None,
    part: slice = slice(None),
    room: Room | None = None,
) -> Array:
    """Return a part of the rows at an index, or of all."""
    if index is None or np.array_equal(index, np.arange(array.shape[0])):
        return array[part]
    return backend.take(array, backend.asarray(index[part]), 0, room)


def _is_exact(backend: Backend) -> bool:
    """Tell whether products of float32 matrices are those of float32, and there is float64.

    torch can be told to round the factors first, in several ways; a product shows it.
    """
    if backend.device is None:
        return True
    if backend.widest != np.float64:
        return False
    size = 256
    fine = np.full((size, size), 1 + 2.0**-20, np.float32)
    product = backend.asarray(fine) @ backend.asarray(np.eye(size, dtype=np.float32))
    return np.array_equal(backend.numpy(product), fine)
