"""What pydantic finds wrong with a file's content, in plain words and by the file's own keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from rebasin_hub.spec.check import nearest
from rebasin_hub.yamlfile.safe import Path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Finding", "Words", "described", "explain"]

MAX_FINDINGS = 100
MAX_SHOWN = 60
LITERAL = "literal_error"
_CHOICE = re.compile(r"'([^']*)'")

Finding: TypeAlias = tuple[Path, str]
"""A key's path in the file, and what is wrong there."""


@dataclass(frozen=True)
class Words:
    """What a model expects, where that says more than a type or a regular expression.

    `texts` is by a top-level key of which all values are text; `forms` by a regular expression;
    `tags` says which keys tell the members of a union apart.
    """

    texts: Mapping[str | int, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    tags: str = "a key that tells what is meant"


def explain(
    error: ValidationError,
    data: object,
    model: type[BaseModel],
    what: str,
    words: Words | None = None,
) -> list[Finding]:
    """Return each wrong place once, with all that was expected there.

    Args:
        error: what `model.model_validate(data)` raised.
        data: a file's content.
        model: what it should have been.
        what: what the file is, such as "recipe".
        words: what the model expects.

    """
    found: dict[Path, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False)[:MAX_FINDINGS]:
        found.setdefault(_path(details, data), []).append(details)
    explainer = _Explainer(model, what, words or Words())
    findings: list[Finding] = []
    for path, several in found.items():
        # Of a union, the member that fits best tells more than those that do not fit at all.
        inside = any(len(p) > len(path) and p[: len(path)] == path for p in found)
        told = explainer.told(several, path)
        findings += [(path, message) for message in (told[:0] if inside else told)]
    return findings


@dataclass(frozen=True)
class _Explainer:
    model: type[BaseModel]
    what: str
    words: Words

    def told(self, several: list[ErrorDetails], path: Path) -> list[str]:
        """Return what is wrong at one place: sentences, or else one with all expectations."""
        if sentences := [s for e in several if (s := self.sentence(e, path))]:
            return list(dict.fromkeys(sentences))
        expected = " or ".join(dict.fromkeys(self.expected(e, path) for e in several))
        value = several[0]["input"]
        choices = [_CHOICE.findall(e["ctx"]["expected"]) for e in several if e["type"] == LITERAL]
        hint = nearest(str(value)[:MAX_SHOWN], itertools.chain(*choices))
        return [f"expected {expected}, found {described(value)}{hint}"]

    def sentence(self, error: ErrorDetails, path: Path) -> str | None:
        kind, context = error["type"], error.get("ctx", {})
        if kind in _TOLD:
            return _TOLD[kind].format(**context)
        if kind == "extra_forbidden":
            near = nearest(str(path[-1]), known_keys(self.model, error["loc"][:-1]))
            return f"is no key of a {self.what}{near}"
        if kind == "union_tag_not_found":
            return f"expected {self.words.tags}"
        if kind in {"value_error", "assertion_error"}:
            return str(context["error"])
        return None

    def expected(self, error: ErrorDetails, path: Path) -> str:
        kind, context = error["type"], error.get("ctx", {})
        if kind == "string_type" and path and path[0] in self.words.texts:
            return self.words.texts[path[0]]
        if kind == "string_pattern_mismatch":
            pattern = context["pattern"]
            return self.words.forms.get(pattern, f"text that matches {pattern}")
        if kind in _EXPECTED:
            return _EXPECTED[kind].format(**context)
        return str(context.get("expected", "another value"))


_TOLD = {
    "missing": "is missing",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "too_long": "has more than {max_length} entries",
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "none_required": "nothing",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
}


def _path(error: ErrorDetails, data: object) -> Path:
    """Return the path of an error without the steps that only pydantic knows."""
    path: list[str | int] = []
    value = data
    for step in error["loc"]:
        inner = _item(value, step)
        if inner is not _NOTHING:
            path.append(step)
            value = inner
    return (*path, error["loc"][-1]) if error["type"] == "missing" else tuple(path)


_NOTHING = object()


def _item(value: object, step: str | int) -> object:
    match value:
        case dict() if step in value:
            return value[step]
        case list() if isinstance(step, int) and step < len(value):
            return value[step]
        case _:
            return _NOTHING


def known_keys(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """Return the keys that a model knows at a place, as pydantic names the place."""
    kinds: list[Any] = [model]
    for step in location:
        members = list(_members(kinds))
        named = [kind for kind in members if getattr(kind, "__name__", None) == step]
        kinds = named or [inner for kind in members for inner in _inside(kind, step)]
    models = [kind for kind in _members(kinds) if _is_model(kind)]
    return [f.alias or name for kind in models for name, f in kind.model_fields.items()]


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(kinds: Iterable[Any]) -> Iterator[Any]:
    """Yield plain types, without annotations and unions."""
    for kind in kinds:
        if get_origin(kind) is Annotated:
            yield from _members(get_args(kind)[:1])
        elif get_origin(kind) in {Union, UnionType}:
            yield from _members(get_args(kind))
        elif kind is not NoneType:
            yield kind


def _inside(kind: Any, step: str | int) -> Iterator[Any]:  # noqa: ANN401 - a type's form
    """Yield the types of what stands under a key or at a position of a value."""
    if _is_model(kind):
        fields = kind.model_fields.items()
        yield from (f.annotation for name, f in fields if step in {name, f.alias})
    elif get_origin(kind) in {dict, list}:
        yield get_args(kind)[-1]


def described(value: object) -> str:
    """Return a value as messages show it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{value}'" if len(value) <= MAX_SHOWN else f"'{value[:MAX_SHOWN]}…'"
        case list():
            return "a list"
        case _:
            return "keys and values"
