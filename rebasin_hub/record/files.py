"""Records on disk: `rebasin.json`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rebasin_hub.errors import InputError
from rebasin_hub.formats.atomic import new_file
from rebasin_hub.formats.sniff import check_exists, open_input
from rebasin_hub.record.model import Record

__all__ = ["load", "save"]

_SHOWN = 10


def save(record: Record, path: Path, *, force: bool = False) -> None:
    """Write a record as JSON; `load(path)` then equals `record`.

    Raises:
        OutputError: `path` exists and `force` is not set, or it cannot be written.

    """
    with new_file(path, force=force) as file:
        file.put((record.model_dump_json(indent=2) + "\n").encode())


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: there is no such file, or it is not a record; every reason is named.

    """
    if check_exists(path):
        raise InputError(f"{path}: is a directory; give the rebasin.json in it")
    with open_input(path) as file:
        text = file.read()
    try:
        return Record.model_validate_json(text)
    except ValidationError as problem:
        raise InputError(_explained(path, problem)) from None


def _explained(path: Path, problem: ValidationError) -> str:
    """Return one line for each thing that is wrong, with the key's path."""
    errors = problem.errors(include_url=False, include_context=False)
    if errors[0]["type"] == "json_invalid":
        return f"{path}: is not JSON ({errors[0]['msg']}); give a record that `barrier` wrote"
    lines = []
    for error in errors[:_SHOWN]:
        key = ".".join(map(str, error["loc"])) or "record"
        found = (
            "" if error["type"] in {"missing", "value_error"} else f", found {_cut(error['input'])}"
        )
        lines.append(f"  {key}: {error['msg']}{found}")
    if len(errors) > _SHOWN:
        lines.append(f"  … and {len(errors) - _SHOWN} more")
    return "\n".join(
        [f"{path}: is not a record of version 1; write it anew with `barrier`:", *lines]
    )


def _cut(value: object, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[:width] + "…"
