"""YAML files: read safely, and checked against a pydantic model in plain words."""

from rebasin_hub.yamlfile.read import load, parse
from rebasin_hub.yamlfile.strict import Strict, json_schema, schema_text

__all__ = ["Strict", "json_schema", "load", "parse", "schema_text"]
