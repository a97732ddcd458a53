"""Two models of one binding as dense blocks, and how blocks are renumbered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.pieces import pieces
from rebasin_hub.align.stored import Reading, Stored, finite, kinds_of, memory_order
from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Element, Index, SymmetryGroup
from rebasin_hub.rearrange import Read
from rebasin_hub.shelf import Shelf
from rebasin_hub.tensors import DTYPES

__all__ = [
    "Problem",
    "Term",
    "counting",
    "memory_order",
    "places_of",
    "read_problem",
    "renumbered",
    "stored_problem",
]


@dataclass(frozen=True, eq=False)
class Term:
    """One block of the reference on the device: the objective adds ⟨a, renumbered b⟩.

    In searches that stream, `a` is a `Later`.
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
    """Gathers what the blocks of two models add to a problem, one after the other."""

    backend: Backend
    streams: bool
    terms: list[Term] = field(default_factory=list)
    model: list[Any] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    squares_a: list[float] = field(default_factory=list)
    squares_b: list[float] = field(default_factory=list)

    def add(self, a: Stored, b: Stored) -> None:
        block, on_a, on_b = a.block, a.array(), b.array()
        square_a, square_b = (self.backend.inner(x, x) for x in (on_a, on_b))
        self.squares_a.append(square_a)
        self.squares_b.append(square_b)
        if any(atom.permutation is not None for atom in block.atoms):
            scale = math.sqrt(square_a) * math.sqrt(square_b)
            self.terms.append(Term(block, a.later() if self.streams else on_a, scale))
            self.model.append(b if self.streams else on_b)
        else:
            self.constants.append(self.backend.inner(on_a, on_b))

    def problem(self, binding: Binding) -> Problem:
        return Problem(
            binding.group,
            self.backend,
            tuple(self.terms),
            math.fsum(self.constants),
            math.sqrt(math.fsum(self.squares_a)),
            math.sqrt(math.fsum(self.squares_b)),
        )


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

    def once(read: Read, tensor: BoundTensor) -> Reading:
        array = tensor.stack(read)
        return lambda: array

    reader = _Reader(backend, streams=False)
    _read(binding, reader, [partial(once, read) for read in (read_reference, read_model)])
    return reader.problem(binding), reader.model


def stored_problem(
    binding: Binding, read_reference: Read, read_model: Read, backend: Backend, shelf: Shelf
) -> tuple[Problem, list[Stored]]:
    """Return the problem of `read_problem` without holding either model.

    Every block is read again whenever it is needed, as far as `shelf` does not hold its tensor as
    it is stored.
    """

    def on_shelf(which: int, read: Read, tensor: BoundTensor) -> Reading:
        key = (which, str(tensor.names.flat[0]))
        return partial(shelf.get, key, partial(tensor.stack, read))

    reader, reads = _Reader(backend, streams=True), enumerate((read_reference, read_model))
    _read(binding, reader, [partial(on_shelf, which, read) for which, read in reads])
    return reader.problem(binding), reader.model


def _read(
    binding: Binding, reader: _Reader, sides: Sequence[Callable[[BoundTensor], Reading]]
) -> None:
    """Give a reader all blocks that count, of A and of B; see `read_problem`."""
    bad: list[str] = []
    for tensor in counting(binding):
        readings = [side(tensor) for side in sides]
        a, b = (reading() for reading in readings)
        kinds = kinds_of(reader.backend, a, b)
        endless = [
            f"{tensor.label} of the {which}"
            for which, array in (("reference", a), ("model", b))
            if not finite(array, kinds)
        ]
        if endless and not _moves(tensor):
            continue
        bad += endless
        del a, b  # from here on, who reads decides what is held
        for kind in kinds if not bad else ():
            for block in pieces(tensor):
                reader.add(*(Stored(reader.backend, block, reading, kind) for reading in readings))
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""  # noqa: PLR2004
        raise NotFiniteError(
            f"weights that have to be compared hold NaN or infinity: {', '.join(bad[:5])}{more}; "
            "repair them, or renumber with a permutation that was found otherwise"
        )


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


def counting(binding: Binding) -> Iterator[BoundTensor]:
    """Yield the tensors that count: floats that are no running statistics."""
    for tensor in binding.tensors:
        dtype = binding.header[str(tensor.names.flat[0])].dtype
        if DTYPES[dtype].floating and not tensor.statistic:
            yield tensor


def places_of(block: Block) -> Mapping[str, tuple[int, ...]]:
    """Return for each permutation of a block the atoms that it stands on."""
    places: dict[str, tuple[int, ...]] = {}
    for number, atom in enumerate(block.atoms):
        if atom.permutation is not None:
            places[atom.permutation] = (*places.get(atom.permutation, ()), number)
    return places
