"""Two models of one binding as dense blocks, and how blocks are renumbered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Element, Index, SymmetryGroup
from rebasin_hub.rearrange import Read
from rebasin_hub.tensors import DTYPES

__all__ = ["Problem", "Term", "memory_order", "places_of", "read_problem", "renumbered"]


@dataclass(frozen=True, eq=False)
class Term:
    """One block of the reference on the device: the objective adds ⟨a, renumbered b⟩.

    `scale` is the product of the norms, which bounds the term's magnitude under any renumbering.
    """

    block: Block
    a: Array
    scale: float


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximize `constant` plus the sum of the terms over the elements of `group`.

    `constant` is the share of tensors that no permutation moves; `norm_a` and `norm_b` are the
    Frobenius norms of all tensors that count.
    """

    group: SymmetryGroup
    backend: Backend
    terms: tuple[Term, ...]
    constant: float
    norm_a: float
    norm_b: float


@dataclass(eq=False)
class _Reader:
    backend: Backend
    terms: list[Term] = field(default_factory=list)
    model: list[Array] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    squares_a: list[float] = field(default_factory=list)
    squares_b: list[float] = field(default_factory=list)

    def add(self, block: Block, a: NDArray[np.floating], b: NDArray[np.floating]) -> None:
        on_a, on_b = (_laid_out(self.backend, block, array) for array in (a, b))
        square_a, square_b = (self.backend.inner(x, x) for x in (on_a, on_b))
        self.squares_a.append(square_a)
        self.squares_b.append(square_b)
        if any(atom.permutation is not None for atom in block.atoms):
            self.terms.append(Term(block, on_a, math.sqrt(square_a) * math.sqrt(square_b)))
            self.model.append(on_b)
        else:
            self.constants.append(self.backend.inner(on_a, on_b))


def read_problem(
    binding: Binding, read_reference: Read, read_model: Read, backend: Backend
) -> tuple[Problem, list[Array]]:
    """Read every tensor that counts from both models: floats that are no running statistics.

    Types below float32 are widened to it without loss; float64 stays. What lies on no permutation
    is the same in every numbering: it counts as far as it is finite, since programs hold infinite
    constants, such as the start of a maximum. Returns the problem, which holds the reference, and
    the model's block for each of its terms.

    Raises:
        NotFiniteError: naming the tensors on permutations that hold NaN or infinity.

    """
    reader, bad = _Reader(backend), []
    for tensor in binding.tensors:
        if tensor.statistic or not _counts(binding, tensor):
            continue
        a, b = _widened(tensor.stack(read_reference), tensor.stack(read_model), backend)
        endless = [
            f"{tensor.label} of the {which}"
            for which, array in (("reference", a), ("model", b))
            if not np.isfinite(array).all()
        ]
        if endless and not _moves(tensor):
            continue
        bad += endless
        for real_a, real_b in _real_parts(a, b):
            for block in tensor.blocks if not bad else ():
                reader.add(block, real_a, real_b)
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""  # noqa: PLR2004
        raise NotFiniteError(
            f"weights that have to be compared hold NaN or infinity: {', '.join(bad[:5])}{more}; "
            "repair them, or renumber with a permutation that was found otherwise"
        )
    problem = Problem(
        binding.group,
        backend,
        tuple(reader.terms),
        math.fsum(reader.constants),
        math.sqrt(math.fsum(reader.squares_a)),
        math.sqrt(math.fsum(reader.squares_b)),
    )
    return problem, reader.model


def memory_order(block: Block) -> tuple[int, ...]:
    """Return a block's atoms in the order in which memory should hold them, the slowest first.

    Of two that are moved, one comes first and one last, such as the channels of a kernel: the
    units of either are then the rows or the columns of one matrix, and products of them need no
    copy. Where more are moved, there is no such order.
    """
    natural = tuple(range(len(block.atoms)))
    moving = tuple(number for number in natural if block.atoms[number].permutation is not None)
    if len(moving) not in {1, 2} or moving == natural[-1:]:
        return natural
    fixed = (number for number in natural if number not in moving)
    return (moving[0], *fixed, *moving[1:])


def _laid_out(backend: Backend, block: Block, stored: NDArray[np.floating]) -> Array:
    """Bring a block to the device; memory holds it in its order."""
    array, order = block.of(stored), memory_order(block)
    if order == tuple(range(len(order))):
        return backend.asarray(array)
    there = backend.asarray(np.ascontiguousarray(array.transpose(order)))
    return backend.xp.permute_dims(there, tuple(map(order.index, range(len(order)))))


def renumbered(backend: Backend, block: Block, array: Array, element: Element) -> Array:
    """Renumber a block: `new[i, …] = old[p[i], …]` for each atom that `element` has a factor of.

    Factors that `element` lacks stay. An array of the block's shape; the array itself where
    nothing moves.
    """
    for number in _parents_first(block):
        name = block.atoms[number].permutation
        if name is None or name not in element:
            continue
        index = element[name]
        if np.array_equal(index, np.broadcast_to(np.arange(index.shape[-1]), index.shape)):
            continue
        array = _moved(backend, array, block.lineage(number), index)
    return array


def _moved(backend: Backend, array: Array, lineage: tuple[int, ...], index: Index) -> Array:
    """Gather along one axis with an index that depends on the coordinates of its ancestors."""
    xp = backend.xp
    if len(lineage) == 1:
        return backend.take(array, backend.asarray(index), axis=lineage[0])
    rest = [axis for axis in range(array.ndim) if axis not in lineage]
    order = (*lineage, *rest)
    # The ancestors have been gathered before, so that their own coordinates stay.
    ancestors = np.ogrid[tuple(slice(size) for size in index.shape)][:-1]
    grid = tuple(backend.asarray(np.asarray(i)) for i in (*ancestors, index))
    moved = xp.permute_dims(array, order)[grid]
    return xp.permute_dims(moved, tuple(int(i) for i in np.argsort(order)))


def _parents_first(block: Block) -> list[int]:
    return sorted(range(len(block.atoms)), key=lambda number: len(block.lineage(number)))


def _moves(tensor: BoundTensor) -> bool:
    """Tell whether a tensor lies on a permutation."""
    return any(atom.permutation is not None for block in tensor.blocks for atom in block.atoms)


def _counts(binding: Binding, tensor: BoundTensor) -> bool:
    return DTYPES[binding.header[str(tensor.names.flat[0])].dtype].floating


def _widened(
    a: NDArray[np.generic], b: NDArray[np.generic], backend: Backend
) -> tuple[NDArray[np.inexact], NDArray[np.inexact]]:
    """Bring two arrays to the type that they are multiplied in."""
    double = any(x.dtype in (np.float64, np.complex128) for x in (a, b))
    dtype = backend.widest if double else np.dtype(np.float32)
    if any(x.dtype.kind == "c" for x in (a, b)):
        dtype = np.result_type(dtype, np.complex64)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def _real_parts(
    a: NDArray[np.inexact], b: NDArray[np.inexact]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Split complex arrays; the real inner product is the sum over both parts."""
    if a.dtype.kind == "c":
        yield a.real, b.real
        yield a.imag, b.imag
    else:
        yield a, b  # type: ignore[misc]


def places_of(block: Block) -> Mapping[str, tuple[int, ...]]:
    """Return for each permutation of a block the atoms that it stands on."""
    places: dict[str, tuple[int, ...]] = {}
    for number, atom in enumerate(block.atoms):
        if atom.permutation is not None:
            places[atom.permutation] = (*places.get(atom.permutation, ()), number)
    return places
