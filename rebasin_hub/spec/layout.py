"""Other layouts of an architecture's tensors: their names there, and where their axes go.

A spec speaks of one layout, its own; a layout says what each tensor is called elsewhere, and with
two patterns over the same words how its axes are stored there. Both directions follow from the same
lines, and one leads back from the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rebasin_hub.errors import InputError
from rebasin_hub.spec.pattern import Axis, Integer, Pattern, Product, Word
from rebasin_hub.spec.sizes import Equation, solve
from rebasin_hub.spec.template import Template

if TYPE_CHECKING:
    import numpy as np

    from rebasin_hub.tensors import Header

    Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

__all__ = ["Layout", "LayoutLine", "Missing", "Move", "Moves", "Turn", "check_turn"]

Atom = str | int
SHOWN = 5


@dataclass(frozen=True)
class Turn:
    """How a tensor's axes are stored: `before` one way, `after` another, over the same words."""

    before: Pattern
    after: Pattern

    def inverted(self) -> Turn:
        """Return the way back."""
        return Turn(self.after, self.before)

    def solved(self, name: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> Solved:
        """Return what to do with a tensor of some shape.

        Raises:
            InputError: the shape does not fit, or leaves a size open.

        """
        written = " ".join(map(str, self.before))
        if len(shape) != len(self.before):
            raise InputError(
                f"tensor {name!r}: has {len(shape)} axes {list(shape)}, not '{written}'"
            )
        pairs = enumerate(zip(self.before, shape, strict=True))
        found = solve([Equation(name, n, axis, size) for n, (axis, size) in pairs], sizes, {}).sizes
        for axis, size in zip(self.before, shape, strict=True):
            unknown = [a for a in atoms([axis]) if isinstance(a, str) and a not in found]
            if len(unknown) > 1:
                raise InputError(
                    f"tensor {name!r}: its shape {list(shape)} leaves open what '{unknown[0]}' of "
                    f"'{written}' is; give --size {unknown[0]}=N"
                )
            # A single one would have been found if the rest divided the axis.
            if unknown or math.prod(_length(atom, found) for atom in atoms([axis])) != size:
                raise InputError(
                    f"tensor {name!r}: its shape {list(shape)} is not '{written}' with "
                    + ", ".join(f"{word} {n}" for word, n in found.items())
                )
        before, after = list(atoms(self.before)), list(atoms(self.after))
        return Solved(
            tuple(_length(atom, found) for atom in before),
            tuple(before.index(atom) for atom in after),
            tuple(math.prod(_length(a, found) for a in atoms([axis])) for axis in self.after),
        )


@dataclass(frozen=True)
class Solved:
    """A turn of one tensor: split its axes into `split`, order them by `order`, join to `shape`."""

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def apply(self, array: Array) -> Array:
        """Return a tensor turned, in fresh memory; every value stays what it is."""
        turned = array.reshape(self.split).transpose(self.order)
        return turned.copy(order="C").reshape(self.shape)


@dataclass(frozen=True)
class LayoutLine:
    """One line: a tensor's name here and there, and its turn from here to there, if any."""

    here: Template
    there: Template
    turn: Turn | None = None
    key: str = ""


@dataclass(frozen=True)
class Missing:
    """Tensors of one of the two layouts that the other one lacks, and why."""

    template: Template
    reason: str


@dataclass(frozen=True)
class Move:
    """What becomes of one tensor."""

    name: str
    shape: tuple[int, ...]
    turn: Solved | None


@dataclass(frozen=True)
class Moves:
    """What becomes of every tensor, by its old name, and which stay behind, with the reason."""

    moves: Mapping[str, Move]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Another layout of the tensors that a spec describes."""

    name: str
    lines: tuple[LayoutLine, ...]
    missing: tuple[Missing, ...] = ()
    sizes: Mapping[str, int | str | None] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def moves(self, header: Header, sizes: Mapping[str, int], *, back: bool = False) -> Moves:
        """Return what becomes of tensors that are led to this layout, or `back` from it.

        Of several lines that fit a name, the one with the fewest variables counts.

        Args:
            header: the tensors.
            sizes: sizes of words that shapes do not tell.
            back: whether they are in this layout, and led to the spec's own.

        Raises:
            InputError: a tensor is in no line, does not fit its line, or two get the same name.

        """
        moves: dict[str, Move] = {}
        left_out: dict[str, str] = {}
        unknown = []
        for name, info in header.items():
            found = self._line(name, len(info.shape), back=back)
            if found is not None:
                new, turn = found
                solved = None if turn is None else turn.solved(name, info.shape, sizes)
                shape = info.shape if solved is None else solved.shape
                moves[name] = Move(new, shape, solved)
            elif (reason := self._missing(name)) is not None:
                left_out[name] = reason
            else:
                unknown.append(name)
        if unknown:
            side = f"layout '{self.name}'" if back else "spec's own layout"
            more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            raise InputError(
                f"{len(unknown)} tensors are not in the {side}: "
                f"{', '.join(map(repr, unknown[:SHOWN]))}{more}"
            )
        _check_names(moves)
        return Moves(moves, left_out)

    def _line(self, name: str, rank: int, *, back: bool) -> tuple[str, Turn | None] | None:
        best: tuple[int, str, Turn | None] | None = None
        for old, new in [("", ""), *self.prefixes.items()]:
            old, new = (new, old) if back else (old, new)  # noqa: PLW2901
            if not name.startswith(old):
                continue
            for line in self.lines:
                one, other = (line.there, line.here) if back else (line.here, line.there)
                turn = line.turn.inverted() if line.turn is not None and back else line.turn
                values = one.match(name.removeprefix(old))
                if values is None or (turn is not None and len(turn.before) != rank):
                    continue
                if best is None or len(values) < best[0]:
                    best = len(values), new + other.fill(values), turn
        return None if best is None else best[1:]

    def _missing(self, name: str) -> str | None:
        bare = [name, *(name.removeprefix(p) for pair in self.prefixes.items() for p in pair)]
        for missing in self.missing:
            if any(missing.template.match(one) is not None for one in bare):
                return missing.reason
        return None


def atoms(pattern: Sequence[Axis]) -> Iterator[Atom]:
    """Yield the words and numbers of a pattern, slowest first."""
    for axis in pattern:
        match axis:
            case Product(factors):
                yield from atoms(factors)
            case Integer(value):
                yield value
            case Word(name):
                yield name


def check_turn(turn: Turn) -> str | None:
    """Say why a turn is none, or None: both sides need the same plain words, each once."""
    for side in (turn.before, turn.after):
        if not all(_plain(axis) for axis in side):
            return "a layout's axes are words, numbers and products of them, such as (head 2 half)"
    before, after = list(atoms(turn.before)), list(atoms(turn.after))
    if len(set(before)) < len(before) or len(set(after)) < len(after):
        return "a word or a number stands twice on one side of '->'"
    if set(before) != set(after):
        odd = sorted(str(atom) for atom in set(before) ^ set(after))
        return f"{', '.join(odd)} stands on one side of '->' only"
    return None


def _plain(axis: Axis) -> bool:
    match axis:
        case Product(factors):
            return all(map(_plain, factors))
        case Word(_, index):
            return index is None
        case _:
            return isinstance(axis, Integer)


def _length(atom: Atom, sizes: Mapping[str, int]) -> int:
    return atom if isinstance(atom, int) else sizes[atom]


def _check_names(moves: Mapping[str, Move]) -> None:
    firsts: dict[str, str] = {}
    for old, move in moves.items():
        first = firsts.setdefault(move.name, old)
        if first != old:
            raise InputError(f"tensors {first!r} and {old!r} would both be called {move.name!r}")
