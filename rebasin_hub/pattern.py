"""The two small languages inside a spec: axis patterns and tensor-name templates.

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

A template is a tensor's name with `{layer}` for a number, `{gate,up}` for alternatives that are
all there, `{tower=text,vision}` for alternatives that index permutations, `{prefix*}` for any text
(the same one throughout a checkpoint), and a final `?` for a tensor that may be missing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
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
    "Template",
    "Variable",
    "Wildcard",
    "Word",
    "parse_pattern",
    "parse_template",
    "words",
]

MAX_LENGTH = 2_000
MAX_DEPTH = 8
MAX_AXES = 16
MAX_ALTERNATIVES = 256
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


@dataclass(frozen=True)
class Template:
    """A tensor name with variables, its alternatives already spread out into templates.

    `parts` alternates literal text and variables; `choices` holds the values of variables that
    stand for named alternatives; `text` names the variable that stands for any text.
    """

    parts: tuple[str | Variable, ...]
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    text: str | None = None

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else f"{{{part}}}" for part in self.parts)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that can index permutations, in written order."""
        return tuple(p.name for p in self.parts if isinstance(p, Variable) and p.name != self.text)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        # Built of escaped literals, digits, literal choices and at most one lazy run of text, so
        # that matching takes time linear in the name (quadratic with the text).
        choices = dict(self.choices)

        def piece(part: str | Variable) -> str:
            if isinstance(part, str):
                return re.escape(part)
            if part.name == self.text:
                return f"(?P<{part.name}>.*?)"
            if part.name in choices:
                return f"(?P<{part.name}>{'|'.join(map(re.escape, choices[part.name]))})"
            return f"(?P<{part.name}>0|[1-9][0-9]{{0,8}})"

        return re.compile("".join(map(piece, self.parts)), re.DOTALL)

    def match(self, name: str) -> dict[str, int | str] | None:
        """Return the variables' values if a name fits, numbers as int; else None."""
        found = self._regex.fullmatch(name)
        if found is None:
            return None
        return {
            key: int(value) if key in self.variables and key not in dict(self.choices) else value
            for key, value in found.groupdict().items()
        }

    def fill(self, values: Mapping[str, int | str]) -> str:
        """Return the name with variables replaced; those without a value stay as `{name}`."""
        return "".join(
            part if isinstance(part, str) else str(values.get(part.name, f"{{{part.name}}}"))
            for part in self.parts
        )


_BRACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def parse_template(text: str) -> tuple[tuple[Template, ...], bool]:
    """Read a tensor-name template.

    Returns the templates, one for each combination of unnamed alternatives, and whether the tensor
    may be missing.

    Raises:
        ValueError: with what is wrong and what was expected.

    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a name has at most {MAX_LENGTH} characters, this has {len(text)}")
    optional = text.endswith("?")
    body = text.removesuffix("?")
    if not body:
        raise ValueError("a tensor's name is empty")
    pieces = _BRACE.split(body)
    if any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise ValueError(f"braces do not pair up in '{text}'")
    slots: list[tuple[str | Variable, ...]] = []
    choices: list[tuple[str, tuple[str, ...]]] = []
    free: str | None = None
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            slots.append((piece,))
        elif "=" in piece:
            name, _, options = piece.partition("=")
            choices.append((_variable(name, text), _options(options, text)))
            slots.append((Variable(name.strip()),))
        elif "," in piece:
            slots.append(_options(piece, text))
        elif piece.endswith("*"):
            if free is not None:
                raise ValueError(f"'{text}' has two texts; one '{{name*}}' is allowed")
            free = _variable(piece[:-1], text)
            slots.append((Variable(free),))
        else:
            slots.append((Variable(_variable(piece, text)),))
    if (count := _count(slots)) > MAX_ALTERNATIVES:
        raise ValueError(f"'{text}' stands for {count} names; at most {MAX_ALTERNATIVES}")
    templates = tuple(
        Template(_joined(parts), tuple(choices), free) for parts in itertools.product(*slots)
    )
    for template in templates:
        _check_variables(template, text)
    return templates, optional


def _count(slots: list[tuple[str | Variable, ...]]) -> int:
    count = 1
    for slot in slots:
        count *= len(slot)
    return count


def _variable(name: str, text: str) -> str:
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{{{name}}}' in '{text}' is no variable: a name like {{layer}} is")
    return name


def _options(piece: str, text: str) -> tuple[str, ...]:
    options = tuple(option.strip() for option in piece.split(","))
    if len(set(options)) < len(options) or not all(options):
        raise ValueError(f"the alternatives '{{{piece}}}' in '{text}' are empty or not distinct")
    return options


def _check_variables(template: Template, text: str) -> None:
    names = [part.name for part in template.parts if isinstance(part, Variable)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"'{{{repeated[0]}}}' stands twice in '{text}'")
    digits = set(template.variables) - {name for name, _ in template.choices}
    for left, right in itertools.pairwise(template.parts):
        touching = [p for p in (left, right) if isinstance(p, Variable) and p.name in digits]
        if len(touching) == 2:  # noqa: PLR2004
            raise ValueError(f"two numbers touch in '{text}': put text between them")


def _joined(parts: tuple[str | Variable, ...]) -> tuple[str | Variable, ...]:
    """Merge neighbouring literals, so that equal templates compare equal."""
    joined: list[str | Variable] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)
