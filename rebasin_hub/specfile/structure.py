"""The structure of a spec file: plain data to `SpecFile`, with pydantic's errors in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ValidationError

from rebasin_hub.spec.check import nearest
from rebasin_hub.specfile.schema import (
    NAME_PATTERN,
    PERMUTATION_PATTERN,
    SPEC_NAME_PATTERN,
    Match,
    PermutationEntry,
    SpecFile,
    TransformersExample,
    ZooExample,
)
from rebasin_hub.specfile.yamlsafe import Path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Finding", "Structure", "read_structure"]

MAX_FINDINGS = 100

Finding: TypeAlias = tuple[Path, str]
"""A key's path in the file, and what is wrong there."""


@dataclass(frozen=True)
class Structure:
    """What of a file has the right structure (None: too little to go on), and what is wrong.

    `left_out` names the sections of which entries were left out because they are wrong.
    """

    file: SpecFile | None
    findings: tuple[Finding, ...] = ()
    left_out: frozenset[str] = frozenset()


def read_structure(data: object) -> Structure:
    """Check the structure of a file's content, and leave out what is wrong."""
    if not isinstance(data, dict):
        return Structure(None, (((), f"expected keys and values, found {_described(data)}"),))
    try:
        return Structure(SpecFile.model_validate(data))
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_FINDINGS]
    findings = tuple((path, _message(e, path)) for e in errors if (path := _path(e, data)))
    kept = _without(data, [path for path, _ in findings])
    try:
        file = SpecFile.model_validate(kept)
    except ValidationError:
        file = None
    return Structure(file, findings, frozenset(str(path[0]) for path, _ in findings if path))


def _without(data: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    """Leave out wrong entries: whole values of plain keys, single entries of sections."""
    kept = {k: dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    for path in paths:
        top = str(path[0]) if path else ""
        section = kept.get(top)
        if isinstance(section, dict) and len(path) > 1:
            section.pop(path[1], None)
        else:
            kept.pop(top, None)
    return {"spec": 1, "name": "unnamed", **kept}


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


_WORDED = {
    "string_type": "text",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_TEXTS: dict[str | int, str] = {
    "tensors": "a pattern, or a list of patterns",
    "statistics": "a pattern, or a list of patterns",
    "sizes": "a whole number, an expression over config.json, or nothing",
}
_FORMS = {
    NAME_PATTERN: "letters, digits and '_', not beginning with a digit",
    SPEC_NAME_PATTERN: "lower-case letters, digits, '.', '_' and '-'",
    PERMUTATION_PATTERN: "a name such as 'embed', or one with indices such as 'ff[layer]'",
}


_TOLD = {
    "missing": "is missing",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "too_long": "has more than {max_length} entries",
    "union_tag_not_found": "expected the key 'transformers' or 'zoo', which says what model it is",
}


def _message(error: ErrorDetails, path: Path) -> str:
    kind, context, found = error["type"], error.get("ctx", {}), error["input"]
    if kind in _TOLD:
        return _TOLD[kind].format(**context)
    if kind == "extra_forbidden":
        return f"is no key of a spec{nearest(str(path[-1]), _known_keys(error['loc'][:-1]))}"
    if kind == "string_type" and path[0] in _TEXTS:
        expected = _TEXTS[path[0]]
    elif kind in _WORDED:
        expected = _WORDED[kind]
    elif kind == "string_pattern_mismatch":
        expected = _FORMS[context["pattern"]]
    else:
        expected = context.get("expected", "another value")
    return f"expected {expected}, found {_described(found)}"


_MODELS: dict[str | int, type[BaseModel]] = {
    "permutations": PermutationEntry,
    "match": Match,
    "TransformersExample": TransformersExample,
    "ZooExample": ZooExample,
}


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that are known where pydantic found another one."""
    model = next((_MODELS[step] for step in location if step in _MODELS), SpecFile)
    return [field.alias or name for name, field in model.model_fields.items()]


def _described(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:60]}…'"  # noqa: PLR2004
        case list():
            return "a list"
        case _:
            return "keys and values"
