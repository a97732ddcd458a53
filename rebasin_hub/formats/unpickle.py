"""Names the code that a pickle wants to run, without running any of it."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["wanted_code"]

_MAX_PICKLE = 100_000_000
_MAX_PICKLES = 5  # what one file of torch before 1.6 consists of

# What every torch file asks for: tensors, storages, element types, ordered dicts.
_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w*Storage|torch\.Size"
    r"|torch\.(b?float|u?int|bool|complex|q?u?int)\w*|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.nn\.parameter\.\w+|torch\.Tensor|torch\.device|torch\.serialization\._get_layout"
    r"|collections\.(OrderedDict|defaultdict|Counter)|_codecs\.encode|builtins\.(set|bytearray)"
)


def wanted_code(path: Path) -> list[str]:
    """Return the functions and classes, other than torch's own tensors, that a file asks for."""
    found: dict[str, None] = {}
    try:
        with path.open("rb") as file:
            for stream in _pickles(file):
                found |= dict.fromkeys(_globals(stream))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, EOFError):
        pass  # as far as it could be read
    return [name for name in found if not _HARMLESS.fullmatch(name)]


def _pickles(file: BinaryIO) -> Iterator[BinaryIO]:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(_MAX_PICKLES):
            yield file
        return
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                with archive.open(name) as record:
                    yield io.BytesIO(record.read(_MAX_PICKLE))


def _globals(stream: BinaryIO) -> Iterator[str]:
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(stream):
        if isinstance(argument, str):
            texts = [*texts[-1:], argument]
        if code.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL" and len(texts) > 1:
            yield ".".join(texts)
