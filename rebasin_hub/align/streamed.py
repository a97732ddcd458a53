"""The state of a descent whose models stay where they are stored.

Blocks are read again whenever they are needed, B's renumbered by the state's element, and
forgotten. What they are is the same, bit for bit, as in a `State` that holds them: renumbering
moves numbers, in whatever steps it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend, select
from rebasin_hub.align.pieces import pieces
from rebasin_hub.align.problem import Problem, counting, renumbered, stored_problem
from rebasin_hub.align.state import Slices, State
from rebasin_hub.align.stored import Stored
from rebasin_hub.align.totals import Matrices, Totals
from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import Read
from rebasin_hub.shelf import Shelf

__all__ = ["StreamedState", "streamed"]

IN_USE = 6
"""Blocks in the type of products that are in use at a time: A, B before and after, and as many."""


@contextmanager
def streamed(
    binding: Binding, read_reference: Read, read_model: Read, backend: Backend, nbytes: int
) -> Iterator[StreamedState]:
    """Yield a state that holds so many bytes of both models and of what is made of them.

    What is worked on at a time is held in any case, and counts: a few blocks, one matrix.

    Raises:
        NotFiniteError: see `read_problem`.

    """
    with Shelf(max(0, nbytes - _in_use(binding))) as shelf:
        problem, model = stored_problem(binding, read_reference, read_model, backend, shelf)
        yield StreamedState(problem, model, shelf)


BITS = {1, 2, 4, 8}
"""Bytes of the integers as which numbers move: NumPy is slower with types that are not its own."""

WIDEST = {"F64": 8}
"""Bytes of a number where products are made, if these are not four."""


class StreamedState(State):
    """A `State` of stored blocks: where it stands is its element alone."""

    def __init__(self, problem: Problem, model: Sequence[Stored], shelf: Shelf) -> None:
        super().__init__(problem, [stored.later(self._moving(stored.block)) for stored in model])
        self._totals = Totals(problem, _Shelved(problem.backend, shelf))

    @property
    def b(self) -> list[Array]:
        """Every term's block of B where the state stands when it is made."""
        return self._b

    def jump(self, element: Element) -> None:
        """Go to an element, whatever the objective is there."""
        group = self.problem.group
        moved = {
            name for name in group.factors if not np.array_equal(element[name], self.element[name])
        }
        self._totals.clear()
        for number, term in enumerate(self.problem.terms):
            if moved & {atom.permutation for atom in term.block.atoms}:
                self._values[number] = None
        self.element = {name: element[name].copy() for name in group.factors}

    def _write(self, slices: Slices) -> None:
        self._values[slices.number] = None

    def _moving(self, block: Block) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Return what renumbers a block as it is stored by the element of then."""
        memory = select("cpu")

        def move(stored: NDArray[Any]) -> NDArray[Any]:
            width = stored.dtype.itemsize
            bits = stored.view(f"u{width}") if width in BITS else stored
            return np.asarray(renumbered(memory, block, bits, self.element)).view(stored.dtype)

        return move


class _Shelved(Matrices):
    """Matrices of families on a shelf, in the memory of the program whatever the device."""

    def __init__(self, backend: Backend, shelf: Shelf) -> None:
        self._backend, self._shelf = backend, shelf

    def get(self, root: str) -> Array:
        return self._backend.asarray(self._shelf.kept(root))

    def put(self, root: str, matrix: Array) -> None:
        self._shelf.keep(root, self._backend.numpy(matrix))

    def room(self, root: str) -> None:  # noqa: ARG002 - to read what is old would be no gain
        return None


def _in_use(binding: Binding) -> int:
    """Return the bytes that are worked on at a time."""
    counted = [
        (tensor, tensor.names.size * binding.header[str(tensor.names.flat[0])].nbytes)
        for tensor in counting(binding)
    ]
    blocks = (
        math.prod(block.shape) * WIDEST.get(binding.header[str(tensor.names.flat[0])].dtype, 4)
        for tensor, _ in counted
        for block in pieces(tensor)
    )
    units = max((factor.size for factor in binding.group.factors.values()), default=0)
    stored = max((nbytes for _, nbytes in counted), default=0)
    return 2 * stored + IN_USE * max(blocks, default=0) + 2 * 4 * units**2
