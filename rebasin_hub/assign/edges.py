"""Kept entries of a matrix: a bipartite graph of few edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.permute import Index

__all__ = ["Edges", "Entries"]

Floats = NDArray[np.float64]


class Entries(Protocol):
    """A matrix of which single entries can be read."""

    shape: tuple[int, int]

    def entries(self, rows: Index, columns: Index) -> Floats:
        """Return single entries, in float64."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Kept entries in the order of rows, then columns: `first[i]` is where row `i` begins."""

    first: Index
    columns: NDArray[np.int32]
    entries: Floats

    @classmethod
    def of(cls, matrix: Entries, rows: Index, columns: Index) -> Edges:
        """Read entries from a matrix, in any order; those that are named twice count once."""
        count, width = matrix.shape
        key = np.unique(rows * width + columns)
        rows, columns = np.divmod(key, width)
        first = np.searchsorted(rows, np.arange(count + 1))
        return cls(first, columns.astype(np.int32), matrix.entries(rows, columns))

    @property
    def rows(self) -> Index:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    def extended(self, matrix: Entries, rows: Index, columns: Index) -> Edges:
        """Return these entries and others of the same matrix."""
        width = matrix.shape[1]
        key = self.rows * width + self.columns
        wanted = np.unique(rows * width + columns)
        place = np.searchsorted(key, wanted)
        new = key[np.minimum(place, len(key) - 1)] != wanted if len(key) else wanted >= 0
        place = place[new]
        rows, columns = np.divmod(wanted[new], width)
        added = np.bincount(rows, minlength=len(self.first) - 1)
        return Edges(
            self.first + np.append(0, np.cumsum(added)),
            np.insert(self.columns, place, columns.astype(np.int32)),
            np.insert(self.entries, place, matrix.entries(rows, columns)),
        )
