"""Writing torch files: the zip archive that `torch.save` makes, one tensor at a time.

`torch.save` needs every tensor in memory. Here the values are stored as they come, and the pickle
that describes them goes last; `torch.load` finds both by name. Equal content gives equal bytes.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from rebasin_hub.formats.torch import DTYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.raw import Bytes
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.formats.torch import TorchCheckpoint
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Archive", "write_state_dict", "write_torch"]

_Fill: TypeAlias = "Callable[[Bytes, torch.Tensor], None]"
_ALIGNMENT = 64
_LOCAL_HEADER = 30
_ZIP64_LIMIT = 2**31 - 1  # of the zipfile module
_TORCH_NAMES = {stored: name for name, stored in DTYPE_NAMES.items()}


def write_torch(
    file: NewFile, source: TorchCheckpoint, header: Mapping[str, TensorInfo], supply: Supply
) -> None:
    """Write the tensors of `header` in the nesting of `source`, with everything else it holds.

    Names that `source` ties stay tied if they still have the same values. Tensors are made ahead,
    as far as the supply's bound allows.
    """
    archive = Archive(file)
    try:
        slots: dict[str, _Slot] = {}
        with supply.ahead(header):
            for name in header:
                made = supply.made(name)
                tied = source.tied.get(name)
                if tied is not None and made.digest == supply.digests[tied]:
                    key = slots[tied].key
                else:
                    if tied is not None:
                        supply.notes.append(f"{name} is no longer tied to {tied}: they now differ")
                    key = archive.next_key()
                    archive.put(f"data/{key}", made.data, digest=made.digest)
                slots[name] = _slot(key, header[name], source.tensor(name))
                supply.wrote(name, made.digest)
        _finish(archive, _rebuild(source, slots), source.fill)
    except BaseException:
        archive.abandon()
        raise


def write_state_dict(
    file: NewFile,
    header: Mapping[str, TensorInfo],
    supply: Supply,
    tied: Mapping[str, str],
) -> None:
    """Write the tensors of `header` as a plain state dict.

    A name that is tied to another one shares its memory, and is not asked for. Tensors are made
    ahead, as far as the supply's bound allows.
    """
    import torch

    archive = Archive(file)
    like = torch.empty(0)
    try:
        slots: dict[str, _Slot] = {}
        own = [name for name in header if name not in tied]
        with supply.ahead(own):
            for name in own:
                key, made = archive.next_key(), supply.made(name)
                slots[name] = _slot(key, header[name], like)
                supply.wrote(name, archive.put(f"data/{key}", made.data, digest=made.digest))
        for name in (name for name in header if name in tied):
            slots[name] = _slot(slots[tied[name]].key, header[name], like)
            supply.wrote(name, supply.digests[tied[name]])
        _finish(archive, {name: slots[name] for name in header})
    except BaseException:
        archive.abandon()
        raise


class Archive:
    """A zip archive without compression, each record aligned as torch aligns it."""

    def __init__(self, file: NewFile, root: str = "archive") -> None:
        self._file = file
        self._root = root
        self._zip = zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED)
        self._keys = 0

    def next_key(self) -> str:
        """Return the next number for the values of a tensor."""
        self._keys += 1
        return str(self._keys - 1)

    def put(self, name: str, data: bytes | memoryview, *, digest: str | None = None) -> str:
        """Add one record and return its SHA-256, which may be known already."""
        # Dated 1980, so that equal content is equal.
        entry = zipfile.ZipInfo(f"{self._root}/{name}")
        large = len(data) > _ZIP64_LIMIT
        begin = self._file.tell() + _LOCAL_HEADER + len(entry.filename) + 20 * large + 4
        pad = -begin % _ALIGNMENT
        entry.extra = struct.pack("<2sH", b"FB", pad) + bytes(pad)
        with self._zip.open(entry, "w", force_zip64=large) as record:
            return self._file.put(data, through=record, digest=digest)

    def close(self) -> None:
        """Write the list of all records."""
        self._zip.close()

    def abandon(self) -> None:
        """Leave the archive as it is."""
        self._zip.fp = None  # else it would go on writing when it is deleted


@dataclass(frozen=True)
class _Slot:
    """What the pickle says of one tensor whose values are already stored under `key`."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    requires_grad: bool
    parameter: bool


@dataclass(frozen=True)
class _Storage:
    """Stands for the memory of a slot: `like` is an empty storage of the same kind."""

    key: str
    like: Any
    nbytes: int


def _slot(key: str, info: TensorInfo, like: torch.Tensor) -> _Slot:
    import torch

    shape = info.shape
    if info.dtype == "F4":
        shape = (*shape[:-1], shape[-1] // 2)
    parameter = isinstance(like, torch.nn.Parameter)
    return _Slot(key, _TORCH_NAMES[info.dtype], shape, like.requires_grad, parameter)


def _rebuild(source: TorchCheckpoint, slots: Mapping[str, _Slot]) -> object:
    """Return the content of `source` with slots in the places of its tensors."""
    content = level = copy.copy(cast("dict[str, Any]", source.content))
    for key in source.state.trail:
        level[key] = copy.copy(level[key])
        level = level[key]
    level.update({source.state.prefix + name: slot for name, slot in slots.items()})
    return content


def _finish(archive: Archive, content: object, fill: _Fill | None = None) -> None:
    text = io.BytesIO()
    pickler = _pickler(text, archive, fill)
    pickler.dump(content)
    archive.put("data.pkl", text.getvalue())
    archive.put("byteorder", b"little")
    archive.put("version", b"3\n")
    archive.close()


def _pickler(text: io.BytesIO, archive: Archive, fill: _Fill | None) -> pickle.Pickler:
    """Return a pickler that writes tensors as torch does, and stores those met on the way.

    `fill` fills memory with the bytes of such a tensor.
    """
    import torch

    kept: dict[int, str] = {}  # storages of tensors beside the weights

    def stored(untyped: torch.UntypedStorage) -> str:
        if untyped.data_ptr() not in kept or not untyped.nbytes():
            kept[untyped.data_ptr()] = archive.next_key()
            values = torch.empty(0, dtype=torch.uint8).set_(untyped)
            memory = np.empty(untyped.nbytes(), np.uint8)
            assert fill is not None, "a plain state dict has no tensors but its own"
            fill(memory, values)
            archive.put(f"data/{kept[untyped.data_ptr()]}", memory.data)
        return kept[untyped.data_ptr()]

    class TorchPickler(pickle.Pickler):
        def persistent_id(self, found: object) -> object:
            if isinstance(found, _Storage):
                return _pointer(found.like, found.key, found.nbytes)
            if isinstance(found, torch.storage.TypedStorage):
                untyped = found._untyped_storage
                return _pointer(found, stored(untyped), untyped.nbytes())
            if isinstance(found, torch.UntypedStorage):
                return _pointer(found, stored(found), found.nbytes())
            return None

        def reducer_override(self, found: object) -> Any:  # noqa: ANN401 - as its base class
            return _reduced(found) if isinstance(found, _Slot) else NotImplemented

    return TorchPickler(text, protocol=2)


def _pointer(storage: Any, key: str, nbytes: int) -> tuple[object, ...]:  # noqa: ANN401 - either kind
    """Return what a torch pickle holds in a storage's place."""
    import torch

    if isinstance(storage, torch.UntypedStorage):
        return ("storage", torch.UntypedStorage, key, "cpu", nbytes)
    kind = getattr(torch, storage._pickle_storage_type())
    return ("storage", kind, key, "cpu", nbytes // storage.dtype.itemsize)


def _reduced(slot: _Slot) -> tuple[Any, ...]:
    """Return how torch itself pickles a contiguous tensor of the slot's type and shape."""
    import torch

    if slot.parameter:
        rebuild, (_, _, hooks) = _reduce(torch.nn.Parameter(torch.empty(0)))
        bare = _Slot(slot.key, slot.dtype, slot.shape, requires_grad=False, parameter=False)
        return rebuild, (bare, slot.requires_grad, hooks)
    like = torch.empty(0, dtype=getattr(torch, slot.dtype))
    rebuild, (storage, _, _, _, _, *rest) = _reduce(like)
    nbytes = like.element_size() * math.prod(slot.shape)
    stride = torch.empty(slot.shape, device="meta").stride()
    memory = _Storage(slot.key, storage, nbytes)
    return rebuild, (memory, 0, slot.shape, stride, slot.requires_grad, *rest)


def _reduce(tensor: torch.Tensor) -> Any:  # noqa: ANN401 - the arguments vary by element type
    return tensor.__reduce_ex__(2)  # type: ignore[no-untyped-call]
