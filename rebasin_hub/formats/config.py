"""config.json, where it belongs to a checkpoint beyond doubt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import open_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["config_beside", "config_in", "read_json"]

_STANDARD = ("model.safetensors", "pytorch_model.bin")
_MAX_JSON = 100_000_000


def config_in(directory: Path) -> Mapping[str, Any] | None:
    """Return config.json of a checkpoint directory, None without one."""
    path = directory / "config.json"
    return read_json(path) if path.is_file() else None


def config_beside(file: Path) -> Mapping[str, Any] | None:
    """Return config.json beside a file that is its directory's only model, else None.

    A folder of several models may hold the configuration of any one of them.
    """
    if file.name not in _STANDARD:
        return None
    weights = {*file.parent.glob("*.safetensors"), *file.parent.glob("pytorch_model*.bin")}
    others = {path.name for path in weights} - set(_STANDARD)
    return None if others else config_in(file.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size; a FormatError says why it is none."""
    with open_input(path) as file:
        text = file.read(_MAX_JSON + 1)
    if len(text) > _MAX_JSON:
        raise FormatError(f"{path}: is larger than {_MAX_JSON:,} bytes; is it really JSON?")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: is not valid JSON ({error}); correct or restore it") from None
    if not isinstance(found, dict):
        raise FormatError(
            f"{path}: must hold a JSON object, found {type(found).__name__}; correct or restore it"
        )
    return found
