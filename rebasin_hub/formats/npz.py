"""NumPy's archives of arrays (.npz): read without pickle, written as `numpy.savez` does.

Of all stored types NumPy's own have a name in these files; the others (bfloat16, floats of 8 bits
and below) would come back as bytes without a meaning, and are refused.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from threading import Lock
from typing import IO, TYPE_CHECKING, cast

import numpy as np
from numpy.lib import format as npy

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.header import impossible
from rebasin_hub.formats.raw import blank
from rebasin_hub.formats.sniff import AGAIN, read_into
from rebasin_hub.formats.zipped import open_zip
from rebasin_hub.tensors import DTYPES, TensorInfo, dtype_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.raw import Array
    from rebasin_hub.formats.supply import Supply

__all__ = ["NpzCheckpoint", "check_npz", "write_npz"]

_SUFFIX = ".npy"
_MAX_RATIO = 1032  # of deflate: more is a lie
_MAX_HEADER = 10_000
_ZIP64_LIMIT = 2**31 - 1  # of the zipfile module
_MAX_NAME = 65_535
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_TYPES = {"BOOL", "F16", "F32", "F64", "C64"} | {f"{s}{n}" for s in "UI" for n in (8, 16, 32, 64)}


@dataclass(frozen=True)
class _Record:
    entry: zipfile.ZipInfo
    info: TensorInfo
    dtype: np.dtype[np.generic]
    """As stored: perhaps big-endian."""
    fortran: bool
    start: int


class NpzCheckpoint(Checkpoint):
    """One .npz file, compressed or not."""

    format = "npz"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.metadata, self.tied = {}, {}
        self._lock = Lock()
        self._archive = open_zip(path)
        try:
            self._records = _records(self._archive, path)
            self.config, self.notes = config_beside(path)
        except BaseException:
            self.close()
            raise
        self.header = {name: record.info for name, record in self._records.items()}

    def read(self, name: str) -> Array:  # noqa: D102
        record = self._records[name]
        array, memory = blank(record.info)
        with self._lock:
            try:
                with self._archive.open(record.entry) as file:
                    file.read(record.start)
                    complete = read_into(cast("BinaryIO", file), memory.data)
                    complete = complete and not file.read(1)  # which checks the CRC, too
            # Damaged archives raise nearly anything here.
            except Exception as error:  # noqa: BLE001
                raise _wrong(self.path, name, f"cannot be read ({error})") from None
        if not complete:
            raise _wrong(self.path, name, "has another length than its header says")
        if record.dtype.byteorder == ">":
            array = array.byteswap(inplace=True)
        if record.fortran:
            turned = array.reshape(record.info.shape[::-1]).T
            array = np.ascontiguousarray(turned).reshape(record.info.shape)
        return array

    def close(self) -> None:  # noqa: D102
        self._archive.close()


def _wrong(path: Path, name: str, reason: str, remedy: str = AGAIN) -> FormatError:
    return FormatError(f"{path}: tensor {name!r}: {reason}; {remedy}")


def _records(archive: zipfile.ZipFile, path: Path) -> dict[str, _Record]:
    size = path.stat().st_size
    records: dict[str, _Record] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(_SUFFIX)
        if not entry.filename.endswith(_SUFFIX):
            raise FormatError(
                f"{path}: is a zip archive, but no .npz file: it holds {entry.filename!r}; if it "
                "is a torch file, name it .pt"
            )
        if name in records:
            raise _wrong(path, name, "is there twice")
        if entry.flag_bits & 1 or entry.compress_type not in _COMPRESSIONS:
            raise _wrong(path, name, "is encrypted, or compressed in an unusual way")
        most = _MAX_RATIO if entry.compress_type == zipfile.ZIP_DEFLATED else 1
        if entry.compress_size > size or entry.file_size > most * (entry.compress_size + 64):
            raise _wrong(path, name, "claims to be larger than it can be")
        records[name] = _record(archive, entry, name, path)
    return records


def _record(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, path: Path) -> _Record:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with archive.open(entry) as file:
            read = readers[npy.read_magic(file)]  # 3.0 is for records only
            shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
            start = file.tell()
    # Damaged headers raise nearly anything here too.
    except Exception as error:  # noqa: BLE001
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise _wrong(path, name, f"is no NumPy array ({reason})") from None
    if dtype.hasobject:
        raise _wrong(
            path, name, "is a pickle, which is never loaded", "save the weights as plain arrays"
        )
    info = _info(dtype, shape, name, path)
    if entry.file_size != start + info.nbytes:
        raise _wrong(path, name, "has another length than its header says")
    return _Record(entry, info, dtype, bool(fortran), start)


def _info(dtype: np.dtype[np.generic], shape: tuple[int, ...], name: str, path: Path) -> TensorInfo:
    kind = dtype.newbyteorder("=")
    try:
        stored = dtype_of(np.empty(0, kind))
    except KeyError:
        stored = ""
    if stored not in _TYPES:
        raise _wrong(
            path,
            name,
            f"its type {dtype.str!r} is none that weights have here",
            "save it as a float of 16, 32 or 64 bits (.npz files have no bfloat16)",
        )
    if any(type(size) is not int or size < 0 for size in shape):
        raise _wrong(path, name, f"its shape {shape} is none")
    if (reason := impossible(stored, list(shape))) is not None:
        raise _wrong(path, name, reason)
    return TensorInfo(stored, shape)


def check_npz(header: Mapping[str, TensorInfo], out: Path) -> None:
    """Refuse names and types that .npz files do not have.

    Raises:
        OutputError: with the first one.

    """
    for name, info in header.items():
        if info.dtype not in _TYPES:
            raise OutputError(
                f"{out}: .npz files have no {info.dtype}, which {name!r} is stored as; give "
                "--dtype float32 or write a .safetensors file"
            )
        try:
            long = len(name.encode()) > _MAX_NAME - len(_SUFFIX)
        except UnicodeEncodeError:
            long = True
        if "\0" in name or long:
            raise OutputError(f"{out}: a .npz file cannot hold the name {name[:80]!r}; rename it")


def write_npz(file: NewFile, header: Mapping[str, TensorInfo], supply: Supply) -> None:
    """Write the tensors of `header` uncompressed; equal input gives equal bytes."""
    archive = zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED, allowZip64=True)
    try:
        with supply.ahead(header):
            for name, info in header.items():
                entry = zipfile.ZipInfo(name + _SUFFIX)  # dated 1980
                start = _npy_header(info)
                large = len(start) + info.nbytes > _ZIP64_LIMIT
                with archive.open(entry, "w", force_zip64=large) as record:
                    file.put(start, through=record)
                    made = supply.made(name)
                    supply.wrote(name, file.put(made.data, record, digest=made.digest))
        archive.close()
    except BaseException:
        archive.fp = None  # else it would go on writing when it is deleted
        raise


def _npy_header(info: TensorInfo) -> bytes:
    """Return what stands before an array's bytes, as NumPy writes it (version 1.0)."""
    start = io.BytesIO()
    descr = DTYPES[info.dtype].numpy.newbyteorder("<").str
    content = {"descr": descr, "fortran_order": False, "shape": info.shape}
    npy.write_array_header_1_0(start, content)
    return start.getvalue()
