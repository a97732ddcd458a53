"""The language of axis patterns: what stands on the axes of a tensor.

A pattern has one expression for each axis, in stored order::

    pattern    := "scalar" | axis+                 "scalar" is a tensor without axes
    axis       := word | integer | "_" | "(" sum ")"
    sum        := product ("+" product)*           parts side by side
    product    := axis+                            composed, first slowest
    word       := name [ "[" index ("," index)* "]" ]
    index      := name          the number that stands in the tensor's name
                | integer       that very index; -1 is the last one, -2 the one before it
                | "<" name      the nearest index before it
                | "<=" name     the nearest index at or before it
                | ":" [name]    all indices (before it), side by side
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "All",
    "Axis",
    "Before",
    "Index",
    "Integer",
    "Literal",
    "Pattern",
    "Product",
    "Sum",
    "Variable",
    "Wildcard",
    "Word",
    "blocks",
    "parse_pattern",
    "words",
]

MAX_LENGTH = 2_000
MAX_DEPTH = 8
MAX_AXES = 16
MAX_BLOCKS = 4_096
MAX_INTEGER = 2**31


@dataclass(frozen=True)
class Variable:
    """The index that stands in the tensor's name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Literal:
    """A fixed index; negative ones count from the end."""

    value: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Before:
    """The nearest index before a variable, or, if `inclusive`, at or before it."""

    name: str
    inclusive: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.inclusive else '<'}{self.name}"


@dataclass(frozen=True)
class All:
    """Every index side by side, or every index before a variable."""

    name: str | None = None

    def __str__(self) -> str:
        return f":{self.name or ''}"


Index: TypeAlias = Variable | Literal | Before | All


@dataclass(frozen=True)
class Word:
    """A permutation or a fixed size, perhaps with explicit indices."""

    name: str
    index: tuple[Index, ...] | None = None

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{','.join(map(str, self.index))}]"


@dataclass(frozen=True)
class Integer:
    """A fixed size given as a number."""

    value: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Wildcard:
    """A fixed size that nothing else shares."""

    def __str__(self) -> str:
        return "_"


@dataclass(frozen=True)
class Product:
    """Composed factors, the first one slowest."""

    factors: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"({self.inner})"

    @property
    def inner(self) -> str:
        """The factors as they are written inside parentheses."""
        return " ".join(map(str, self.factors))


@dataclass(frozen=True)
class Sum:
    """Parts side by side."""

    terms: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"({' + '.join(t.inner if isinstance(t, Product) else str(t) for t in self.terms)})"


Axis: TypeAlias = Word | Integer | Wildcard | Product | Sum
Pattern: TypeAlias = tuple[Axis, ...]


def words(axis: Axis) -> Iterator[Word]:
    """Yield every word of an expression, in written order."""
    match axis:
        case Word():
            yield axis
        case Product(parts) | Sum(parts):
            for part in parts:
                yield from words(part)


def blocks(pattern: Pattern) -> int:
    """Count the products that a pattern stands for once its sums are multiplied out."""

    def count(axis: Axis) -> int:
        match axis:
            case Sum(terms):
                return sum(map(count, terms))
            case Product(factors):
                return math.prod(map(count, factors))
            case _:
                return 1

    return math.prod(map(count, pattern))


_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*)|(\d+)|(<=|[()+\[\],<:-]))", re.ASCII)


class _Parser:
    """Recursive descent over a pattern's tokens; errors are `ValueError`s with a column."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise ValueError(f"a pattern has at most {MAX_LENGTH} characters, this has {len(text)}")
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                bad = len(text) - len(text[position:].lstrip())
                raise ValueError(f"unexpected '{text[bad]}' at column {bad + 1} of '{text}'")
            self.tokens.append(
                (match.group(match.lastindex or 0), match.start(match.lastindex or 0))
            )
            position = match.end()
        self.next = 0

    def peek(self) -> str | None:
        return self.tokens[self.next][0] if self.next < len(self.tokens) else None

    def take(self) -> str:
        token = self.peek()
        if token is None:
            raise ValueError(f"'{self.text}' ends too early")
        self.next += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise self.unexpected(f"expected '{token}'")
        self.next += 1

    def unexpected(self, wanted: str) -> ValueError:
        if self.next == len(self.tokens):
            return ValueError(f"'{self.text}' ends too early: {wanted}")
        token, position = self.tokens[self.next]
        return ValueError(f"{wanted}, found '{token}' at column {position + 1} of '{self.text}'")

    def pattern(self) -> Pattern:
        if [token for token, _ in self.tokens] == ["scalar"]:
            return ()
        if not self.tokens:
            raise ValueError("a pattern is empty; a tensor without axes is written 'scalar'")
        axes = []
        while self.peek() is not None:
            axes.append(self.axis(0))
        if len(axes) > MAX_AXES:
            raise ValueError(f"a tensor has at most {MAX_AXES} axes, '{self.text}' has {len(axes)}")
        if (count := blocks(tuple(axes))) > MAX_BLOCKS:
            raise ValueError(f"the sums spread out to {count} products, at most {MAX_BLOCKS}")
        return tuple(axes)

    def axis(self, depth: int) -> Axis:
        if depth > MAX_DEPTH:
            raise ValueError(f"parentheses are nested more than {MAX_DEPTH} deep")
        token = self.peek()
        if token == "(":
            return self.sum(depth)
        if token is not None and token.isdigit():
            return Integer(self.integer(minimum=1))
        if token == "_":
            self.take()
            return Wildcard()
        if token is not None and (token[0].isalpha() or token[0] == "_"):
            return self.word()
        raise self.unexpected("expected a word, a number or '('")

    def sum(self, depth: int) -> Axis:
        self.expect("(")
        terms = [self.product(depth)]
        while self.peek() == "+":
            self.take()
            terms.append(self.product(depth))
        self.expect(")")
        flat = (t for term in terms for t in (term.terms if isinstance(term, Sum) else (term,)))
        return terms[0] if len(terms) == 1 else Sum(tuple(flat))

    def product(self, depth: int) -> Axis:
        factors = [self.axis(depth + 1)]
        while self.peek() not in {"+", ")", None}:
            factors.append(self.axis(depth + 1))
        return factors[0] if len(factors) == 1 else Product(tuple(factors))

    def word(self) -> Word:
        name = self.take()
        if name == "scalar":
            raise ValueError(f"'scalar' stands alone, not beside other axes, in '{self.text}'")
        if self.peek() != "[":
            return Word(name)
        self.take()
        index = [self.index()]
        while self.peek() == ",":
            self.take()
            index.append(self.index())
        self.expect("]")
        return Word(name, tuple(index))

    def index(self) -> Index:
        match self.peek():
            case "<" | "<=":
                inclusive = self.take() == "<="
                return Before(self.name(), inclusive)
            case ":":
                self.take()
                return All() if self.peek() in {"]", ","} else All(self.name())
            case "-":
                self.take()
                return Literal(-self.integer(minimum=1))
            case str(token) if token.isdigit():
                return Literal(self.integer(minimum=0))
            case _:
                return Variable(self.name())

    def name(self) -> str:
        token = self.peek()
        if token is None or not (token[0].isalpha() or token[0] == "_"):
            raise self.unexpected("expected an index's name")
        return self.take()

    def integer(self, *, minimum: int) -> int:
        token = self.peek()
        if token is None or not token.isdigit():
            raise self.unexpected("expected a number")
        # The length is looked at first: converting a million digits would take minutes.
        if len(token) > len(str(MAX_INTEGER)) or not minimum <= int(token) < MAX_INTEGER:
            shown = token if len(token) <= 12 else f"{token[:12]}…"  # noqa: PLR2004
            raise ValueError(f"{shown} is not between {minimum} and {MAX_INTEGER - 1}")
        return int(self.take())


def parse_pattern(text: str) -> Pattern:
    """Read an axis pattern.

    Raises:
        ValueError: with what was expected, what was found, and its column.

    """
    return _Parser(text).pattern()
