"""Writing trees of arrays as `flax.serialization.msgpack_serialize` does, one array at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

from rebasin_hub.errors import OutputError
from rebasin_hub.formats.msgpack.checkpoint import ARRAY, CHUNKED, SEPARATOR, TYPES

if TYPE_CHECKING:
    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.tensors import TensorInfo

__all__ = ["check_msgpack", "write_msgpack"]

_NAMES = {stored: name for name, stored in TYPES.items()}
_CHUNK = 2**30  # bytes; larger arrays are split
_Tree: TypeAlias = dict[str, Union[str, "_Tree"]]


def check_msgpack(header: Mapping[str, TensorInfo], out: object) -> None:
    """Refuse names and types that a nested dict of arrays cannot hold.

    Raises:
        OutputError: with the first one.

    """
    _tree(header, out)
    for name, info in header.items():
        if info.dtype not in _NAMES:
            raise OutputError(
                f"{out}: Flax has no {info.dtype}, which {name!r} is stored as; write a "
                ".safetensors file"
            )


def write_msgpack(
    file: NewFile,
    header: Mapping[str, TensorInfo],
    supply: Supply,
    beside: Mapping[str, bytes] | None = None,
    order: Sequence[str] | None = None,
) -> None:
    """Write the tensors of `header` as a nested dict; names are split at each `/`.

    `beside` are other values, as the bytes that stand for them; `order` is that of the names,
    sorted by default, as Flax has its parameters. Law: reading gives names and values back.
    """
    others = beside or {}
    names = sorted([*header, *others]) if order is None else order
    _write_tree(file, _tree(names, file.path), header, supply, others)


def _tree(names: Iterable[str], out: object) -> _Tree:
    root: _Tree = {}
    for name in names:
        *folders, last = name.split(SEPARATOR)
        level: str | _Tree = root
        for folder in folders:
            level = level.setdefault(folder, {}) if isinstance(level, dict) else level
        if not isinstance(level, dict) or last in level:
            raise OutputError(
                f"{out}: {name!r} would lie inside another tensor of the tree; rename it"
            )
        level[last] = name
    return root


def _write_tree(
    file: NewFile,
    tree: _Tree,
    header: Mapping[str, TensorInfo],
    supply: Supply,
    others: Mapping[str, bytes],
) -> None:
    file.put(_length(len(tree), 0x80, 16, (None, 0xDE, 0xDF)))
    for key, value in tree.items():
        file.put(_text(key))
        if isinstance(value, dict):
            _write_tree(file, value, header, supply, others)
        elif value in others:
            file.put(others[value])
        else:
            _write_array(file, value, header[value], supply)


def _write_array(file: NewFile, name: str, info: TensorInfo, supply: Supply) -> None:
    data = supply.take(name)
    if info.nbytes <= _CHUNK:
        start = _array_start(info.shape, info.dtype, info.nbytes)
        file.put(start)
        supply.wrote(name, file.put(data))
        return
    parts = range(0, info.nbytes, _CHUNK)
    itemsize = info.nbytes // info.size
    file.put(b"\x83" + _text(CHUNKED) + b"\xc3" + _text("shape"))
    file.put(_length(len(info.shape), 0x80, 16, (None, 0xDE, 0xDF)))
    for number, size in enumerate(info.shape):
        file.put(_text(str(number)) + _number(size))
    file.put(_text("chunks") + _length(len(parts), 0x80, 16, (None, 0xDE, 0xDF)))
    whole = hashlib.sha256()
    for number, at in enumerate(parts):
        part = data[at : at + _CHUNK]
        file.put(_text(str(number)) + _array_start((len(part) // itemsize,), info.dtype, len(part)))
        file.put(part)
        whole.update(part)
    supply.wrote(name, whole.hexdigest())


def _array_start(shape: tuple[int, ...], dtype: str, nbytes: int) -> bytes:
    """Return all that stands before an array's bytes."""
    sizes = _length(len(shape), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(_number, shape))
    inner = b"\x93" + sizes + _text(_NAMES[dtype]) + _length(nbytes, 0, 0, (0xC4, 0xC5, 0xC6))
    length = len(inner) + nbytes
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(length)
    start = bytes([fixed]) if fixed else _length(length, 0, 0, (0xC7, 0xC8, 0xC9))
    return start + bytes([ARRAY]) + inner


def _text(text: str) -> bytes:
    data = text.encode()
    return _length(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + data


def _number(value: int) -> bytes:
    if value < 0x80:  # noqa: PLR2004
        return bytes([value])
    width = next(w for w in (1, 2, 4, 8) if value < 256**w)
    code = 0xCC + (1, 2, 4, 8).index(width)
    return bytes([code]) + value.to_bytes(width, "big")


def _length(length: int, small: int, below: int, codes: tuple[int | None, int, int]) -> bytes:
    """Return the shortest beginning of a value of some length; codes are for 1, 2 and 4 bytes."""
    if length < below:
        return bytes([small | length])
    for code, width in zip(codes, (1, 2, 4), strict=True):
        if code is not None and length < 256**width:
            return bytes([code]) + length.to_bytes(width, "big")
    raise OutputError(f"{length:,} bytes or entries are more than MessagePack counts")
