"""Write what was inferred as a spec in YAML."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rebasin_hub.errors import InputError
from rebasin_hub.infer.fold import Folded, Line
from rebasin_hub.infer.labels import Expression, Factor, Term
from rebasin_hub.infer.layout import Layout
from rebasin_hub.infer.naming import names_of

__all__ = ["Written", "write_spec"]

PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.{}\-/]*")
NOT_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
PLAIN_WORDS = re.compile(r"[A-Za-z0-9_(][A-Za-z0-9_() +]*")
LONGEST_LINE = 100
MANY = 3
"""Equal parts side by side that are written once, with their number."""


@dataclass(frozen=True)
class Written:
    """A spec as text, and the names of its permutations.

    Args:
        text: YAML.
        names: for each group that is left after folding the word that stands for it.
        folded: the lines.

    """

    text: str
    names: Mapping[int, str]
    folded: Folded

    def factor_of(self) -> dict[str, int]:
        """Return for each factor of the bound group, such as `ff[3]`, the atom that it is."""
        found: dict[str, int] = {}
        for group, members in self.folded.members.items():
            for index, member in members.items():
                suffix = f"[{','.join(map(str, index))}]" if index else ""
                found[self.names[group] + suffix] = member
        return found


def write_spec(layout: Layout, folded: Folded, name: str, source: str) -> Written:
    """Write a spec.

    Args:
        layout: what was found.
        folded: its lines.
        name: the spec's name.
        source: where the graph came from, for people.

    Raises:
        InputError: a tensor's name cannot stand in a spec.

    """
    for line in folded.lines:
        _check_name(line, layout)
    names = names_of(layout, folded)
    writer = _Writer(layout, folded, names)
    text = "\n".join([*writer.head(name, source), *writer.body()]) + "\n"
    return Written(text, names, folded)


def _check_name(line: Line, layout: Layout) -> None:
    bare = [p for p in line.parts if not (p.startswith("{") and p[1:-1] in line.variables)]
    stored = line.name in layout.axes
    if any(set(p) & set("{}") for p in bare) or line.name.endswith("?") or not line.name:
        raise InputError(f"'{line.name}' cannot stand in a spec; rename this tensor in the model")
    if stored and line.variables:
        raise InputError(f"'{line.name}' reads like a template; rename this tensor in the model")


@dataclass(frozen=True)
class _Writer:
    layout: Layout
    folded: Folded
    names: Mapping[int, str]

    def head(self, name: str, source: str) -> Iterator[str]:
        yield "# yaml-language-server: $schema=schema.json"
        yield "spec: 1"
        yield f"name: {_key(name)}"
        told = json.dumps(f"Inferred from the graph of {source}", ensure_ascii=False)
        yield f"description: {told}"

    def body(self) -> Iterator[str]:
        if sizes := list(self.sizes()):
            yield from ("", "sizes:", *sizes)
        yield from ("", "permutations:" if self.names else "permutations: {}")
        yield from self.permutations()
        for section, statistic in (("tensors", False), ("statistics", True)):
            lines = [n for n in self.folded.lines if n.statistic == statistic and not _empty(n)]
            if lines or not statistic:
                yield from ("", f"{section}:" if lines else f"{section}: {{}}")
                yield from self.lines(lines)
        if empty := [line for line in self.folded.lines if _empty(line)]:
            yield from ("", "ignore:")
            yield from (f"  {_key(line.name)}: holds no elements" for line in empty)

    def sizes(self) -> Iterator[str]:
        """Yield the sizes of permutations that stand on no axis of their own."""
        alone = {
            axis[0][0]
            for n in self.folded.lines
            for axis in n.axes
            if len(axis) == 1 == len(axis[0])
        }
        for group, name in self.names.items():
            if group not in alone:
                yield f"  {name}: {self.layout.groups[group].size}"

    def permutations(self) -> Iterator[str]:
        width = max((len(self.declared(g)) for g in self.names), default=0) + 1
        for group in self.names:
            parent = self.layout.groups[group].parent
            within = "" if parent is None else f" {{within: {self.names[self.left(parent)]}}}"
            yield f"  {self.declared(group) + ':':<{width if within else 0}}{within}"

    def declared(self, group: int) -> str:
        indices = self.folded.indices[group]
        return self.names[group] + (f"[{', '.join(indices)}]" if indices else "")

    def left(self, group: int) -> int:
        """Return the group that stands for one after folding."""
        return group if group in self.names else self.of_member[group]

    @property
    def of_member(self) -> dict[int, int]:
        return {m: g for g, members in self.folded.members.items() for m in members.values()}

    def lines(self, lines: list[Line]) -> Iterator[str]:
        keys = [_key(line.name) for line in lines]
        width = max((len(key) for key in keys if len(key) < LONGEST_LINE // 2), default=0) + 2
        for key, line in zip(keys, lines, strict=True):
            yield f"  {key + ':':<{width}} {_quoted(self.pattern(line))}"

    def pattern(self, line: Line) -> str:
        return " ".join(self.axis(axis) for axis in line.axes) or "scalar"

    def axis(self, expression: Expression) -> str:
        terms = self.terms(expression)
        if len(terms) == 1 and " " not in terms[0]:
            return terms[0]
        return f"({' + '.join(terms)})"

    def terms(self, expression: Expression) -> list[str]:
        """Return the products of a sum; neighbours that stay become one number."""
        found: list[str] = []
        staying = 0
        for term in expression:
            if self.stays(term):
                staying += self.layout.labels.size((term,))
                continue
            found += [str(staying)] if staying else []
            staying = 0
            found.append(self.product(term))
        return list(_shortened([*found, str(staying)] if staying or not found else found))

    def stays(self, term: Term) -> bool:
        return not any(a in self.layout.groups for a in self.layout.labels.atoms((term,)))

    def product(self, term: Term) -> str:
        found: list[str] = []
        staying = 1
        for factor in term:
            inner: Term = (factor,)
            if self.stays(inner):
                staying *= self.layout.labels.size((inner,))
                continue
            found += [str(staying)] if staying > 1 else []
            staying = 1
            found.append(self.factor(factor))
        return " ".join([*found, str(staying)] if staying > 1 else found)

    def factor(self, factor: Factor) -> str:
        return self.names[factor] if isinstance(factor, int) else self.axis(factor)


def _shortened(terms: list[str]) -> Iterator[str]:
    """Yield the terms of a sum, the gates of an LSTM as `4 hidden`."""
    for term, run in itertools.groupby(terms):
        count = len(list(run))
        if count < MANY or term.isdigit():
            yield from [term] * count
        else:
            yield f"{count} {term}"


def _empty(line: Line) -> bool:
    """Tell whether a tensor has an axis of length 0, for which no pattern has a word."""
    return () in line.axes


def _key(text: str) -> str:
    """Return a name as YAML reads it back: as text, even if it looks like a number or a truth."""
    plain = PLAIN_KEY.fullmatch(text) and text.lower() not in NOT_TEXT
    return text if plain else json.dumps(text, ensure_ascii=False)


def _quoted(text: str) -> str:
    """Return text as YAML reads it back."""
    plain = PLAIN_KEY.fullmatch(text) or PLAIN_WORDS.fullmatch(text)
    return text if plain else json.dumps(text, ensure_ascii=False)
