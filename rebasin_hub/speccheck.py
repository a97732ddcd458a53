"""Everything that can be wrong with a spec before any checkpoint is seen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from rebasin_hub.pattern import All, Axis, Before, Index, Product, Sum, Variable, Word, words
from rebasin_hub.spec import Permutation, Spec

__all__ = ["Finding", "check_spec", "nearest"]

INTERFACES = frozenset({"class", "classes", "label", "labels", "logit", "logits", "vocab", "token"})
"""Axes that the outside world numbers; a permutation of that name is always a mistake."""


Finding = tuple[tuple[str, ...], str]
"""A key path in the spec, and what is wrong there."""


def check_spec(spec: Spec) -> list[Finding]:
    """Return everything in a spec that contradicts itself."""
    return [*_check_permutations(spec), *_check_lines(spec), *_check_use(spec)]


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean '…'?" for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
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
        if p.end is not None and p.end in declared:
            yield path, f"to: '{p.end}' is a permutation; the end of a chain is a fixed size"
        for word in words(p.begin) if p.begin is not None else ():
            yield from ((path, m) for m in _word_problems(spec, word, p.indices))


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
        here = {p.name for word in found if (p := spec.permutation_of(word)) is not None}
        here |= set(spec.variables_renumbered(line))
        for name in sorted(here):
            parent = spec.permutations[name].within
            if parent is not None and parent not in here:
                yield path, f"'{name}' depends on '{parent}', which must stand on this tensor too"
        for axis in line.pattern:
            yield from ((path, m) for m in _part_problems(spec, axis))


def _word_problems(spec: Spec, word: Word, variables: Iterable[str]) -> Iterator[str]:
    variables = tuple(variables)
    p = spec.permutation_of(word)
    for item in word.index or ():
        name = _index_name(item)
        if name is not None and name not in variables:
            yield f"'{word}': the name has no {{{name}}}{nearest(name, variables)}"
    if p is not None:
        yield from _index_problems(p, word, variables)
    elif word.name not in spec.sizes:
        hint = nearest(word.name, [*spec.permutations, *spec.part_of], cutoff=0.8)
        if hint:
            yield f"'{word.name}' is not declared{hint}"


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
            if isinstance(item, Before | All):
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
    """Find permutations that only one matrix axis carries: they would show from outside."""
    places: dict[str, int] = dict.fromkeys(spec.permutations, 0)
    mentioned: set[str] = set()
    for line in spec.lines:
        renumbered = spec.variables_renumbered(line)
        mentioned.update(renumbered)
        for axis in line.pattern:
            names = {p.name for w in words(axis) if (p := spec.permutation_of(w)) is not None}
            mentioned |= names
            if len(line.pattern) + len(renumbered) > 1 and not line.statistic:
                for name in names:
                    places[name] += 1
        for name in renumbered:
            places[name] += 1
    for name in spec.permutations:
        if name not in mentioned:
            yield (
                ("permutations", name),
                (f"'{name}' stands on no tensor{nearest(name, _all_words(spec))}"),
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
    return {w.name for line in spec.lines for axis in line.pattern for w in words(axis)}
