"""What pairs of a parent's indices have in common: Gram arrays over their dependents.

For a pair (i of A, j of B) these are ⟨A[i, a…, :], B[j, b…, :]⟩ over the dependents' coordinates
a… and b…. Where two dependents cross on one block, their Gram array may be far larger than the
block; then the block itself stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.crossed import Crossed
from rebasin_hub.align.family import View
from rebasin_hub.align.later import Later, made
from rebasin_hub.permute import SymmetryGroup

__all__ = ["Grams", "Operand", "Similarities", "chunks"]

BUDGET = 1 << 25
"""Numbers of Gram arrays that are held at a time, if one pair has no more."""

Blocks: TypeAlias = Mapping[tuple[str, ...], Sequence[tuple[Array | Later, Array | Later]]]
"""For each set of factors what stands on it, of A and of B: (root, size of each, all the rest)."""

Grams: TypeAlias = Mapping[tuple[str, ...], NDArray[Any]]
"""For each set of factors an array (batch, size in A of each, size in B of each)."""

Similarities: TypeAlias = Mapping[tuple[str, ...], NDArray[Any] | Crossed]
"""For each set of factors its Gram array, or the blocks to make it from."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A block of both models, in the shape that `operand` gives it for a view."""

    view: View
    a: Array | Later
    b: Array | Later


def chunks(
    backend: Backend, group: SymmetryGroup, operands: Sequence[Operand]
) -> Iterator[tuple[slice, slice, Similarities]]:
    """Yield the similarities of all pairs of the root's indices, some rows and columns at a time.

    They are summed over the operands of equal factors.
    """
    blocks: dict[tuple[str, ...], list[tuple[Array, Array]]] = {}
    for op in operands:
        blocks.setdefault(op.view.factors[1:], []).append((op.a, op.b))
    for rows, columns in _slices(group, blocks):
        yield rows, columns, _similarities(backend, group, blocks, rows, columns)


def _slices(group: SymmetryGroup, blocks: Blocks) -> Iterator[tuple[slice, slice]]:
    """Cut the pairs (i, j) so that the Gram arrays of one chunk stay within the budget."""
    one = sum(
        _units(group, part) ** 2
        for kind, own in blocks.items()
        for part in (_branches(group, kind) if _is_crossed(group, kind, own) else [kind])
    )
    size = group.factors[group.roots[0]].size
    pairs = max(1, BUDGET // max(1, one))
    width = min(size, pairs)
    height = max(1, pairs // size)
    for i in range(0, size, height):
        for j in range(0, size, width):
            yield slice(i, min(i + height, size)), slice(j, min(j + width, size))


def _is_crossed(
    group: SymmetryGroup,
    kind: tuple[str, ...],
    blocks: Sequence[tuple[Array | Later, Array | Later]],
) -> bool:
    """Tell whether the root's dependents cross, with a Gram array larger than the blocks.

    A smaller one is worth making: it is read in every turn instead of the blocks.
    """
    rest = sum(a.shape[-1] for a, _ in blocks)
    return len(_branches(group, kind)) > 1 and _units(group, kind) > rest


def _branches(group: SymmetryGroup, kind: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Divide factors by the dependent of the root that they are, or are below of."""
    branches: dict[str, tuple[str, ...]] = {}
    for name in kind:
        top = group.lineages[name][1]
        branches[top] = (*branches.get(top, ()), name)
    return list(branches.values())


def _units(group: SymmetryGroup, names: Iterable[str]) -> int:
    return math.prod(group.factors[name].size for name in names)


def _similarities(
    backend: Backend, group: SymmetryGroup, blocks: Blocks, rows: slice, columns: slice
) -> Similarities:
    similarities: dict[tuple[str, ...], NDArray[Any] | Crossed] = {}
    for kind, whole in blocks.items():
        part = ((made(a)[rows], made(b)[columns]) for a, b in whole)
        if _is_crossed(group, kind, whole):
            blocks_here = tuple(part)
            pairs = np.indices((len(blocks_here[0][0]), len(blocks_here[0][1]))).reshape(2, -1)
            similarities[kind] = Crossed(backend, kind, blocks_here, *pairs)
        else:
            similarities[kind] = backend.numpy(sum(_gram(backend, a, b) for a, b in part))
    return similarities


def _gram(backend: Backend, a: Array, b: Array) -> Array:
    """Return the Gram array of all pairs of two blocks' first indices."""
    xp = backend.xp
    flat_a, flat_b = (xp.reshape(x, (-1, x.shape[-1])) for x in (a, b))
    gram = xp.reshape(backend.product(flat_a, flat_b), (*a.shape[:-1], *b.shape[:-1]))
    rank = a.ndim - 1
    gram = xp.permute_dims(gram, (0, rank, *range(1, rank), *range(rank + 1, 2 * rank)))
    return xp.reshape(gram, (-1, *gram.shape[2:]))
