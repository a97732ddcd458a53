"""Spec files: from YAML to a `Spec`, and those that come with the program."""

from rebasin_hub.specfile.read import load_spec, parse_spec, spec_digest, validate_files
from rebasin_hub.specfile.shipped import find_spec, shipped_specs, spec_path

__all__ = [
    "find_spec",
    "load_spec",
    "parse_spec",
    "shipped_specs",
    "spec_digest",
    "spec_path",
    "validate_files",
]
