"""The present point of a descent: an element, B renumbered by it, and the exact objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family, View
from rebasin_hub.align.later import made
from rebasin_hub.align.problem import Problem, renumbered
from rebasin_hub.align.room import Room
from rebasin_hub.align.totals import Totals
from rebasin_hub.errors import ProofError
from rebasin_hub.permute import Element, Index

__all__ = ["Slices", "State"]

GAIN = 1e-12
"""Share of the terms' scale that counts as a gain: above the rounding of float64 sums."""

ROUNDING = {"float32": 1e-4, "float64": 1e-10}
"""Share of the terms' scale that products in a type may be wrong by, with a wide margin."""

LITTLE = 1 << 25
"""Numbers in a family's blocks up to which what a step changes is held until it is accepted."""

MOST = 0.75
"""Share of an axis that moves from which on it is handled as a whole."""

FEW = 0.06
"""Share of the fastest axis in memory that moves up to which its numbers are written one by one."""


@dataclass(frozen=True, eq=False)
class Slices:
    """What a step does to one term: A there, B there before and after it.

    `at` are the indices along `axis` that take part, or None for all of them; `index` is the whole
    renumbering where it is that of one axis alone.
    """

    number: int
    axis: int
    at: Array | None
    index: Array | None
    a: Array
    old: Array
    new: Array


class State:
    """An element of the group and the objective there; only true improvements are taken over.

    `b` holds every term's block of B renumbered by `element`, so that steps are relative: a step
    `q` makes `compose(q, element)` of it, and the identity is the point where the state stands.
    B as it was read is not kept beside it: going back is renumbering, too.
    """

    def __init__(self, problem: Problem, b: Sequence[Array]) -> None:
        self.problem = problem
        self.element: dict[str, Index] = problem.group.identity()
        self._b = list(b)
        self._own: set[int] = set()
        self._values: list[float | None] = [None] * len(b)
        self._totals = Totals(problem)
        self._room = Room()
        self.gained = 0.0
        """The sum of all gains of `improve`: tells of progress without the cost of `objective`."""

    @property
    def b(self) -> list[Array]:
        """Every term's block of B. Whoever keeps one keeps it as it is now."""
        self._own.clear()
        return self._b

    def block(self, number: int) -> Array:
        """Return one term's block of B, to be looked at before the state's next step."""
        return self._b[number]

    @property
    def objective(self) -> float:
        """The objective at `element`: products and sums in float64."""
        return math.fsum((self.problem.constant, *map(self._value, range(len(self._b)))))

    def jump(self, element: Element) -> None:
        """Go to an element, whatever the objective is there."""
        group = self.problem.group
        step = group.compose(element, group.invert(self.element))
        self._totals.clear()
        for number, term in enumerate(self.problem.terms):
            moved = renumbered(self.problem.backend, term.block, self._b[number], step)
            if moved is not self._b[number]:
                self._replace(number, moved)
        self.element = {name: element[name].copy() for name in group.factors}

    def matched(self, family: Family) -> dict[str, Index]:
        """Return the best step of a family that `Totals` fit."""
        return {family.root: self._totals.matched(family, self._b)}

    def step(self, family: Family, step: Mapping[str, Index]) -> None:
        """Renumber one family, whatever the objective is then."""
        self._take(family, step, self._slices(family, step, None))

    def _take(self, family: Family, step: Mapping[str, Index], changes: Iterable[Slices]) -> None:
        for slices in changes:
            self._follow(family, slices)
            self._write(slices)
            del slices  # before the next ones are made
        self._totals.renumber(family, step[family.root])
        own = {name: self.element[name] for name in family.group.factors}
        self.element = self.element | family.group.compose(step, own)

    def improve(self, family: Family, step: Mapping[str, Index]) -> bool:
        """Renumber one family if the objective rises, and tell whether it did.

        Raises:
            ProofError: the step of a family that the objective is linear in makes it fall by more
                than rounding, which cannot happen.

        """
        # A family may stand on all tensors of a large model: then one after the other, twice.
        room = self._room if self._is_little(family) else None
        self._room.clear()
        changes: Iterable[Slices] = self._slices(family, step, room)
        kept = None if room is None else list(changes)
        # `map` keeps none of them.
        gain = math.fsum(map(self._gain, changes if kept is None else kept))
        scale = math.fsum(self.problem.terms[number].scale for number in family.terms)
        if gain > GAIN * scale:
            self.gained += gain
            self._take(family, step, self._slices(family, step, None) if kept is None else kept)
            return True
        if family.linear and gain < -self._rounding(family) * scale:
            raise ProofError(
                f"renumbering '{family.root}' lowers the objective by {-gain:.3g}, expected "
                "a rise; this is a bug in weight matching, please report it"
            )
        return False

    def _gain(self, slices: Slices) -> float:
        inner = self.problem.backend.inner
        return inner(slices.a, slices.new) - inner(slices.a, slices.old)

    def _is_little(self, family: Family) -> bool:
        numbers: int = sum(math.prod(self._b[number].shape) for number in family.terms)
        return numbers <= LITTLE

    def _rounding(self, family: Family) -> float:
        kinds = {str(self._b[n].dtype).removeprefix("torch.") for n in family.terms}
        return max(ROUNDING.get(kind, ROUNDING["float32"]) for kind in kinds)

    def _value(self, number: int) -> float:
        value = self._values[number]
        if value is None:
            a, b = made(self.problem.terms[number].a), made(self._b[number])
            value = self.problem.backend.inner(a, b)
            self._values[number] = value
        return value

    def _slices(
        self, family: Family, step: Mapping[str, Index], room: Room | None
    ) -> Iterator[Slices]:
        """Yield for each term that a step moves the slices of it that are not as before.

        The next one is made from the state as it is then.
        """
        moved = _moved(family, step)
        if not len(moved):
            return
        backend, size = self.problem.backend, len(step[family.root])
        whole = not family.linear or len(moved) > MOST * size
        at, part = backend.asarray(moved), {name: index[moved] for name, index in step.items()}
        source = backend.asarray(part.pop(family.root))
        alone = len(step) == 1 and family.linear
        index = backend.asarray(step[family.root]) if alone else None

        def of(view: View) -> Slices | None:
            term, axis = self.problem.terms[view.term], view.active[0]
            if not whole:
                a = backend.take(made(term.a), at, axis, room)
                b = made(self._b[view.term])
                old, new = (backend.take(b, places, axis, room) for places in (at, source))
                new = renumbered(backend, term.block, new, part)
                return Slices(view.term, axis, at, index, a, old, new)
            b = made(self._b[view.term])
            if index is not None:
                new = backend.take(b, index, axis, room)
            else:
                new = renumbered(backend, term.block, b, step)
            if new is b:
                return None
            return Slices(view.term, axis, None, index, made(term.a), b, new)

        # Nothing here keeps what is made.
        yield from filter(None, map(of, {view.term: view for view in family.views}.values()))

    def _follow(self, family: Family, slices: Slices) -> None:
        """Tell the matrices of other families what has changed."""
        watched = self._totals.watched(slices.number, family)
        if not watched:
            return
        backend = self.problem.backend
        if backend.narrow and backend.product_type(slices.new.dtype) != slices.new.dtype:
            # A difference need not be a number of the narrow type; two products lose nothing.
            changes = [(slices.new, 1), (slices.old, -1)]
        else:
            # What was there before is not needed any more, but may belong to somebody else.
            free = slices.at is not None or slices.number in self._own
            into = slices.old if free else None
            changes = [(backend.xp.subtract(slices.new, slices.old, out=into), 1)]
        for total, view in watched:
            self._totals.add(total, view, slices.a, changes)

    def _write(self, slices: Slices) -> None:
        number, backend = slices.number, self.problem.backend
        if number not in self._own:
            source = self._b[number] if slices.at is not None else slices.new
            self._replace(number, backend.xp.asarray(source, copy=True))
        self._values[number] = None
        block = self._b[number]
        if slices.at is None:
            block[...] = slices.new
        elif (
            slices.index is not None
            and len(slices.at) > FEW * len(slices.index)
            and backend.is_fastest(block, slices.axis)
        ):
            backend.renumber_fastest(block, slices.index)
        else:
            backend.put(block, slices.at, slices.axis, slices.new)

    def _replace(self, number: int, block: Array) -> None:
        self._b[number] = block
        self._own.add(number)
        self._values[number] = None


def _moved(family: Family, step: Mapping[str, Index]) -> Index:
    """Return the root's indices that a step moves, or below which it moves anything."""
    moved = np.zeros(family.group.factors[family.root].size, dtype=bool)
    for name, index in step.items():
        changed = index != np.arange(index.shape[-1])
        moved |= changed.reshape(len(moved), -1).any(axis=1) if name != family.root else changed
    return np.flatnonzero(moved)
