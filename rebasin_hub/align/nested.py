"""The best renumbering of one family while all others stand still: nested linear assignment.

For a pair (i of A, j of B) of a parent's indices, the permutations that depend on it form a
problem of their own, whose best value is what the pair is worth; the parent's assignment is then
made from these values. The problems need no weights, only the similarities of the dependents'
coordinates; see `similarity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Backend
from rebasin_hub.align.crossed import Crossed, Numbering, sources
from rebasin_hub.align.later import made
from rebasin_hub.align.nearest import nearest
from rebasin_hub.align.similarity import Grams, Operand, Similarities, chunks
from rebasin_hub.assign import solve_assignment
from rebasin_hub.permute import Index, SymmetryGroup

__all__ = ["solve_family"]

MAX_ROUNDS = 10
"""Alternations over dependents that share a block; each raises the value, most stop after 2."""


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
        proven = nearest(backend, [(op.a, op.b) for op in operands])
        if proven is not None:
            return {root: proven}
        total = sum(backend.product(made(op.a), made(op.b)) for op in operands)
        return {root: solve_assignment(backend.numpy(total), certify=False).columns}
    values = np.zeros((size, size))
    inner = {
        name: np.empty((size, size, *group.shape(name)[1:]), dtype=np.int64)
        for name in group.factors
        if name != root
    }
    for rows, columns, similarities in chunks(backend, group, operands):
        found, numbering = _solve_siblings(group, group.children[root], similarities)
        values[rows, columns] = found.reshape(values[rows, columns].shape)
        for name, index in numbering.items():
            inner[name][rows, columns] = index.reshape(inner[name][rows, columns].shape)
    chosen = solve_assignment(values, certify=False).columns
    return {root: chosen, **{name: x[np.arange(size), chosen] for name, x in inner.items()}}


def _solve_siblings(
    group: SymmetryGroup, siblings: Sequence[str], similarities: Similarities
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve the factors that depend on one matched pair, for a batch of such pairs at once."""
    batch = _batch(similarities)
    grams = {kind: x for kind, x in similarities.items() if not isinstance(x, Crossed)}
    total = np.zeros(batch)
    if () in grams:
        total += grams[()]
    numbering: Numbering = {}
    for together in _coupled(siblings, similarities):
        if len(together) > 1:
            own = {kind: x for kind, x in similarities.items() if kind and kind[0] in together}
            value, found = _alternate(group, together, own)
        elif below := {kind: gram for kind, gram in grams.items() if kind[:1] == (together[0],)}:
            value, found = _solve_child(group, together[0], below)
        else:
            value, found = np.zeros(batch), _identity(group, together[0], batch)
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
    batch = _batch(grams)
    constant = grams.get((), np.zeros(batch))
    below: dict[tuple[str, ...], NDArray[Any]] = {}
    for kind, gram in grams.items():
        if kind:
            half = len(kind)
            paired = np.moveaxis(gram, 1 + half, 2)
            below[kind[1:]] = paired.reshape(batch * size * size, *paired.shape[3:])
    values, inner = _solve_siblings(group, group.children[child], below)
    solved = solve_assignment(values.reshape(batch, size, size), certify=False)
    numbering: Numbering = {child: solved.columns}
    for name, index in inner.items():
        pairs = index.reshape(batch, size, size, *index.shape[1:])
        numbering[name] = pairs[np.arange(batch)[:, None], np.arange(size)[None, :], solved.columns]
    return solved.value + constant, numbering


def _alternate(
    group: SymmetryGroup, together: Sequence[str], similarities: Similarities
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve factors that share blocks in turns, from two starts; keep the better for each."""
    batch = _batch(similarities)
    present: Numbering = {}
    for child in together:
        present |= _identity(group, child, batch)
    separate = _separate(group, together, similarities)
    return _better(
        *_climb(group, together, similarities, present),
        *_climb(group, together, similarities, separate),
    )


def _climb(
    group: SymmetryGroup, together: Sequence[str], similarities: Similarities, start: Numbering
) -> tuple[NDArray[np.float64], Numbering]:
    """Take turns until one moves nothing, after which no other one would."""
    before, (value, numbering) = start, _turn(group, together, similarities, start)
    for _ in range(MAX_ROUNDS - 1):
        if all(np.array_equal(index, before[name]) for name, index in numbering.items()):
            break
        before = numbering
        turned = _turn(group, together, similarities, numbering)
        value, numbering = _better(value, numbering, *turned)
    return value, numbering


def _turn(
    group: SymmetryGroup, together: Sequence[str], similarities: Similarities, start: Numbering
) -> tuple[NDArray[np.float64], Numbering]:
    """Solve each factor once, with the others as they are then."""
    numbering = dict(start)
    value = np.zeros(0)
    for child in together:
        value, found = _solve_child(
            group, child, _contracted(group, similarities, child, numbering)
        )
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


def _separate(
    group: SymmetryGroup, together: Sequence[str], similarities: Similarities
) -> Numbering:
    """Return a start: each factor solved from what it shares with those solved before it alone.

    Factors that have blocks of their own come first.
    """
    batch = _batch(similarities)
    alone = {
        child for child in together if any(set(k) <= set(group.family(child)) for k in similarities)
    }
    numbering: Numbering = {}
    for child in sorted(together, key=lambda name: name not in alone):
        solved = {*group.family(child), *numbering}
        usable = {k: x for k, x in similarities.items() if child in k and set(k) <= solved}
        if usable:
            contracted = _contracted(group, usable, child, numbering)
            numbering |= _solve_child(group, child, contracted)[1]
        else:
            numbering |= _identity(group, child, batch)
    return numbering


def _contracted(
    group: SymmetryGroup, similarities: Similarities, child: str, numbering: Numbering
) -> dict[tuple[str, ...], NDArray[Any]]:
    """Put the numbering in for every factor but a child and what is below it."""
    free = group.family(child)
    contracted: dict[tuple[str, ...], NDArray[Any]] = {}
    for kind, pairs in similarities.items():
        rest = tuple(name for name in kind if name in free)
        if isinstance(pairs, Crossed):
            part = pairs.gram(group, rest, numbering)
        else:
            part = _diagonal(group, pairs, kind, rest, numbering)
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
    old = sources(group, numbering, batch, dict(zip(fixed, grid, strict=True)))
    paired = np.transpose(gram, (0, *on_a, *on_b, *others))[(batch, *grid, *old.values())]
    return np.asarray(paired.sum(axis=tuple(range(1, 1 + len(fixed)))))


def _batch(similarities: Similarities) -> int:
    return len(next(iter(similarities.values())))


def _identity(group: SymmetryGroup, child: str, batch: int) -> Numbering:
    depth = len(group.lineages[child]) - 1
    return {
        name: np.broadcast_to(
            np.arange(group.factors[name].size), (batch, *group.shape(name)[depth:])
        )
        for name in group.family(child)
    }


def _coupled(siblings: Sequence[str], kinds: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """Divide siblings into sets that share no block with one another."""
    sets = [[name] for name in siblings]
    for kind in kinds:
        shared = [s for s in sets if any(name in kind for name in s)]
        if len(shared) > 1:
            sets = [s for s in sets if s not in shared] + [[n for s in shared for n in s]]
    return sets
