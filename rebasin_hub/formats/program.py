"""Programs of torch.export (.pt2): their weights are read and replaced, the program stays.

Such a file is a zip archive: the program as JSON, and the weights as plain bytes, with a list of
their types and shapes. Neither needs PyTorch, and nothing in the file is run.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.header import impossible
from rebasin_hub.formats.raw import blank
from rebasin_hub.formats.sniff import AGAIN, read_into
from rebasin_hub.formats.torchfile import Archive
from rebasin_hub.formats.zipped import open_zip
from rebasin_hub.tensors import DTYPES, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.raw import Array, Bytes
    from rebasin_hub.formats.supply import Supply

__all__ = ["ProgramCheckpoint", "write_program"]

_WEIGHTS, _LIST = "data/weights/", "_weights_config.json"
_STRIDED = 7
"""The number of the layout in which every element lies where its strides say."""

_TYPES: Mapping[int, str] = {
    1: "U8", 2: "I8", 3: "I16", 4: "I32", 5: "I64", 6: "F16", 7: "F32", 8: "F64", 10: "C64",
    12: "BOOL", 13: "BF16", 28: "U16", 29: "F8_E4M3", 30: "F8_E5M2", 31: "F8_E4M3FNUZ",
    32: "F8_E5M2FNUZ", 33: "F8_E8M0", 34: "U32", 35: "U64",
}  # fmt: skip
"""Numbers of element types, those of `ScalarType` in PyTorch's export schema."""


@dataclass(frozen=True)
class _Place:
    """Where a tensor's elements lie: in which member, from which element on, how far apart."""

    member: str
    info: TensorInfo
    strides: tuple[int, ...]
    offset: int

    @property
    def dense(self) -> bool:
        """Whether the elements follow one another in C order."""
        expected, shape = 1, self.info.shape
        for size, stride in zip(reversed(shape), reversed(self.strides), strict=True):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def end(self) -> int:
        """One past the last element."""
        if not self.info.size:
            return self.offset
        reach = ((n - 1) * s for n, s in zip(self.info.shape, self.strides, strict=True))
        return self.offset + sum(reach) + 1

    def within(self, storage: Bytes) -> Array:
        """Return the tensor as a view of a member's bytes."""
        elements = storage.view(DTYPES[self.info.dtype].numpy)[self.offset :]
        width = elements.itemsize
        return np.lib.stride_tricks.as_strided(
            elements, self.info.shape, [stride * width for stride in self.strides]
        )


class ProgramCheckpoint(Checkpoint):
    """One .pt2 file; its weights are those of the program's state dict."""

    format = "pt2"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.metadata = {}
        self._lock = Lock()
        self._archive = open_zip(path)
        try:
            self.members = _members(path, self._archive)
            self._places = _places(path, self.members, self.member)
            self.config, self.notes = config_beside(path)
        except BaseException:
            self.close()
            raise
        self.header = {name: place.info for name, place in self._places.items()}
        self.tied = _tied(path, self._places)

    @property
    def root(self) -> str:
        """The folder in the archive that holds everything."""
        return next(iter(self.members)).partition("/")[0]

    @property
    def stored(self) -> dict[str, list[str]]:
        """The weights in each member that holds any, members in stored order."""
        found: dict[str, list[str]] = {}
        for name, place in self._places.items():
            found.setdefault(place.member, []).append(name)
        return {member: found[member] for member in self.members if member in found}

    def place(self, name: str) -> _Place:
        """Return where a weight lies."""
        return self._places[name]

    def read(self, name: str) -> Array:  # noqa: D102
        place = self._places[name]
        array, memory = blank(place.info)
        if place.dense:
            start = place.offset * array.itemsize
            self._fill(place.member, memory, start)
        else:
            array[...] = place.within(self.member(place.member))
        return array

    def member(self, name: str) -> Bytes:
        """Return the bytes of a member of the archive."""
        memory = np.empty(self.members[name].file_size, np.uint8)
        self._fill(name, memory, 0)
        return memory

    def _fill(self, member: str, memory: Bytes, start: int) -> None:
        with self._lock:
            try:
                with self._archive.open(self.members[member]) as file:
                    file.seek(start)
                    complete = read_into(cast("BinaryIO", file), memory.data)
            # Damaged archives raise nearly anything here.
            except Exception as error:  # noqa: BLE001
                raise FormatError(
                    f"{self.path}: '{member}' cannot be read ({error}); {AGAIN}"
                ) from None
        if not complete:
            raise FormatError(f"{self.path}: '{member}' ends too soon; {AGAIN}")

    def close(self) -> None:  # noqa: D102
        self._archive.close()


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if entry.filename in members or not plain or entry.file_size != entry.compress_size:
            raise FormatError(
                f"{path}: '{entry.filename}' is there twice, compressed or encrypted, which "
                "torch.export.save never does; export the program anew"
            )
        if entry.header_offset + entry.file_size > path.stat().st_size:
            raise FormatError(f"{path}: '{entry.filename}' ends too soon; {AGAIN}")
        members[entry.filename] = entry
    if len({name.partition("/")[0] for name in members}) != 1:
        raise FormatError(f"{path}: is no archive as torch.export.save writes it; {AGAIN}")
    return members


def _places(path: Path, members: Mapping[str, zipfile.ZipInfo], read: Any) -> dict[str, _Place]:  # noqa: ANN401
    """Read the list of weights, and check it against the members that hold them."""
    root = next(iter(members)).partition("/")[0]
    lists = [n for n in members if n.startswith(f"{root}/{_WEIGHTS}") and n.endswith(_LIST)]
    order = f"{root}/byteorder"
    if len(lists) != 1 or (order in members and bytes(read(order)) != b"little"):
        raise FormatError(
            f"{path}: holds no weights of one program as torch.export.save writes them; export it "
            "anew with a current PyTorch, or save the module's state_dict() as a .pt file"
        )
    try:
        listed = json.loads(bytes(read(lists[0])))["config"]
        found = {
            str(name): _place(path, name, entry, root, members) for name, entry in listed.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{path}: '{lists[0]}' is no list of weights ({type(error).__name__}); {AGAIN}"
        ) from None
    return found


def _place(
    path: Path, name: str, entry: Mapping[str, Any], root: str, members: Mapping[str, Any]
) -> _Place:
    def wrong(reason: str, remedy: str = AGAIN) -> FormatError:
        return FormatError(f"{path}: tensor {name!r}: {reason}; {remedy}")

    said = entry["tensor_meta"]
    dtype = _TYPES.get(said["dtype"])
    if entry["use_pickle"] or said["layout"] != _STRIDED or dtype is None:
        raise wrong("is no plain tensor", "save the module's state_dict() as a .pt file")
    shape, strides = (tuple(int(n["as_int"]) for n in said[key]) for key in ("sizes", "strides"))
    member, offset = f"{root}/{_WEIGHTS}{entry['path_name']}", int(said["storage_offset"]["as_int"])
    if (reason := impossible(dtype, list(shape))) is not None:
        raise wrong(reason)
    if member not in members:
        raise wrong(f"its values would be in '{member}', which is missing")
    if len(strides) != len(shape) or min((*strides, offset)) < 0:
        raise wrong("its shape and its strides do not agree")
    place = _Place(member, TensorInfo(dtype, shape), strides, offset)
    width = DTYPES[dtype].numpy.itemsize
    nbytes = members[member].file_size
    if place.end * width > nbytes or nbytes % width:
        raise wrong(f"reaches to byte {place.end * width:,} of {nbytes:,}")
    reach = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and place.info.size:
            if stride < reach:
                raise wrong("has elements that lie in one place", "export it with .contiguous()")
            reach = stride * (size - 1) + reach
    return place


def _tied(path: Path, places: Mapping[str, _Place]) -> dict[str, str]:
    """Return the names that share all their elements with another; to share a part is refused."""
    firsts: dict[_Place, str] = {}
    tied = {}
    for name, place in places.items():
        first = firsts.setdefault(place, name) if place.info.size else name
        if first != name:
            tied[name] = first
    spans = sorted(
        (p.member, p.offset * _width(p), p.end * _width(p), name) for p, name in firsts.items()
    )
    for (member, _, end, one), (other, start, _, two) in pairwise(spans):
        if member == other and start < end:
            raise FormatError(
                f"{path}: tensors {one!r} and {two!r} share a part of their values; export the "
                "program with tensors of their own"
            )
    return tied


def _width(place: _Place) -> int:
    return DTYPES[place.info.dtype].numpy.itemsize


def write_program(file: NewFile, source: ProgramCheckpoint, supply: Supply) -> None:
    """Write a copy of a program with other weights, at most one member in memory at a time.

    Raises:
        OutputError: tied weights differ by now.

    """
    stored = source.stored
    archive = Archive(file, source.root)
    try:
        with supply.ahead([name for names in stored.values() for name in names]):
            for member in source.members:
                if member in stored:
                    _write_weights(archive, source, member, stored[member], supply)
                else:
                    archive.put(_inside(member), source.member(member).data)
        archive.close()
    except BaseException:
        archive.abandon()
        raise


def _inside(member: str) -> str:
    return member.partition("/")[2]


def _write_weights(
    archive: Archive, source: ProgramCheckpoint, member: str, names: list[str], supply: Supply
) -> None:
    first, *others = names
    whole = source.place(first)
    size = source.members[member].file_size
    if whole.dense and whole.info.nbytes == size and all(n in source.tied for n in others):
        made = supply.made(first)
        archive.put(_inside(member), made.data, digest=made.digest)
        supply.wrote(first, made.digest)
        for name in others:
            _check_tied(source, name, supply)
        return
    storage = source.member(member)
    for name in names:
        if name in source.tied:
            _check_tied(source, name, supply)
            continue
        made, place = supply.made(name), source.place(name)
        values = np.frombuffer(made.data, DTYPES[place.info.dtype].numpy)
        place.within(storage)[...] = values.reshape(place.info.shape)
        supply.wrote(name, made.digest)
    archive.put(_inside(member), storage.data)


def _check_tied(source: ProgramCheckpoint, name: str, supply: Supply) -> None:
    made, first = supply.made(name), source.tied[name]
    if made.digest != supply.digests[first]:
        raise OutputError(
            f"{source.path}: {name!r} and {first!r} are stored as one, and they now differ; write "
            "a .safetensors file"
        )
    supply.wrote(name, made.digest)
