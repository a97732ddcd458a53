"""The base of all models of files, and the JSON Schema that is made of one."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Strict", "json_schema", "schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Strict(BaseModel):
    """A model that takes known keys only, with values of exactly their types.

    The docstring below a field describes it in the JSON Schema. Lists are `list`, as YAML and JSON
    have no tuples.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def json_schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the JSON Schema of a file; `name` is its $id."""
    schema = model.model_json_schema(mode="validation")
    for section in schema["properties"].values():
        # JSON Schema lets keys pass that fit no pattern, unless it is told not to.
        if "patternProperties" in section:
            section["additionalProperties"] = False
    return {"$schema": DIALECT, "$id": name, **schema}


def schema_text(model: type[BaseModel], name: str) -> str:
    """Return the JSON Schema of a file as it is shipped."""
    return json.dumps(json_schema(model, name), indent=2, ensure_ascii=False) + "\n"
