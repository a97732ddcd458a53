"""Which instances of each permutation a checkpoint has, and what stands on each of its axes.

A spec says `hidden[<layer]`; a checkpoint with the layers 0, 3 and 7 has `hidden[0]`, `hidden[3]`
and `hidden[7]`, and in its layer 7 the word means `hidden[3]`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rebasin_hub.bind.names import Matches, Values
from rebasin_hub.errors import Mismatch
from rebasin_hub.spec import Line, Permutation, Spec
from rebasin_hub.spec.pattern import (
    All,
    Axis,
    Before,
    Integer,
    Literal,
    Pattern,
    Product,
    Sum,
    Variable,
    Wildcard,
    Word,
    blocks,
    words,
)
from rebasin_hub.tensors import Header

__all__ = ["Instance", "Instances", "NamedTensor", "columns", "instance_key", "order"]

MAX_BLOCKS = 100_000

Instance: TypeAlias = tuple[int | str, ...]
"""The values of a permutation's indices."""


@dataclass(eq=False)
class NamedTensor:
    """One tensor, or all that differ by a renumbered part of their name.

    `values` holds the variables that are not renumbered, `names` the stored name for each choice of
    those that are, `pattern` what stands on the axes, all words made concrete.
    """

    line: Line
    values: Values
    names: dict[Instance, str]
    pattern: tuple[Axis, ...] = ()

    @property
    def first(self) -> str:
        """The first stored name."""
        return next(iter(self.names.values()))

    @property
    def label(self) -> str:
        """The name, with variables left where they are renumbered."""
        return self.line.template.fill(self.values)


class Instances:
    """A spec's words in one checkpoint.

    `tensors` holds every matched tensor with a concrete pattern; `members` the instances of each
    permutation; `words` for each concrete word (`ff[3]`) the spec's word and its indices;
    `mismatches` what does not fit.
    """

    def __init__(self, spec: Spec, header: Header, matches: Matches) -> None:
        self.spec = spec
        self.members: dict[str, set[Instance]] = {}
        self.words: dict[str, tuple[Word, Instance]] = {}
        self.mismatches: list[Mismatch] = []
        self.tensors = _tensors(spec, matches)
        self._wildcards = itertools.count()
        for tensor in self.tensors:
            self.mismatches += _sibling_mismatches(spec, header, tensor)
            self._collect(tensor)
        for tensor in self.tensors:
            tensor.pattern = self._pattern(tensor)

    def name_key(self, variable: str, tensor: NamedTensor) -> str:
        """Return the concrete word of a renumbered name variable."""
        indices = self.spec.permutations[variable].indices
        return instance_key(variable, tuple(tensor.values[i] for i in indices))

    def is_end(self, permutation: Permutation, instance: Instance) -> bool:
        """Tell whether an instance is the fixed end of its chain."""
        if permutation.end is None:
            return False
        chain = [m[-1] for m in self.members[permutation.name] if m[:-1] == instance[:-1]]
        return bool(chain) and instance[-1] == max(chain, key=order)

    def visible(self) -> Iterator[Mismatch]:
        """Find instances that stand in one place of the matrices: they would show from outside.

        That is how a permutation of the model's outputs looks, such as the last features of a
        network without its head.
        """
        places = {
            instance_key(name, instance): 0
            for name, members in self.members.items()
            for instance in members
            if not self.is_end(self.spec.permutations[name], instance)
        }
        for tensor in self.tensors:
            variables = self.spec.variables_renumbered(tensor.line)
            if tensor.line.statistic or len(tensor.pattern) + len(variables) < 2:  # noqa: PLR2004
                continue
            for key in (word.name for axis in tensor.pattern for word in words(axis)):
                word, instance = self.words.get(key, (Word(key), ()))
                permutation = self.spec.permutation_of(word)
                # The parts of a permutation stand side by side, which is one place.
                if permutation is None or word.name in permutation.parts[1:]:
                    continue
                if (whole := instance_key(permutation.name, instance)) in places:
                    places[whole] += 1
            for variable in variables:
                places[self.name_key(variable, tensor)] += 1
        for key, count in places.items():
            if count < 2:  # noqa: PLR2004
                message = (
                    "stands on one matrix axis alone, so renumbering it would be visible from "
                    "outside; is a part of the model missing?"
                )
                yield Mismatch("index", key, message)

    def _collect(self, tensor: NamedTensor) -> None:
        """Take note of the instances that a tensor mentions by their very indices."""
        for word in (word for axis in tensor.line.pattern for word in words(axis)):
            permutation = self.spec.permutation_of(word)
            if permutation is None:
                continue
            instance = _plain_instance(permutation, word, tensor.values)
            if instance is not None:
                self.members.setdefault(permutation.name, set()).add(instance)
        for variable in self.spec.variables_renumbered(tensor.line):
            indices = self.spec.permutations[variable].indices
            instance = tuple(tensor.values[i] for i in indices)
            self.members.setdefault(variable, set()).add(instance)

    def _pattern(self, tensor: NamedTensor) -> Pattern:
        """Make a pattern concrete, if that does not blow it up."""
        pattern = tuple(self._concrete(axis, tensor) for axis in tensor.line.pattern)
        if (count := blocks(pattern)) <= MAX_BLOCKS:
            return pattern
        message = f"'{tensor.line.key}' spreads out to {count} products, at most {MAX_BLOCKS}"
        self.mismatches.append(Mismatch("index", tensor.first, message))
        return tuple(self._concrete(Wildcard(), tensor) for _ in pattern)

    def _concrete(self, axis: Axis, tensor: NamedTensor) -> Axis:
        """Replace words by the keys of their instances, and relative indices by what they mean."""
        match axis:
            case Product(factors):
                return Product(tuple(self._concrete(factor, tensor) for factor in factors))
            case Sum(terms):
                parts = [self._concrete(term, tensor) for term in terms]
                flat = [p for t in parts for p in (t.terms if isinstance(t, Sum) else [t])]
                return Sum(tuple(flat)) if len(flat) != 1 else flat[0]
            case Wildcard():
                return Word(f"_{next(self._wildcards)}")
            case Word():
                return self._word(axis, tensor)
            case Integer():
                return axis

    def _word(self, word: Word, tensor: NamedTensor) -> Axis:
        permutation = self.spec.permutation_of(word)
        if permutation is None:
            return self._fixed(word, tensor)
        plain = _plain_instance(permutation, word, tensor.values)
        if plain is not None:
            return self._end_or_key(permutation, word, plain)
        return self._relative(permutation, word, tensor)

    def _fixed(self, word: Word, tensor: NamedTensor) -> Word:
        values = (
            tensor.values[item.name] if isinstance(item, Variable) else str(item)
            for item in word.index or ()
        )
        return self._key(word, tuple(values))

    def _relative(self, permutation: Permutation, word: Word, tensor: NamedTensor) -> Axis:
        """Resolve a last index that counts from another place: `<layer`, `:`, `-1`."""
        assert word.index is not None
        *leading, last = word.index
        lead = tuple(
            tensor.values[item.name] if isinstance(item, Variable) else item.value
            for item in leading
            if isinstance(item, Variable | Literal)
        )
        known = sorted(
            (m[-1] for m in self.members.get(permutation.name, ()) if m[:-1] == lead), key=order
        )
        values = tensor.values
        match last:
            case All(name):
                chosen = [v for v in known if name is None or order(v) < order(values[name])]
                return Sum(tuple(self._end_or_key(permutation, word, (*lead, v)) for v in chosen))
            case Literal(value) if -value <= len(known):
                return self._end_or_key(permutation, word, (*lead, known[value]))
            case Before(name, inclusive):
                here = order(values[name])
                below = [v for v in known if order(v) < here or (inclusive and order(v) == here)]
                if below:
                    return self._end_or_key(permutation, word, (*lead, below[-1]))
                if permutation.begin is not None and not inclusive:
                    return self._concrete(permutation.begin, tensor)
        message = f"'{word}' is none of {_listed(known)}"
        self.mismatches.append(Mismatch("index", tensor.first, message))
        return self._key(word, (*lead, str(last)))

    def _end_or_key(self, permutation: Permutation, word: Word, instance: Instance) -> Word:
        if permutation.end is not None and self.is_end(permutation, instance):
            return self._key(Word(permutation.end), ())
        return self._key(word, instance)

    def _key(self, word: Word, instance: Instance) -> Word:
        key = instance_key(word.name, instance)
        self.words.setdefault(key, (word, instance))
        return Word(key)


def _tensors(spec: Spec, matches: Matches) -> list[NamedTensor]:
    """Make one of the tensors that a renumbered name variable tells apart."""
    grouped: dict[tuple[int, tuple[tuple[str, int | str], ...]], NamedTensor] = {}
    for name, (line, values) in matches.found.items():
        moved = spec.variables_renumbered(line)
        fixed = {k: v for k, v in values.items() if k not in moved}
        key = (id(line), tuple(fixed.items()))
        tensor = grouped.setdefault(key, NamedTensor(line, fixed, {}))
        tensor.names[tuple(values[v] for v in moved)] = name
    return list(grouped.values())


def _sibling_mismatches(spec: Spec, header: Header, tensor: NamedTensor) -> Iterator[Mismatch]:
    """Tensors that trade places must all be there, and be alike."""
    if len(tensor.names) == 1:
        return
    first, *others = tensor.names.values()
    for name in others:
        if header[name] != header[first]:
            message = (
                f"is {_described(header, name)}, but '{first}', which it can trade places with, "
                f"is {_described(header, first)}"
            )
            yield Mismatch("size", name, message)
    moved = spec.variables_renumbered(tensor.line)
    for instance in itertools.product(*columns(tensor.names)):
        if instance not in tensor.names:
            values = {**tensor.values, **dict(zip(moved, instance, strict=True))}
            yield Mismatch("missing", tensor.line.template.fill(values), "is missing")


def _plain_instance(permutation: Permutation, word: Word, values: Values) -> Instance | None:
    """Return the indices of a word that names them outright; None where they are relative."""
    index = word.index or tuple(Variable(name) for name in permutation.indices)
    instance: list[int | str] = []
    for item in index:
        match item:
            case Variable(name):
                instance.append(values[name])
            case Literal(value) if value >= 0:
                instance.append(value)
            case _:
                return None
    return tuple(instance)


def instance_key(name: str, instance: Instance) -> str:
    """Return the concrete word of an instance, such as `ff[3]`."""
    return f"{name}[{','.join(map(str, instance))}]" if instance else name


def order(value: int | str) -> tuple[int, str]:
    """Return a key that sorts numbers by value and text by letters."""
    return (value, "") if isinstance(value, int) else (0, value)


def columns(names: Mapping[Instance, str]) -> list[list[int | str]]:
    """Return the distinct values of each renumbered variable, in their natural order."""
    width = len(next(iter(names)))
    return [sorted({key[i] for key in names}, key=order) for i in range(width)]


def _described(header: Header, name: str) -> str:
    return f"{header[name].dtype} {list(header[name].shape)}"


def _listed(values: list[int | str]) -> str:
    if not values:
        return "the indices found (none)"
    shown = ", ".join(map(str, values[:8]))
    return f"the indices found ({shown}{', …' if len(values) > 8 else ''})"  # noqa: PLR2004
