"""The JSON Schema of a record.

`python -m rebasin_hub.record.schema > schemas/rebasin.schema.json` writes it anew.
"""

from __future__ import annotations

import sys
from typing import Any

from rebasin_hub.record.model import Record
from rebasin_hub.yamlfile.strict import json_schema as strict_schema
from rebasin_hub.yamlfile.strict import schema_text as strict_text

__all__ = ["json_schema", "schema_text"]

SCHEMA_ID = "urn:rebasin-hub:record:1"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    return strict_schema(Record, SCHEMA_ID)


def schema_text() -> str:
    """Return the JSON Schema as it is shipped in schemas/rebasin.schema.json."""
    return strict_text(Record, SCHEMA_ID)


if __name__ == "__main__":
    sys.stdout.write(schema_text())
