"""Everything that can be wrong with a spec before any checkpoint is seen."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator

from rebasin_hub.spec.model import Line, Permutation, Spec
from rebasin_hub.spec.pattern import (
    All,
    Axis,
    Before,
    Index,
    Literal,
    Product,
    Sum,
    Variable,
    Word,
    words,
)

__all__ = ["Finding", "check_spec", "nearest"]

INTERFACES = frozenset({"class", "classes", "label", "labels", "logit", "logits", "vocab", "token"})
"""Axes that the outside world numbers; a permutation of that name is always a mistake."""

MAX_FINDINGS = 100
MAX_WITHIN = 8
# Looking for the nearest word takes far longer than everything else does.
MAX_COMPARED = 300
MAX_COMPARISONS = 20_000

Finding = tuple[tuple[str | int, ...], str]
"""A key path in the spec, and what is wrong there."""


def check_spec(spec: Spec, *, whole: bool = True) -> list[Finding]:
    """Return everything in a spec that contradicts itself.

    Where the spec is not `whole`, because some of its lines could not be read, nothing is said of
    words that stand in too few places.
    """
    first = list(itertools.islice(_check_permutations(spec), MAX_FINDINGS))
    used = _check_use(spec) if whole and not first else ()
    others = itertools.chain(_check_lines(spec), _check_undeclared(spec), used)
    return [*first, *itertools.islice(others, MAX_FINDINGS)]


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean '…'?" for the nearest known word, or nothing."""
    some = list(itertools.islice(known, MAX_COMPARED))
    close = difflib.get_close_matches(word, some, n=1, cutoff=cutoff)
    return f"; did you mean '{close[0]}'?" if close else ""


def _check_permutations(spec: Spec) -> Iterator[Finding]:
    declared = spec.permutations
    seen_parts: set[str] = set()
    for name, p in declared.items():
        path = ("permutations", name)
        if name.lower() in INTERFACES:
            yield (
                path,
                (
                    f"'{name}' is numbered by the outside world and stays as it is; "
                    "leave it undeclared, as a fixed size"
                ),
            )
        if p.within is not None:
            yield from _check_parent(spec, p)
        for part in p.parts:
            if part in declared or part in seen_parts:
                yield path, f"part '{part}' is declared already"
            seen_parts.add(part)
        if len(p.parts) == 1:
            yield path, "parts are two or more; a single part is the permutation itself"
        if (p.begin is not None or p.end is not None) and len(p.indices) == 0:
            yield path, "a chain (from, to) needs an index, such as hidden[layer]"
        if p.parts and (p.begin is not None or p.end is not None):
            yield path, "a chain (from, to) has no parts"
        if p.end is not None and (p.end in declared or p.end in spec.part_of):
            yield path, f"to: '{p.end}' is a permutation; the end of a chain is a fixed size"
        if p.begin is not None:
            for word in words(p.begin):
                yield from (((*path, "from"), m) for m in _word_problems(spec, word, p.indices))
            yield from _check_begin(spec, p)


def _check_begin(spec: Spec, p: Permutation) -> Iterator[Finding]:
    """Find a chain whose beginning leads back to itself."""
    seen: set[str] = set()
    ahead = [p]
    while ahead:
        begin = ahead.pop().begin
        for word in words(begin) if begin is not None else ():
            relative = word.index is not None and isinstance(word.index[-1], Before)
            following = spec.permutation_of(word)
            if relative and following is not None and following.name not in seen:
                seen.add(following.name)
                ahead.append(following)
    if p.name in seen:
        yield ("permutations", p.name, "from"), f"the beginning of '{p.name}' leads back to it"


def _check_parent(spec: Spec, p: Permutation) -> Iterator[Finding]:
    path = ("permutations", p.name, "within")
    parent = spec.permutations.get(p.within or "")
    if parent is None:
        yield path, f"'{p.within}' is not declared{nearest(p.within or '', spec.permutations)}"
        return
    if not set(parent.indices) <= set(p.indices):
        missing = ", ".join(i for i in parent.indices if i not in p.indices)
        yield path, f"'{p.within}' is indexed by {missing} besides; '{p.name}' must be too"
    trail = [p.name]
    while parent is not None:
        if parent.name in trail:
            yield path, f"a circle: {' within '.join([*trail, parent.name])}"
            return
        trail.append(parent.name)
        if len(trail) > MAX_WITHIN:
            yield path, f"permutations depend on one another more than {MAX_WITHIN} deep"
            return
        parent = spec.permutations.get(parent.within or "")


def _check_lines(spec: Spec) -> Iterator[Finding]:
    seen: dict[tuple[str, int], str] = {}
    for line in spec.lines:
        path = ("statistics" if line.statistic else "tensors", line.key)
        clash = (str(line.template), len(line.pattern))
        if clash in seen:
            yield path, f"'{line.template}' with {len(line.pattern)} axes has a line already"
        seen[clash] = line.key
        found = [word for axis in line.pattern for word in words(axis)]
        for word in dict.fromkeys(found):
            yield from ((path, m) for m in _word_problems(spec, word, line.template.variables))
        yield from ((path, m) for m in _name_problems(spec, line, found))
        here = {p.name for word in found if (p := spec.permutation_of(word)) is not None}
        here |= set(spec.variables_renumbered(line))
        for name in sorted(here):
            parent = spec.permutations[name].within
            if parent in spec.permutations and parent not in here:
                yield path, f"'{name}' depends on '{parent}', which must stand on this tensor too"
        for axis in line.pattern:
            yield from ((path, m) for m in _part_problems(spec, axis))


def _name_problems(spec: Spec, line: Line, found: list[Word]) -> Iterator[str]:
    """Name variables that are renumbered themselves: their own indices, and what they index."""
    renumbered = spec.variables_renumbered(line)
    for variable in renumbered:
        if spec.permutations[variable].parts:
            yield f"'{variable}' has parts, so it cannot stand in a name"
        for index in spec.permutations[variable].indices:
            if index not in line.template.variables:
                yield f"'{variable}' is indexed by {index}, but the name has no {{{index}}}"
            elif index in renumbered:
                yield f"'{variable}' is indexed by {index}, which is renumbered itself"
    for word in found:
        p = spec.permutation_of(word)
        implied = [Variable(name) for name in p.indices] if p is not None else []
        for name in map(_index_name, word.index or implied):
            if name in renumbered:
                yield (
                    f"'{word}' is indexed by {name}, which is renumbered itself; "
                    f"declare '{word.name}' within '{name}' instead"
                )


def _check_undeclared(spec: Spec) -> Iterator[Finding]:
    """Find words that are nearly a declared one; any other word is a fixed size."""
    places: dict[str, dict[tuple[str | int, ...], None]] = {}
    for path, axes in _axes(spec):
        for word in (word for axis in axes for word in words(axis)):
            if spec.permutation_of(word) is None and word.name not in spec.sizes:
                places.setdefault(word.name, {})[path] = None
    declared = [*spec.permutations, *spec.part_of]
    if len(places) * len(declared) > MAX_COMPARISONS:
        return  # More words than a person writes, and than can be compared in a moment.
    for name, paths in places.items():
        if hint := nearest(name, declared, cutoff=0.8):
            yield from ((path, f"'{name}' is not declared{hint}") for path in paths)


def _axes(spec: Spec) -> Iterator[tuple[tuple[str | int, ...], Iterable[Axis]]]:
    """Yield every expression of a spec with its path."""
    for line in spec.lines:
        yield ("statistics" if line.statistic else "tensors", line.key), line.pattern
    for p in spec.permutations.values():
        if p.begin is not None:
            yield ("permutations", p.name, "from"), (p.begin,)


def _word_problems(spec: Spec, word: Word, variables: Iterable[str]) -> Iterator[str]:
    variables = tuple(variables)
    p = spec.permutation_of(word)
    for item in word.index or ():
        name = _index_name(item)
        if name is not None and name not in variables:
            yield f"'{word}': the name has no {{{name}}}{nearest(name, variables)}"
    if p is not None:
        yield from _index_problems(p, word, variables)
    elif not all(isinstance(item, Variable | Literal) for item in word.index or ()):
        yield f"'{word}' is a fixed size, which has no relative index: write a variable or a number"


def _index_problems(p: Permutation, word: Word, variables: tuple[str, ...]) -> Iterator[str]:
    if word.index is None:
        for name in p.indices:
            if name not in variables:
                yield (
                    f"'{word.name}' is indexed by {name}, but the name has no {{{name}}}; "
                    f"write which one, such as {word.name}[-1]"
                )
    elif len(word.index) != len(p.indices):
        yield f"'{word}' has {len(word.index)} indices, its declaration has {len(p.indices)}"
    else:
        for item in word.index[:-1]:
            if isinstance(item, Before | All) or (isinstance(item, Literal) and item.value < 0):
                yield f"'{word}': only the last index can be relative ('{item}')"


def _index_name(item: Index) -> str | None:
    match item:
        case Variable(name) | Before(name) | All(name):
            return name
        case _:
            return None


def _part_problems(spec: Spec, axis: Axis) -> Iterator[str]:
    """Parts of one permutation must all be siblings in one sum, or they cannot trade places."""
    match axis:
        case Sum(terms):
            here = [w.name for t in terms for w in _top_words(t)]
            for part in dict.fromkeys(w for w in here if w in spec.part_of):
                parts = spec.permutations[spec.part_of[part]].parts
                if [w for w in here if w in parts] != list(parts):
                    yield (
                        f"the parts {', '.join(parts)} of '{spec.part_of[part]}' must each stand "
                        "once, in this order, in one sum"
                    )
                    return
            for term in terms:
                yield from _part_problems_below(spec, term)
        case _:
            yield from _part_problems_below(spec, axis, alone=True)


def _part_problems_below(spec: Spec, axis: Axis, *, alone: bool = False) -> Iterator[str]:
    match axis:
        case Word(name) if alone and name in spec.part_of:
            yield f"'{name}' is a part of '{spec.part_of[name]}': its siblings must stand beside it"
        case Product(factors):
            for factor in factors:
                if isinstance(factor, Sum):
                    yield from _part_problems(spec, factor)
                elif alone:
                    yield from _part_problems_below(spec, factor, alone=True)


def _top_words(axis: Axis) -> Iterator[Word]:
    match axis:
        case Word():
            yield axis
        case Product(factors):
            yield from (f for f in factors if isinstance(f, Word))


def _check_use(spec: Spec) -> Iterator[Finding]:
    """Find permutations that stand in only one place of a matrix: they would show from outside."""
    places: dict[str, int] = dict.fromkeys(spec.permutations, 0)
    mentioned: set[str] = set()
    for line in spec.lines:
        renumbered = spec.variables_renumbered(line)
        matrix = len(line.pattern) + len(renumbered) > 1
        mentioned.update(renumbered)
        for word in (word for axis in line.pattern for word in words(axis)):
            p = spec.permutation_of(word)
            if p is None:
                continue
            mentioned.add(p.name)
            # The parts of a permutation stand side by side, which is one place; a line with a
            # variable besides the permutation's own stands for many tensors.
            if not line.statistic and matrix and word.name not in p.parts[1:]:
                places[p.name] += 1 if set(line.template.variables) <= set(p.indices) else 2
        for name in renumbered:
            places[name] += 1
    found = _all_words(spec)
    for name in spec.sizes:
        if name not in found:
            yield ("sizes", name), f"'{name}' stands on no tensor{nearest(name, found)}"
    for name in spec.permutations:
        if name not in mentioned:
            yield (
                ("permutations", name),
                (f"'{name}' stands on no tensor{nearest(name, found)}"),
            )
        elif places[name] < 2:  # noqa: PLR2004
            yield (
                ("permutations", name),
                (
                    f"'{name}' stands on one matrix axis alone, so renumbering it would be visible "
                    "from outside; an axis of classes or inputs stays undeclared"
                ),
            )


def _all_words(spec: Spec) -> set[str]:
    ends = {p.end for p in spec.permutations.values() if p.end is not None}
    renumbered = {v for line in spec.lines for v in spec.variables_renumbered(line)}
    found = {word.name for _, axes in _axes(spec) for axis in axes for word in words(axis)}
    return found | ends | renumbered
