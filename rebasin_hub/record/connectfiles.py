"""Records of connectivity on disk: `connect.json`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rebasin_hub.errors import InputError
from rebasin_hub.formats.atomic import new_file
from rebasin_hub.formats.sniff import check_exists, open_input
from rebasin_hub.record.connect import ConnectRecord, TrajectoryRecord

__all__ = ["load_connect", "save_connect"]

_SHOWN = 10


def save_connect(
    record: ConnectRecord | TrajectoryRecord, path: Path, *, force: bool = False
) -> None:
    """Write a record as JSON; `load_connect(path)` then equals `record`.

    Raises:
        OutputError: `path` exists and `force` is not set, or it cannot be written.

    """
    with new_file(path, force=force) as file:
        file.put((record.model_dump_json(indent=2) + "\n").encode())


def load_connect(path: Path) -> ConnectRecord | TrajectoryRecord:
    """Read a record of either kind.

    Raises:
        InputError: there is no such file, or it is no such record, with the first reasons.

    """
    if check_exists(path):
        raise InputError(f"{path}: is a directory; give the connect.json in it")
    with open_input(path) as file:
        text = file.read()
    kind = TrajectoryRecord if b'"kind": "trajectory"' in text else ConnectRecord
    try:
        return kind.model_validate_json(text)
    except ValidationError as problem:
        errors = problem.errors(include_url=False, include_context=False, include_input=False)
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in errors]
        raise InputError(
            "\n".join([f"{path}: is no record that `connect` wrote:", *lines[:_SHOWN]])
        ) from None
