"""Bind a spec to a checkpoint: match every tensor, solve every size, name every permutation.

Only the header is needed (names, element types, shapes), so a checkpoint that does not fit is
refused before any weight is read, with every mismatch in one list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.axes import Atom, BoundTensor, build_axis
from rebasin_hub.errors import BindingError, Mismatch
from rebasin_hub.matchnames import Matches, Values, match_names
from rebasin_hub.pattern import (
    All,
    Axis,
    Before,
    Integer,
    Literal,
    Product,
    Sum,
    Variable,
    Wildcard,
    Word,
    words,
)
from rebasin_hub.permute import Factor, SymmetryGroup
from rebasin_hub.sizes import Equation, config_size, expression, polynomial, solve
from rebasin_hub.spec import Line, Permutation, Spec
from rebasin_hub.tensors import Header

__all__ = ["Binding", "bind"]

Instance = tuple[int | str, ...]
"""The values of a permutation's indices."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A spec bound to the header of one checkpoint.

    `group` is the whole group of renumberings that keep the checkpoint's function; its factors are
    named like `embed`, `ff[3]`. `tensors` describes every tensor but those in `ignored`, which maps
    their names to the reason. `sizes` holds every solved size.
    """

    spec: Spec
    header: Header
    group: SymmetryGroup
    tensors: tuple[BoundTensor, ...]
    ignored: Mapping[str, str]
    sizes: Mapping[str, int]

    @cached_property
    def of_name(self) -> Mapping[str, BoundTensor]:
        """The bound tensor that a stored name belongs to."""
        return {str(name): tensor for tensor in self.tensors for name in tensor.names.flat}


def bind(
    spec: Spec,
    header: Header,
    *,
    config: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Binding:
    """Bind a spec to a checkpoint's header.

    Args:
        spec: a spec that `check_spec` finds nothing in.
        header: the checkpoint's tensors.
        config: the model's config.json, where the spec's sizes are looked up.
        sizes: sizes given by the user, which go before config.json.

    Raises:
        BindingError: with every mismatch.

    """
    return _Binder(spec, header, config or {}, sizes or {}).bind()


@dataclass(eq=False)
class _Tensor:
    """A tensor on its way: the line it matched, its names, and its pattern made concrete."""

    line: Line
    values: Values
    names: dict[Instance, str]
    pattern: tuple[Axis, ...] = ()

    @property
    def label(self) -> str:
        return self.line.template.fill(self.values)


@dataclass(eq=False)
class _Binder:
    spec: Spec
    header: Header
    config: Mapping[str, Any]
    given: Mapping[str, int]
    mismatches: list[Mismatch] = field(default_factory=list)
    members: dict[str, set[Instance]] = field(default_factory=dict)
    words: dict[str, tuple[Word, Instance]] = field(default_factory=dict)
    """For each concrete key (`ff[3]`) the word and the indices that it was made of."""
    wildcards: Iterator[int] = field(default_factory=itertools.count)

    def bind(self) -> Binding:
        matches = match_names(self.spec, self.header)
        self.mismatches += matches.mismatches
        tensors = self._tensors(matches)
        self._collect_members(tensors)
        for tensor in tensors:
            tensor.pattern = tuple(self._concrete(a, tensor) for a in tensor.line.pattern)
        self._stop_if_any()
        sizes, alias = self._solve(tensors)
        group = self._group(sizes)
        bound = tuple(self._bound(tensor, sizes, alias, group) for tensor in tensors)
        self._stop_if_any()
        return Binding(self.spec, self.header, group, bound, matches.ignored, sizes)

    def _stop_if_any(self) -> None:
        if self.mismatches:
            raise BindingError(self.spec.name, self.mismatches)

    def _note(self, kind: str, name: str, message: str) -> None:
        mismatch = Mismatch(kind, name, message)
        if mismatch not in self.mismatches:
            self.mismatches.append(mismatch)

    # Names: tensors that a renumbered name variable tells apart become one.

    def _tensors(self, matches: Matches) -> list[_Tensor]:
        grouped: dict[tuple[int, tuple[tuple[str, int | str], ...]], _Tensor] = {}
        for name, (line, values) in matches.found.items():
            moved = self.spec.variables_renumbered(line)
            fixed = {k: v for k, v in values.items() if k not in moved}
            key = (id(line), tuple(fixed.items()))
            tensor = grouped.setdefault(key, _Tensor(line, fixed, {}))
            tensor.names[tuple(values[v] for v in moved)] = name
        for tensor in grouped.values():
            self._check_names(tensor)
        return list(grouped.values())

    def _check_names(self, tensor: _Tensor) -> None:
        if len(tensor.names) == 1:
            return
        first, *others = tensor.names.values()
        for name in others:
            if self.header[name] != self.header[first]:
                self._note(
                    "size",
                    name,
                    f"is {_described(self.header, name)}, but '{first}', which it can trade "
                    f"places with, is {_described(self.header, first)}",
                )
        for instance in itertools.product(*_columns(tensor.names)):
            if instance not in tensor.names:
                values = {
                    **tensor.values,
                    **dict(zip(self.spec.variables_renumbered(tensor.line), instance, strict=True)),
                }
                self._note("missing", tensor.line.template.fill(values), "is missing")

    # Indices: which instances of each permutation there are, and what relative ones mean.

    def _collect_members(self, tensors: list[_Tensor]) -> None:
        for tensor in tensors:
            for word in _words_of(tensor.line.pattern):
                permutation = self.spec.permutation_of(word)
                if permutation is None:
                    continue
                instance = self._plain_instance(permutation, word, tensor.values)
                if instance is not None:
                    self.members.setdefault(permutation.name, set()).add(instance)
            for variable in self.spec.variables_renumbered(tensor.line):
                permutation = self.spec.permutations[variable]
                instance = tuple(tensor.values[i] for i in permutation.indices)
                self.members.setdefault(variable, set()).add(instance)

    def _plain_instance(
        self, permutation: Permutation, word: Word, values: Values
    ) -> Instance | None:
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

    def _concrete(self, axis: Axis, tensor: _Tensor) -> Axis:
        """Replace words by the keys of their instances, and relative indices by what they mean."""
        match axis:
            case Product(factors):
                return Product(tuple(self._concrete(f, tensor) for f in factors))
            case Sum(terms):
                parts = [self._concrete(term, tensor) for term in terms]
                flat = [
                    p for part in parts for p in (part.terms if isinstance(part, Sum) else [part])
                ]
                return Sum(tuple(flat)) if len(flat) != 1 else flat[0]
            case Wildcard():
                return Word(f"_{next(self.wildcards)}")
            case Word():
                permutation = self.spec.permutation_of(axis)
                if permutation is None:
                    return self._fixed(axis, tensor)
                return self._instance(permutation, axis, tensor)
            case Integer():
                return axis

    def _fixed(self, word: Word, tensor: _Tensor) -> Axis:
        if word.index is None:
            return self._key(word, ())
        values = [
            tensor.values[item.name] if isinstance(item, Variable) else str(item)
            for item in word.index
        ]
        return self._key(word, tuple(values))

    def _instance(self, permutation: Permutation, word: Word, tensor: _Tensor) -> Axis:
        plain = self._plain_instance(permutation, word, tensor.values)
        if plain is not None:
            return self._end_or_key(permutation, word, plain)
        assert word.index is not None
        lead = tuple(
            tensor.values[item.name] if isinstance(item, Variable) else item.value
            for item in word.index[:-1]
            if isinstance(item, Variable | Literal)
        )
        known = sorted(
            (m[-1] for m in self.members.get(permutation.name, ()) if m[:-1] == lead), key=_order
        )
        return self._relative(permutation, word, tensor, lead, known)

    def _relative(
        self,
        permutation: Permutation,
        word: Word,
        tensor: _Tensor,
        lead: Instance,
        known: list[int | str],
    ) -> Axis:
        assert word.index is not None
        values = tensor.values
        match word.index[-1]:
            case All(name):
                chosen = [v for v in known if name is None or _order(v) < _order(values[name])]
                return Sum(tuple(self._end_or_key(permutation, word, (*lead, v)) for v in chosen))
            case Literal(value) if -value <= len(known):
                return self._end_or_key(permutation, word, (*lead, known[value]))
            case Before(name, inclusive):
                here = _order(values[name])
                below = [v for v in known if _order(v) < here or (inclusive and _order(v) == here)]
                if below:
                    return self._end_or_key(permutation, word, (*lead, below[-1]))
                if permutation.begin is not None and not inclusive:
                    return self._concrete(permutation.begin, tensor)
        self._note("index", self._name(tensor), f"'{word}' is none of {_listed(known)}")
        return self._key(word, (*lead, str(word.index[-1])))

    def _end_or_key(self, permutation: Permutation, word: Word, instance: Instance) -> Axis:
        if permutation.end is not None:
            members = self.members[permutation.name]
            last = max((m[-1] for m in members if m[:-1] == instance[:-1]), key=_order)
            if instance[-1] == last:
                return self._key(Word(permutation.end), ())
        return self._key(word, instance)

    def _key(self, word: Word, instance: Instance) -> Word:
        key = _instance_key(word.name, instance)
        self.words.setdefault(key, (word, instance))
        return Word(key)

    def _name(self, tensor: _Tensor) -> str:
        return next(iter(tensor.names.values()))

    # Sizes.

    def _solve(self, tensors: list[_Tensor]) -> tuple[dict[str, int], dict[str, str]]:
        alias = {
            key: _instance_key(f"{self.spec.part_of[word.name]}.part", instance)
            for key, (word, instance) in self.words.items()
            if word.name in self.spec.part_of and word.name not in self.spec.sizes
        }
        equations = [
            Equation(self._name(t), i, axis, self.header[self._name(t)].shape[i])
            for t in tensors
            for i, axis in enumerate(t.pattern)
        ]
        sizes = solve(equations, self._known(tensors), alias)
        for equation in equations:
            self._check_equation(equation, sizes, alias)
        self._check_renumbered_names(tensors, sizes)
        self._stop_if_any()
        return sizes, alias

    def _known(self, tensors: list[_Tensor]) -> dict[str, int]:
        known: dict[str, int] = {}
        for key, (word, _) in self.words.items():
            size = self._given(word.name)
            if size is not None:
                known[key] = size
        for tensor in tensors:
            for variable, column in zip(
                self.spec.variables_renumbered(tensor.line), _columns(tensor.names), strict=True
            ):
                known.setdefault(self._name_key(variable, tensor), len(column))
        return known

    def _given(self, word: str) -> int | None:
        if word in self.given:
            return self.given[word]
        source = self.spec.sizes.get(word)
        return config_size(source, self.config) if isinstance(source, str) else source

    def _check_equation(
        self, equation: Equation, sizes: Mapping[str, int], alias: Mapping[str, str]
    ) -> None:
        total = polynomial(equation.expression, sizes, alias)
        unknown = {name for monomial in total for name in monomial}
        if unknown:
            self._note_unsolved(equation, sizes, alias)
        elif total.get((), 0) != equation.length:
            self._note(
                "size",
                equation.tensor,
                f"axis {equation.axis} is {equation.length}, expected "
                f"{expression(equation.expression, sizes, alias)}{self._origin(equation)}",
            )

    def _note_unsolved(
        self, equation: Equation, sizes: Mapping[str, int], alias: Mapping[str, str]
    ) -> None:
        """Explain an axis whose sizes do not follow: indivisible, or a size must be given."""
        named = {
            self.words[w.name][0].name if w.name in self.words else w.name
            for w in words(equation.expression)
            if alias.get(w.name, w.name) not in sizes
        }
        wanted = sorted(name for name in named if self.spec.sizes.get(name) is not None)
        if wanted:
            sources = " and ".join(f"'{w}' ({self.spec.sizes[w]} in config.json)" for w in wanted)
            options = " ".join(f"--size {w}=N" for w in wanted)
            self._note(
                "unsolved", "", f"the shapes do not tell {sources}; give config.json or {options}"
            )
            return
        self._note(
            "size",
            equation.tensor,
            f"axis {equation.axis} is {equation.length}, which does not solve "
            f"{expression(equation.expression, sizes, alias)}{self._origin(equation)}",
        )

    def _origin(self, equation: Equation) -> str:
        """Say which sizes in an expression came from outside the shapes."""
        found = []
        for name in dict.fromkeys(
            self.words[w.name][0].name for w in words(equation.expression) if w.name in self.words
        ):
            if name in self.given:
                found.append(f"{name} = {self.given[name]} was given")
            elif isinstance(source := self.spec.sizes.get(name), str) and (
                value := config_size(source, self.config)
            ):
                found.append(f"{name} = {value} is {source} in config.json")
        return f" ({'; '.join(found)})" if found else ""

    def _check_renumbered_names(self, tensors: list[_Tensor], sizes: Mapping[str, int]) -> None:
        for tensor in tensors:
            columns = _columns(tensor.names)
            for variable, column in zip(
                self.spec.variables_renumbered(tensor.line), columns, strict=True
            ):
                wanted = sizes[self._name_key(variable, tensor)]
                if len(column) != wanted:
                    self._note(
                        "missing",
                        self._name(tensor),
                        f"has {len(column)} siblings {{{variable}}}, expected {wanted}",
                    )

    def _name_key(self, variable: str, tensor: _Tensor) -> str:
        permutation = self.spec.permutations[variable]
        return _instance_key(variable, tuple(tensor.values[i] for i in permutation.indices))

    # The group, and the axes in terms of it.

    def _group(self, sizes: Mapping[str, int]) -> SymmetryGroup:
        factors: dict[str, Factor] = {}
        for name in _parents_first(self.spec):
            permutation = self.spec.permutations[name]
            for instance in sorted(
                self.members.get(name, ()), key=lambda m: [_order(v) for v in m]
            ):
                if permutation.end is not None and self._is_end(permutation, instance):
                    continue
                key = _instance_key(name, instance)
                factors[key] = Factor(
                    self._size(permutation, instance, sizes), self._parent(permutation, instance)
                )
                if (parent := factors[key].parent) is not None and parent not in factors:
                    self._note("index", key, f"depends on {parent}, which is not there")
        self._stop_if_any()
        return SymmetryGroup(factors)

    def _is_end(self, permutation: Permutation, instance: Instance) -> bool:
        key = self._end_or_key(permutation, Word(permutation.name), instance)
        return isinstance(key, Word) and key.name == permutation.end

    def _size(self, permutation: Permutation, instance: Instance, sizes: Mapping[str, int]) -> int:
        if not permutation.parts:
            return sizes[_instance_key(permutation.name, instance)]
        shared = _instance_key(f"{permutation.name}.part", instance)
        return sum(
            sizes.get(_instance_key(part, instance), sizes.get(shared, 0))
            for part in permutation.parts
        )

    def _parent(self, permutation: Permutation, instance: Instance) -> str | None:
        if permutation.within is None:
            return None
        parent = self.spec.permutations[permutation.within]
        values = dict(zip(permutation.indices, instance, strict=True))
        return _instance_key(parent.name, tuple(values[i] for i in parent.indices))

    def _bound(
        self,
        tensor: _Tensor,
        sizes: Mapping[str, int],
        alias: Mapping[str, str],
        group: SymmetryGroup,
    ) -> BoundTensor:
        def atom_of(key: str, size: int) -> Atom:
            word, instance = self.words.get(key, (Word(key), ()))
            if word.name in self.spec.part_of:
                return Atom(key, size, _instance_key(self.spec.part_of[word.name], instance), True)
            return Atom(key, size, key if key in group.factors else None)

        def size_of(key: str) -> int:
            return sizes[alias.get(key, key)]

        variables = self.spec.variables_renumbered(tensor.line)
        keys = [self._name_key(variable, tensor) for variable in variables]
        bound = BoundTensor(
            label=tensor.label,
            names=_array_of(tensor.names),
            name_atoms=tuple(Atom(key, sizes[key], key) for key in keys),
            axes=tuple(build_axis(axis, size_of, atom_of) for axis in tensor.pattern),
            statistic=tensor.line.statistic,
            parent_of={k: f.parent for k, f in group.factors.items() if f.parent is not None},
        )
        try:
            _ = bound.blocks
        except LookupError as problem:
            self._note("index", self._name(tensor), str(problem))
        return bound


def _words_of(pattern: Iterable[Axis]) -> Iterator[Word]:
    for axis in pattern:
        yield from words(axis)


def _instance_key(name: str, instance: Instance) -> str:
    return f"{name}[{','.join(map(str, instance))}]" if instance else name


def _order(value: int | str) -> tuple[int, str]:
    return (value, "") if isinstance(value, int) else (0, value)


def _columns(names: Mapping[Instance, str]) -> list[dict[int | str, None]]:
    """Return the distinct values of each renumbered variable, in their natural order."""
    width = len(next(iter(names)))
    return [dict.fromkeys(sorted({key[i] for key in names}, key=_order)) for i in range(width)]


def _array_of(names: Mapping[Instance, str]) -> NDArray[np.object_]:
    array = np.empty([len(column) for column in _columns(names)], dtype=object)
    for position, key in enumerate(sorted(names, key=lambda key: [_order(v) for v in key])):
        array.reshape(-1)[position] = names[key]
    return array


def _parents_first(spec: Spec) -> list[str]:
    def depth(name: str) -> int:
        parent = spec.permutations[name].within
        return 0 if parent is None else 1 + depth(parent)

    return sorted(spec.permutations, key=depth)


def _described(header: Header, name: str) -> str:
    return f"{header[name].dtype} {list(header[name].shape)}"


def _listed(values: list[int | str]) -> str:
    if not values:
        return "the indices found (none)"
    shown = ", ".join(map(str, values[:8]))
    return f"the indices found ({shown}{', …' if len(values) > 8 else ''})"  # noqa: PLR2004
