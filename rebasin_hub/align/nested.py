"""The best renumbering of one family while all others stand still: nested linear assignment.

For a pair (i of A, j of B) of a parent's indices, the permutations that depend on it form a
problem of their own, whose best value is what the pair is worth; the parent's assignment is then
made from these values. The problems need no weights, only the Gram arrays
⟨A[i, a…, :], B[j, b…, :]⟩ over the dependents' coordinates a… and b….
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.family import View
from rebasin_hub.assign import solve_assignment
from rebasin_hub.permute import Index, SymmetryGroup

__all__ = ["Operand", "solve_family"]

BUDGET = 1 << 25
"""Numbers of Gram arrays that are held at a time."""

MAX_ROUNDS = 10
"""Alternations over dependents that share a block; each raises the value, most stop after 2."""

Grams: TypeAlias = Mapping[tuple[str, ...], NDArray[Any]]
"""For each set of factors an array (batch, size in A of each, size in B of each)."""

Numbering: TypeAlias = dict[str, Index]
"""For each factor its renumbering: (batch, sizes of the ancestors below the batch, own size)."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A block of both models, in the shape that `operand` gives it for a view."""

    view: View
    a: Array
    b: Array


def solve_family(
    backend: Backend, group: SymmetryGroup, operands: Sequence[Operand]
) -> dict[str, Index]:
    """Return the element of a family's group that maximizes the sum over its operands.

    The law: exact where no operand carries two dependents of one parent; otherwise these take
    turns from the present numbering and from their separate optima, and the result is never worse
    than the identity.
    """
    root = group.roots[0]
    size = group.factors[root].size
    if len(group.factors) == 1:
        total = sum(op.a @ backend.xp.matrix_transpose(op.b) for op in operands)
        return {root: solve_assignment(backend.numpy(total)).columns}
    values = np.zeros((size, size))
    inner = {
        name: np.empty((size, size, *group.shape(name)[1:]), dtype=np.int64)
        for name in group.factors
        if name != root
    }
    for rows, columns in _chunks(group, size, operands):
        grams = _grams(backend, operands, rows, columns)
        found, numbering = _solve_siblings(group, group.children[root], grams)
        values[rows, columns] = found.reshape(values[rows, columns].shape)
        for name, index in numbering.items():
            inner[name][rows, columns] = index.reshape(inner[name][rows, columns].shape)
    chosen = solve_assignment(values).columns
    return {root: chosen, **{name: x[np.arange(size), chosen] for name, x in inner.items()}}


def _chunks(
    group: SymmetryGroup, size: int, operands: Sequence[Operand]
) -> Iterator[tuple[slice, slice]]:
    """Cut the pairs (i, j) so that the Gram arrays of one chunk stay within the budget."""
    kinds = {op.view.factors[1:] for op in operands}
    one = sum(math.prod(group.factors[name].size for name in kind) ** 2 for kind in kinds)
    pairs = max(1, BUDGET // max(1, one))
    width = min(size, pairs)
    height = max(1, pairs // size)
    for i in range(0, size, height):
        for j in range(0, size, width):
            yield slice(i, min(i + height, size)), slice(j, min(j + width, size))


def _grams(
    backend: Backend, operands: Sequence[Operand], rows: slice, columns: slice
) -> dict[tuple[str, ...], NDArray[Any]]:
    """Return the Gram arrays for all pairs of a chunk, summed over operands of equal factors."""
    xp = backend.xp
    grams: dict[tuple[str, ...], Array] = {}
    for op in operands:
        a, b = op.a[rows], op.b[columns]
        flat_a, flat_b = (xp.reshape(x, (-1, x.shape[-1])) for x in (a, b))
        gram = xp.reshape(flat_a @ xp.matrix_transpose(flat_b), (*a.shape[:-1], *b.shape[:-1]))
        rank = a.ndim - 1
        gram = xp.permute_dims(gram, (0, rank, *range(1, rank), *range(rank + 1, 2 * rank)))
        gram = xp.reshape(gram, (-1, *gram.shape[2:]))
        kind = op.view.factors[1:]
        grams[kind] = grams[kind] + gram if kind in grams else gram
    return {kind: backend.numpy(gram) for kind, gram in grams.items()}


def _solve_siblings(
    group: SymmetryGroup, siblings: Sequence[str], grams: Grams
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve the factors that depend on one matched pair, for a batch of such pairs at once."""
    batch = next(iter(grams.values())).shape[0]
    total = np.zeros(batch)
    if () in grams:
        total += grams[()]
    numbering: Numbering = {}
    for together in _coupled(siblings, grams):
        own = {kind: gram for kind, gram in grams.items() if kind and kind[0] in together}
        if not own:
            value, found = np.zeros(batch), _identity(group, together[0], batch)
        elif len(together) == 1:
            value, found = _solve_child(group, together[0], own)
        else:
            value, found = _alternate(group, together, own)
        total += value
        numbering |= found
    return total, numbering


def _solve_child(
    group: SymmetryGroup, child: str, grams: Grams
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve one dependent factor with everything below it.

    Every key of `grams` begins with `child` (its descendants stand nowhere without it), or is
    empty for what does not depend on it.
    """
    size = group.factors[child].size
    batch = next(iter(grams.values())).shape[0]
    constant = grams.get((), np.zeros(batch))
    below: dict[tuple[str, ...], NDArray[Any]] = {}
    for kind, gram in grams.items():
        if kind:
            half = len(kind)
            paired = np.moveaxis(gram, 1 + half, 2)
            below[kind[1:]] = paired.reshape(batch * size * size, *paired.shape[3:])
    values, inner = _solve_siblings(group, group.children[child], below)
    solved = solve_assignment(values.reshape(batch, size, size))
    numbering: Numbering = {child: solved.columns}
    for name, index in inner.items():
        pairs = index.reshape(batch, size, size, *index.shape[1:])
        numbering[name] = pairs[np.arange(batch)[:, None], np.arange(size)[None, :], solved.columns]
    return solved.value + constant, numbering


def _alternate(
    group: SymmetryGroup, together: Sequence[str], grams: Grams
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve factors that share Gram arrays in turns, from two starts; keep the better for each."""
    batch = next(iter(grams.values())).shape[0]
    present: Numbering = {}
    for child in together:
        present |= _identity(group, child, batch)
    separate = _separate(group, together, grams)
    return _better(
        *_climb(group, together, grams, present), *_climb(group, together, grams, separate)
    )


def _climb(
    group: SymmetryGroup, together: Sequence[str], grams: Grams, start: Numbering
) -> tuple[NDArray[np.float64], Numbering]:
    value, numbering = _turn(group, together, grams, start)
    for _ in range(MAX_ROUNDS - 1):
        before = value
        value, numbering = _better(value, numbering, *_turn(group, together, grams, numbering))
        if np.array_equal(value, before):
            break
    return value, numbering


def _turn(
    group: SymmetryGroup, together: Sequence[str], grams: Grams, start: Numbering
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve each factor once, with the others as they are then."""
    numbering = dict(start)
    value = np.zeros(0)
    for child in together:
        value, found = _solve_child(group, child, _contracted(group, grams, child, numbering))
        numbering |= found
    return value, numbering


def _better(
    value: NDArray[np.float64],
    numbering: Numbering,
    other_value: NDArray[np.float64],
    other: Numbering,
) -> tuple[NDArray[np.float64], Numbering]:
    """Choose for each element of the batch the numbering of the higher value."""
    higher = other_value > value
    chosen = {
        name: np.where(higher.reshape(-1, *(1,) * (index.ndim - 1)), other[name], index)
        for name, index in numbering.items()
    }
    return np.where(higher, other_value, value), chosen


def _separate(group: SymmetryGroup, together: Sequence[str], grams: Grams) -> Numbering:
    """Return a start: each factor solved from what it shares with those solved before it alone.

    Factors that have Gram arrays of their own come first.
    """
    batch = next(iter(grams.values())).shape[0]
    alone = {child for child in together if any(set(k) <= set(group.family(child)) for k in grams)}
    numbering: Numbering = {}
    for child in sorted(together, key=lambda name: name not in alone):
        solved = {*group.family(child), *numbering}
        usable = {k: gram for k, gram in grams.items() if child in k and set(k) <= solved}
        if usable:
            contracted = _contracted(group, usable, child, numbering)
            numbering |= _solve_child(group, child, contracted)[1]
        else:
            numbering |= _identity(group, child, batch)
    return numbering


def _contracted(
    group: SymmetryGroup, grams: Grams, child: str, numbering: Numbering
) -> dict[tuple[str, ...], NDArray[Any]]:
    """Put the numbering in for every factor but a child and what is below it."""
    free = group.family(child)
    contracted: dict[tuple[str, ...], NDArray[Any]] = {}
    for kind, gram in grams.items():
        rest = tuple(name for name in kind if name in free)
        part = _diagonal(group, gram, kind, rest, numbering)
        contracted[rest] = contracted[rest] + part if rest in contracted else part
    return contracted


def _diagonal(
    group: SymmetryGroup,
    gram: NDArray[Any],
    kind: tuple[str, ...],
    rest: tuple[str, ...],
    numbering: Numbering,
) -> NDArray[Any]:
    """Sum a Gram array along the pairs (a, numbering of a) of all factors but `rest`."""
    fixed = [name for name in kind if name not in rest]
    if not fixed:
        return gram
    at = {name: 1 + number for number, name in enumerate(kind)}
    on_a = [at[name] for name in fixed]
    on_b = [at[name] + len(kind) for name in fixed]
    others = [axis for axis in range(1, gram.ndim) if axis not in (*on_a, *on_b)]
    batch, *grid = np.ogrid[tuple(slice(gram.shape[axis]) for axis in (0, *on_a))]
    new = dict(zip(fixed, grid, strict=True))
    old = [
        numbering[name][(batch, *(new[n] for n in group.lineages[name] if n in new))]
        for name in fixed
    ]
    paired = np.transpose(gram, (0, *on_a, *on_b, *others))[(batch, *grid, *old)]
    return np.asarray(paired.sum(axis=tuple(range(1, 1 + len(fixed)))))


def _identity(group: SymmetryGroup, child: str, batch: int) -> Numbering:
    depth = len(group.lineages[child]) - 1
    return {
        name: np.broadcast_to(
            np.arange(group.factors[name].size), (batch, *group.shape(name)[depth:])
        )
        for name in group.family(child)
    }


def _coupled(siblings: Sequence[str], grams: Grams) -> list[list[str]]:
    """Divide siblings into sets that share no Gram array with one another."""
    sets = [[name] for name in siblings]
    for kind in grams:
        shared = [s for s in sets if any(name in kind for name in s)]
        if len(shared) > 1:
            sets = [s for s in sets if s not in shared] + [[n for s in shared for n in s]]
    return sets
