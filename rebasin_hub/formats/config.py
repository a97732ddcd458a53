"""config.json: which checkpoint it belongs to, and its copy beside weights of another type."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.folder import is_weights
from rebasin_hub.formats.sniff import open_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["config_beside", "config_in", "config_of_dtype", "read_json"]

_MAIN = {"model", "pytorch_model"}
# A shard's number, variants (`.fp16`, `.canonical`) and the ending; `.5b` belongs to the name.
_AFTER_NAME = re.compile(r"(-\d+-of-\d+)?(\.[A-Za-z][^.]*)+\Z")
_DTYPE_KEYS = {"dtype", "torch_dtype"}
_MAX_JSON = 100_000_000


def config_in(directory: Path) -> Mapping[str, Any] | None:
    """Return config.json of a checkpoint directory, None without one."""
    path = directory / "config.json"
    return read_json(path) if path.is_file() else None


def config_beside(file: Path) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """Return config.json beside a single file, None if it is not the file's, and notes on that.

    It belongs to the file that transformers loads with it (`model.safetensors` or
    `pytorch_model.bin`, as a variant such as `model.canonical.safetensors` too), whatever else
    lies there. To a file of another name it belongs if all weights in the folder bear that name,
    variants aside: a folder of several models may hold the configuration of any one of them.
    """
    if not (file.parent / "config.json").is_file():
        return None, ()
    name = _model_name(file.name)
    if name in _MAIN or _model_names(file.parent) <= {name}:
        return config_in(file.parent), ()
    return None, ("config.json lies beside but may belong to another of the folder's models",)


def _model_name(file: str) -> str:
    return _AFTER_NAME.sub("", file)


def _model_names(folder: Path) -> set[str]:
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return {""}  # who knows
    return {
        _model_name(name)
        for name in names
        if name.endswith(".safetensors") or is_weights(name, torch_only=True)
    }


def config_of_dtype(path: Path, dtype: str) -> tuple[bytes, list[str]]:
    """Return a config.json that says `dtype` where it names a type, and a note for each change.

    Only `dtype` and `torch_dtype` of the outermost object change; every other byte stays.

    Raises:
        FormatError: it is not (or no longer) a JSON object, or cannot be read.

    """
    content = _read(path)
    _parse(content, path)
    encoding = json.detect_encoding(content)
    text = content.decode(encoding, "surrogatepass")
    parts, end, notes = [], 0, []
    for key, old, span in _members(text):
        if key in _DTYPE_KEYS and isinstance(old, str) and old != dtype:
            parts += [text[end : span.start], f'"{dtype}"']
            end = span.stop
            notes.append(f"config.json: {key} is now {dtype}, was {old}")
    new = "".join([*parts, text[end:]])
    return new.encode(encoding, "surrogatepass"), notes


def _members(text: str) -> Iterator[tuple[str, object, slice]]:
    """Yield key, value and the value's place for each member of a valid JSON object."""
    decoder = json.JSONDecoder()

    def no_space(place: int) -> int:
        while text[place].isspace():
            place += 1
        return place

    place = no_space(no_space(0) + 1)  # behind the brace
    while text[place] != "}":
        key, place = decoder.raw_decode(text, place)
        start = no_space(no_space(place) + 1)  # behind the colon
        value, stop = decoder.raw_decode(text, start)
        yield key, value, slice(start, stop)
        place = no_space(stop)
        if text[place] == ",":
            place = no_space(place + 1)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size; a FormatError says why it is none."""
    return _parse(_read(path), path)


def _read(path: Path) -> bytes:
    with open_input(path) as file:
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise FormatError(f"{path}: is larger than {_MAX_JSON:,} bytes; is it really JSON?")
    return content


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: is not valid JSON ({error}); correct or restore it") from None
    if not isinstance(found, dict):
        raise FormatError(
            f"{path}: must hold a JSON object, found {type(found).__name__}; correct or restore it"
        )
    return found
