"""The JSON Schema of a record.

`python -m rebasin_hub.record.schema > schemas/rebasin.schema.json` writes it anew.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rebasin_hub.record.model import Record

__all__ = ["json_schema", "schema_text"]

SCHEMA_ID = "urn:rebasin-hub:record:1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    return {"$schema": DIALECT, "$id": SCHEMA_ID, **Record.model_json_schema(mode="validation")}


def schema_text() -> str:
    """Return the JSON Schema as it is shipped in schemas/rebasin.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
