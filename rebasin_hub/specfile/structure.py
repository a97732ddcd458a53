"""The structure of a spec file: plain data to `SpecFile`, or what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rebasin_hub.specfile.schema import (
    NAME_PATTERN,
    PERMUTATION_PATTERN,
    SPEC_NAME_PATTERN,
    SpecFile,
)
from rebasin_hub.yamlfile.explain import Finding, Words, described, explain
from rebasin_hub.yamlfile.safe import Path

__all__ = ["Structure", "read_structure"]

WORDS = Words(
    texts={
        "tensors": "a pattern, or a list of patterns",
        "statistics": "a pattern, or a list of patterns",
        "sizes": "a whole number, an expression over config.json, or nothing",
    },
    forms={
        NAME_PATTERN: "letters, digits and '_', not beginning with a digit",
        SPEC_NAME_PATTERN: "lower-case letters, digits, '.', '_' and '-'",
        PERMUTATION_PATTERN: "a name such as 'embed', or one with indices such as 'ff[layer]'",
    },
    tags="the key 'transformers' or 'zoo', which says what model it is",
)


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
        return Structure(None, (((), f"expected keys and values, found {described(data)}"),))
    try:
        return Structure(SpecFile.model_validate(data))
    except ValidationError as error:
        findings = tuple(explain(error, data, SpecFile, "spec", WORDS))
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
