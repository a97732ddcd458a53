"""Renumber a checkpoint: from an element of its group to a gather for every stored tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundAxis, BoundTensor
from rebasin_hub.buffers import empty
from rebasin_hub.permute import Element, Index

__all__ = ["Array", "Gather", "Read", "gather", "gathered", "plan", "rearranged", "same_after"]

Scalar = TypeVar("Scalar", bound=np.generic)
CHUNK_BYTES = 1 << 20
Array: TypeAlias = NDArray[np.generic]
Read: TypeAlias = Callable[[str], Array]


@dataclass(frozen=True, eq=False)
class Gather:
    """How one tensor of the output is read from one tensor of the input.

    `index` has one entry for each axis: None where nothing moves, a vector of old positions, or,
    where the positions on one axis depend on another axis (grouped convolutions), for every axis an
    array that broadcasts to the tensor's shape.
    """

    target: str
    source: str
    index: tuple[Index | None, ...]

    @property
    def moves(self) -> bool:
        """Whether the output differs from the tensor of the same name in the input."""
        return self.target != self.source or any(axis is not None for axis in self.index)


def plan(binding: Binding, element: Element) -> dict[str, Gather]:
    """Return for every stored name how its renumbered tensor is read.

    The law: gathering by `plan(b, p)` what was gathered by `plan(b, q)` equals gathering by
    `plan(b, binding.group.compose(p, q))`.

    Raises:
        PermutationError: `element` is no element of the binding's group.

    """
    binding.group.check(element)
    gathers = {name: Gather(name, name, ()) for name in binding.ignored}
    for tensor in binding.tensors:
        gathers.update((g.target, g) for g in _gathers(tensor, element))
    return {name: gathers[name] for name in binding.header}


def gather(index: tuple[Index | None, ...], array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Read an array in a new order, bit by bit; see `Gather.index`.

    Returns the array itself where nothing moves. Otherwise the memory in use is the array, the
    result, and some rows.
    """
    if all(axis is None for axis in index):
        return array
    bits = _as_integers(array)
    out = empty(bits.shape, bits.dtype)
    scratch = _scratch(index, bits)
    for rows in _row_chunks(bits):
        _gather_rows(index, bits, rows, out[rows], scratch)
    return out.view(array.dtype)


def gathered(index: tuple[Index | None, ...], array: Array) -> Iterator[Array]:
    """Yield what `gather` would return as consecutive rows, each in the memory of those before."""
    if all(axis is None for axis in index):
        yield array
        return
    bits = _as_integers(array)
    buffer = np.empty_like(bits[next(_row_chunks(bits), slice(0))])
    scratch = _scratch(index, bits)
    for rows in _row_chunks(bits):
        part = buffer[: len(bits[rows])]
        _gather_rows(index, bits, rows, part, scratch)
        yield part.view(array.dtype)


def same_after(index: tuple[Index | None, ...], array: Array, expected: Array) -> bool:
    """Tell whether `gather(index, array)` has the bits of another array, some rows at a time."""
    if array.dtype != expected.dtype or array.shape != expected.shape:
        return False
    moved, stored = _as_integers(array), _as_integers(expected)
    if all(axis is None for axis in index):  # perhaps of no axes, and so of no rows
        return np.array_equal(moved, stored)
    done = 0
    for part in gathered(index, moved):
        if not np.array_equal(part, stored[done : done + len(part)]):
            return False
        done += len(part)
    return True


def _as_integers(array: Array) -> Array:
    """View elements as integers of their width: small floats move faster, and NaNs compare."""
    return array.view(f"u{array.dtype.itemsize}")


def _gather_rows(
    index: tuple[Index | None, ...],
    array: Array,
    rows: slice,
    out: Array,
    scratch: tuple[Array, ...],
) -> None:
    """Fill `out` with some rows of the gathered array, without making the others."""
    if any(axis is not None and axis.ndim > 1 for axis in index):
        joint = np.broadcast_arrays(*(axis for axis in index if axis is not None))
        out[...] = array[tuple(axis[rows] for axis in joint)]
        return
    steps = [(number, axis) for number, axis in enumerate(index) if axis is not None]
    part = array if index[0] is not None else array[rows]
    for number, axis in steps:
        # "clip" lets numpy write straight to its output; every index is in range anyway.
        last = number == steps[-1][0]
        target = out if last else scratch[number % 2][: len(out)]
        part = np.take(part, axis if number else axis[rows], axis=number, out=target, mode="clip")


def _scratch(index: tuple[Index | None, ...], array: Array) -> tuple[Array, ...]:
    """Return room for what `_gather_rows` makes on the way, for the largest of all chunks."""
    moved = sum(axis is not None for axis in index)
    rows = next(_row_chunks(array), slice(0))
    return tuple(np.empty_like(array[rows]) for _ in range(2 if moved > 1 else 0))


def _row_chunks(array: Array) -> Iterator[slice]:
    """Yield slices of the first axis of about a megabyte, which stays in a core's cache."""
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def rearranged(binding: Binding, element: Element, read: Read) -> Read:
    """Return a reader of the renumbered checkpoint on top of a reader of the checkpoint."""
    gathers = plan(binding, element)

    def read_renumbered(name: str) -> Array:
        return gather(gathers[name].index, read(gathers[name].source))

    return read_renumbered


def _gathers(tensor: BoundTensor, element: Element) -> Iterator[Gather]:
    for new in np.ndindex(tensor.names.shape):
        old = tuple(
            int(_source(tensor, element, new, number)) for number in range(len(tensor.name_atoms))
        )
        yield Gather(
            str(tensor.names[new]), str(tensor.names[old]), _axes_index(tensor, element, new)
        )


def _source(tensor: BoundTensor, element: Element, new: tuple[int, ...], number: int) -> int:
    block = tensor.blocks[0]
    return int(_old(block, element, tuple(np.asarray(i) for i in new), number))


def _axes_index(
    tensor: BoundTensor, element: Element, name: tuple[int, ...]
) -> tuple[Index | None, ...]:
    if _crosses(tensor):
        return _joint_index(tensor, element, name)
    return tuple(
        _axis_index(tensor, element, name, axis) if tensor.axes[axis].permutations else None
        for axis in range(len(tensor.axes))
    )


def _crosses(tensor: BoundTensor) -> bool:
    """Tell whether positions on one axis depend on another axis."""
    return any(
        parent is not None and -1 < block.places[parent] != place
        for block in tensor.blocks
        for place, parent in zip(block.places, block.parents, strict=True)
    )


def _axis_index(
    tensor: BoundTensor, element: Element, name: tuple[int, ...], axis: int
) -> Index | None:
    """Return where each position of one axis is read from; None where nothing moves."""
    bound: BoundAxis = tensor.axes[axis]
    index = np.arange(bound.length)
    seen: set[int] = set()
    for block in tensor.blocks:
        segment = block.segments[axis]
        if id(segment) in seen:
            continue
        seen.add(id(segment))
        grid = _grid(block, name, [axis])
        own = [n for n, place in enumerate(block.places) if place == axis]
        old = np.broadcast_arrays(*(_old(block, element, grid, n) for n in own))
        index[segment.positions] = segment.positions[tuple(old)].reshape(segment.positions.shape)
    return None if np.array_equal(index, np.arange(bound.length)) else index


def _joint_index(tensor: BoundTensor, element: Element, name: tuple[int, ...]) -> tuple[Index, ...]:
    """Return for every axis where each element of the tensor is read from."""
    rank = len(tensor.axes)
    index = tuple(np.empty(tensor.shape, dtype=np.int64) for _ in range(rank))
    for block in tensor.blocks:
        grid = _grid(block, name, range(rank))
        # Each axis' positions, reshaped so that they broadcast over the tensor's axes.
        spread = np.ix_(*(segment.positions.reshape(-1) for segment in block.segments))
        lengths = tuple(segment.positions.size for segment in block.segments)
        for axis, segment in enumerate(block.segments):
            own = [n for n, place in enumerate(block.places) if place == axis]
            old = np.broadcast_arrays(*(_old(block, element, grid, n) for n in own))
            shape = tuple(a.size for a, p in zip(block.atoms, block.places, strict=True) if p >= 0)
            index[axis][spread] = np.broadcast_to(segment.positions[tuple(old)], shape).reshape(
                lengths
            )
    return index


def _grid(
    block: Block, name: tuple[int, ...], axes: Iterator[int] | range | list[int]
) -> tuple[Index, ...]:
    """Return new coordinates of each atom: those of the chosen axes broadcast over one another."""
    chosen = [n for n, place in enumerate(block.places) if place in axes]
    grid: list[Index] = []
    for number, (atom, place) in enumerate(zip(block.atoms, block.places, strict=True)):
        if place < 0:
            grid.append(np.asarray(name[number]))
        elif number in chosen:
            shape = [1] * len(chosen)
            shape[chosen.index(number)] = atom.size
            grid.append(np.arange(atom.size).reshape(shape))
        else:
            grid.append(np.zeros((), dtype=np.int64))
    return tuple(grid)


def _old(block: Block, element: Element, grid: tuple[Index, ...], number: int) -> Index:
    """Return the old coordinate of one atom as a function of the new coordinates."""
    permutation = block.atoms[number].permutation
    if permutation is None:
        return grid[number]
    lineage: list[Index] = []
    step: int | None = number
    while step is not None:
        lineage.append(grid[step])
        step = block.parents[step]
    return element[permutation][tuple(reversed(lineage))]
