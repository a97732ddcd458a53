"""Results as JSON values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from rebasin_hub.align import Alignment
from rebasin_hub.pipeline.compare import Comparison
from rebasin_hub.pipeline.hub import Audit
from rebasin_hub.prove import Proof
from rebasin_hub.registry.results import Verified, Version
from rebasin_hub.tasks.find import TaskKind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["to_json"]

DERIVED: Mapping[type, Sequence[str]] = {
    Audit: ("holds",),
    Comparison: ("same",),
    Verified: ("sound",),
    Version: ("reference",),
}
"""Properties that programs want to see beside the fields."""


def to_json(value: object) -> object:  # noqa: PLR0911 - one for each kind of value
    """Turn a result into plain JSON values; numbers that are not finite become null."""
    if isinstance(value, Alignment):
        return _alignment(value)
    if isinstance(value, Proof):
        return value.as_json()
    if isinstance(value, TaskKind):
        return {key: getattr(value, key) for key in ("name", "description", "data", "example")}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        derived = {name: getattr(value, name) for name in DERIVED.get(type(value), ())}
        return {**_fields(value), **derived}
    match value:
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case str() | None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [to_json(item) for item in value]
        case _:
            return str(value)


def _fields(value: DataclassInstance, leave_out: str = "") -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(value) if field.name != leave_out]
    return {name: to_json(getattr(value, name)) for name in names}


def _alignment(alignment: Alignment) -> dict[str, object]:
    cosines = {"cosine": alignment.cosine, "start_cosine": alignment.start_cosine}
    return {**_fields(alignment, leave_out="element"), **cosines}
