"""Blocks on which two dependents of one parent cross: `in` and `out` of a convolution's groups.

The Gram array over both has (out · in)² numbers for each pair of the parent's indices. With the
numbering of one dependent put in, out² or in² remain, and a matrix product gives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.permute import Index, SymmetryGroup

__all__ = ["Crossed", "Numbering", "sources"]

GATHERED = 1 << 22
"""Numbers of each model that are gathered at a time, if one pair has no more."""

Numbering: TypeAlias = dict[str, Index]
"""For each factor its renumbering: (batch, sizes of the ancestors below the batch, own size)."""


@dataclass(frozen=True, eq=False)
class Crossed:
    """Blocks of the factors `kind` for a batch of pairs: element n is `a[rows[n]], b[columns[n]]`.

    Each of `blocks` is (A's, B's), both (parent's indices, size of each factor, all the rest).
    """

    backend: Backend
    kind: tuple[str, ...]
    blocks: tuple[tuple[Array, Array], ...]
    rows: Index
    columns: Index

    def __len__(self) -> int:
        """Return the size of the batch."""
        return len(self.rows)

    def gram(
        self, group: SymmetryGroup, rest: tuple[str, ...], numbering: Numbering
    ) -> NDArray[Any]:
        """Return the Gram array over the factors `rest`, with the numbering of the others put in.

        Shape: (batch, size in A of each, size in B of each).
        """
        order = (*rest, *(name for name in self.kind if name not in rest))
        sizes = [group.factors[name].size for name in order]
        kept = sizes[: len(rest)]
        step = max(1, GATHERED // max(math.prod(a.shape[1:]) for a, _ in self.blocks))
        parts = []
        for first in range(0, len(self), step):
            part = slice(first, first + step)
            batch, *grid = np.ogrid[tuple(slice(n) for n in (len(self.rows[part]), *sizes))]
            new = dict(zip(order, grid, strict=True))
            fixed = {name: new[name] for name in order[len(rest) :]}
            old = new | sources(group, {n: numbering[n][part] for n in fixed}, batch, fixed)
            total = sum(
                self.backend.wide(self._rows(a, self.rows[part], new, math.prod(kept)))
                @ self.backend.xp.matrix_transpose(
                    self.backend.wide(self._rows(b, self.columns[part], old, math.prod(kept)))
                )
                for a, b in self.blocks
            )
            parts.append(self.backend.numpy(total).reshape(-1, *kept, *kept))
        return np.concatenate(parts)

    def _rows(self, array: Array, parents: Index, at: Mapping[str, Index], width: int) -> Array:
        """Gather the blocks of a model's parents, shape (parents, width, all the rest)."""
        first = parents.reshape(-1, *(1,) * len(self.kind))
        index = (self.backend.asarray(i) for i in (first, *(at[name] for name in self.kind)))
        return self.backend.xp.reshape(array[tuple(index)], (len(parents), width, -1))


def sources(
    group: SymmetryGroup, numbering: Mapping[str, Index], batch: Index, new: Mapping[str, Index]
) -> dict[str, Index]:
    """Return B's coordinates of the pairs that a numbering makes of A's, which are `new`.

    All arrays broadcast against one another and against `batch`, which counts the batch.
    """
    return {
        name: numbering[name][(batch, *(new[n] for n in group.lineages[name] if n in new))]
        for name in new
    }
