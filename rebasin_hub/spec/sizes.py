"""Solve the sizes of a spec's words from the shapes of tensors and from config.json.

Each axis gives one equation: a polynomial in the words' sizes equals the axis' length. Equations
with one unknown left are solved and substituted until nothing more follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rebasin_hub.spec.pattern import Axis, Integer, Product, Sum, Wildcard, Word

__all__ = [
    "Equation",
    "Solution",
    "config_size",
    "config_tokens",
    "expression",
    "polynomial",
    "solve",
]

Monomial = tuple[str, ...]
Polynomial = dict[Monomial, int]


@dataclass(frozen=True)
class Equation:
    """One axis of one tensor: an expression over solved words, and the length it must have."""

    tensor: str
    axis: int
    expression: Axis
    length: int


def polynomial(axis: Axis, known: Mapping[str, int], alias: Mapping[str, str]) -> Polynomial:
    """Expand an expression into monomials of the words that are not known yet."""
    match axis:
        case Integer(value):
            return {(): value}
        case Word(name):
            name = alias.get(name, name)
            return {(): known[name]} if name in known else {(name,): 1}
        case Sum(terms):
            total: Polynomial = {}
            for term in terms:
                for monomial, factor in polynomial(term, known, alias).items():
                    total[monomial] = total.get(monomial, 0) + factor
            return total
        case Product(factors):
            product: Polynomial = {(): 1}
            for part in factors:
                expanded = polynomial(part, known, alias)
                step: Polynomial = {}
                for left, a in product.items():
                    for right, b in expanded.items():
                        key = tuple(sorted((*left, *right)))
                        step[key] = step.get(key, 0) + a * b
                product = step
            return product
        case Wildcard():
            raise AssertionError("wildcards are replaced by words before sizes are solved")


@dataclass(frozen=True)
class Solution:
    """Sizes that follow from equations, and for each solved word a tensor that shows it."""

    sizes: Mapping[str, int]
    shown_by: Mapping[str, str]


def solve(
    equations: Iterable[Equation], known: Mapping[str, int], alias: Mapping[str, str]
) -> Solution:
    """Return every size that follows from the equations, `known` ones included.

    Where equations contradict one another, the value that most of them give counts; whoever
    evaluates them with the result finds the others. `alias` names the word that shares a word's
    size.
    """
    sizes = dict(known)
    shown_by: dict[str, str] = {}
    pending = list(equations)
    while True:
        votes: dict[str, dict[int, list[str]]] = {}
        unsolved = []
        for equation in pending:
            terms = polynomial(equation.expression, sizes, alias)
            if terms.keys() <= {()}:
                continue
            unsolved.append(equation)
            if (root := _single_root(terms, equation.length)) is not None:
                word, value = root
                votes.setdefault(word, {}).setdefault(value, []).append(equation.tensor)
        if not votes:
            return Solution(sizes, shown_by)
        for word, values in votes.items():
            sizes[word], tensors = max(values.items(), key=lambda item: len(item[1]))
            shown_by[word] = tensors[0]
        pending = unsolved


def _single_root(terms: Polynomial, length: int) -> tuple[str, int] | None:
    """Solve `a·x^k + b = length` for a positive integer x, if that is the equation's form."""
    constant = terms.get((), 0)
    unknown = [(monomial, factor) for monomial, factor in terms.items() if monomial]
    if len(unknown) != 1 or len(set(unknown[0][0])) != 1:
        return None
    monomial, factor = unknown[0]
    value, rest = divmod(length - constant, factor)
    if rest or value <= 0:
        return None
    root = round(value ** (1 / len(monomial))) if len(monomial) > 1 else value
    return (monomial[0], root) if root ** len(monomial) == value else None


def expression(axis: Axis, sizes: Mapping[str, int], alias: Mapping[str, str]) -> str:
    """Show an expression with its numbers, for messages: `(kv rope) = 8·64 = 512`."""

    def numbers(part: Axis, *, top: bool = False) -> str:
        match part:
            case Product(factors):
                return "·".join(numbers(factor) for factor in factors)
            case Sum(terms):
                inner = " + ".join(numbers(term) for term in terms)
                return inner if top else f"({inner})"
            case Word(name):
                return str(sizes.get(alias.get(name, name), name))
            case _:
                return str(part)

    total = polynomial(axis, sizes, alias)
    value = str(total.get((), 0)) if set(total) <= {()} else "?"
    shown = numbers(axis, top=True)
    return f"{axis} = {value}" if shown == value else f"{axis} = {shown} = {value}"


MAX_DIGITS = 9

_CONFIG = re.compile(r"\s*(?:([A-Za-z_][\w.]*)|(\d+)|([*/|]))", re.ASCII)


def config_tokens(text: str) -> list[str]:
    """Split a size expression such as `hidden_size / num_attention_heads | 12`.

    Raises:
        ValueError: the text is no such expression.

    """
    tokens, position, text = [], 0, text.strip()
    while position < len(text):
        match = _CONFIG.match(text, position)
        if match is None:
            raise ValueError(f"unexpected '{text[position:].strip()[0]}' in '{text}'")
        tokens.append(match.group(0).strip())
        position = match.end()
    if any(token.isdigit() and len(token) > MAX_DIGITS for token in tokens):
        raise ValueError(f"'{text}' has a number of more than {MAX_DIGITS} digits")
    operands, operators = tokens[::2], tokens[1::2]
    if (
        len(operands) != len(operators) + 1
        or any(token in "*/|" for token in operands)
        or any(token not in "*/|" for token in operators)
    ):
        raise ValueError(
            f"'{text}' is no size: a number or a key of config.json, combined by '*', '/', and "
            "'|' between alternatives"
        )
    return tokens


def config_size(text: str, config: Mapping[str, Any], *, defaults: bool = True) -> int | None:
    """Evaluate a size expression over config.json; None where a key is missing.

    Alternatives are tried from left to right, and without `defaults` only those that name a key.
    `/` divides without rest or gives None.
    """
    tokens = config_tokens(text)
    while tokens:
        end = tokens.index("|") if "|" in tokens else len(tokens)
        value = _term(tokens[:end], config)
        named = not all(token.isdigit() for token in tokens[:end:2])
        if value is not None and (defaults or named):
            return value
        tokens = tokens[end + 1 :]
    return None


def _term(tokens: list[str], config: Mapping[str, Any]) -> int | None:
    numerator, denominator = 1, 1
    for operator, token in zip(["*", *tokens[1::2]], tokens[::2], strict=True):
        value = int(token) if token.isdigit() else _lookup(config, token)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            return None
        numerator, denominator = (
            (numerator * value, denominator)
            if operator == "*"
            else (numerator, denominator * value)
        )
    return numerator // denominator if math.gcd(numerator, denominator) == denominator else None


def _lookup(config: Mapping[str, Any], key: str) -> object:
    value: object = config
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
