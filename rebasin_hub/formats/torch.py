"""torch files (.pt, .pth, .bin, .ckpt): the state dict inside, however it is wrapped.

Files are read with `weights_only=True`, always, and mapped where torch can. torch itself is
imported only when such a file is opened.
"""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_hub.errors import FormatError, MissingExtraError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.mapped import MappedFile
from rebasin_hub.formats.raw import blank, unpack
from rebasin_hub.formats.sniff import (
    AGAIN,
    HEAD,
    foreign,
    is_pickle,
    is_zip,
    open_input,
)
from rebasin_hub.formats.statedict import StateDict, find_state_dict
from rebasin_hub.formats.unpickle import wanted_code
from rebasin_hub.tensors import DTYPES, TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from rebasin_hub.formats.raw import Array, Bytes

__all__ = ["DTYPE_NAMES", "TorchCheckpoint", "torch_bytes"]

DTYPE_NAMES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "F4",
}
"""torch's name of an element type to that of safetensors."""

_MAX_NESTING = 8  # how deep to look for tensors beside the weights


class TorchCheckpoint(Checkpoint):
    """One torch file; `alone` unless it is a part of a directory's checkpoint.

    With `unwrap` unset its top level must be the state dict itself.
    """

    format = "torch"

    def __init__(self, path: Path, *, unwrap: bool = True, alone: bool = True) -> None:
        self.path = path
        self.files = (path,)
        self.metadata = {}
        self.content, as_stored = _load(path)
        """Everything that the file holds."""
        self.state = find_state_dict(self.content, path, unwrap=unwrap)
        self.config, notes = config_beside(path) if alone else (None, ())
        cut = len(self.state.prefix)
        self._tensors = {name[cut:]: tensor for name, tensor in self.state.tensors.items()}
        self.header = {name: _info(name, t, path) for name, t in self._tensors.items()}
        self.tied, shared = _shared(self._tensors)
        self.notes = (*_notes(self.state, shared), *notes)
        self._mapped = MappedFile(path) if as_stored else None

    def read(self, name: str) -> Array:  # noqa: D102
        info = self.header[name]
        array, memory = blank(info)
        bits = DTYPES[info.dtype].bits
        if bits >= 8:  # noqa: PLR2004
            self.fill(memory, self._tensors[name])
        else:
            packed = np.empty(info.nbytes, np.uint8)
            self.fill(packed, self._tensors[name])
            unpack(packed, bits, memory)
        return array

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor as torch loaded it; not to be changed."""
        return self._tensors[name]

    def fill(self, memory: Bytes, tensor: torch.Tensor) -> None:
        """Fill memory with the bytes, in C order, of a tensor that `content` holds."""
        plain = tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg())
        if plain and self._mapped and self._mapped.fill(memory, tensor.data_ptr()):
            return
        memory[:] = torch_bytes(tensor).numpy()

    def close(self) -> None:  # noqa: D102
        if self._mapped:
            self._mapped.close()
        # torch unmaps a file when the last of its tensors is gone.
        self._tensors, self.content = {}, None
        self.state = replace(self.state, tensors={}, beside={})


def torch_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's bytes in C order, flat; a view where its memory is in that order."""
    import torch

    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    if not tensor.numel():  # its strides may be anything
        return torch.empty(0, dtype=torch.uint8)
    # Lazily conjugated and negated tensors exist; integers of the same width copy bit for bit.
    plain = tensor.detach().resolve_conj().resolve_neg().view(integer[tensor.element_size()])
    return plain.contiguous().reshape(-1).view(torch.uint8)


def _load(path: Path) -> tuple[object, bool]:
    """Return what a file holds, and whether its tensors are mapped as they are stored."""
    with open_input(path) as file:
        head = file.read(HEAD)
    if not (is_zip(head) or is_pickle(head)):
        what, do = foreign(head) or ("not a torch file (neither zip archive nor pickle)", AGAIN)
        raise FormatError(f"{path}: is {what}; {do}")
    as_stored = is_zip(head) and _check_archive(path)
    try:
        import torch
    except ImportError:
        raise MissingExtraError("reading torch files", "torch") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats; what matters raises
            mapped = is_zip(head)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # Damaged files raise nearly anything here, from KeyError to UnicodeDecodeError.
    except Exception as error:  # noqa: BLE001
        if wanted := wanted_code(path):
            raise FormatError(
                f"{path}: wants to run code when it is loaded ({', '.join(wanted)}); it was not "
                "run; get the weights as safetensors, or, if you trust the file, load it yourself "
                "and save only its state dict"
            ) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormatError(f"{path}: torch cannot load it: {reason}; {AGAIN}") from None
    return content, as_stored


def _check_archive(path: Path) -> bool:
    """Refuse an archive that is no state dict; say whether torch shows its bytes as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {entry.partition("/")[2]: entry for entry in archive.namelist()}
            native = True
            if (order := names.get("byteorder")) is not None:
                with archive.open(order) as record:
                    native = record.read(8) == sys.byteorder.encode()
    # Damaged archives raise nearly anything here too.
    except Exception as error:  # noqa: BLE001
        raise FormatError(f"{path}: is cut off or damaged ({error}); {AGAIN}") from None
    if "constants.pkl" in names:
        raise FormatError(
            f"{path}: is a TorchScript program, not a state dict; load it with torch.jit.load "
            "and save its state_dict()"
        )
    if "data.pkl" not in names:
        raise FormatError(f"{path}: is a zip archive, but not one that torch wrote; {AGAIN}")
    return native


def _info(name: str, tensor: torch.Tensor, path: Path) -> TensorInfo:
    import torch

    def wrong(reason: str) -> FormatError:
        return FormatError(f"{path}: tensor {name!r}: {reason}; save it as an ordinary tensor")

    if type(tensor) not in {torch.Tensor, torch.nn.Parameter}:
        raise wrong(f"is a {type(tensor).__name__}, which cannot be renumbered")
    if tensor.layout != torch.strided:
        raise wrong(f"is sparse ({tensor.layout})")
    if tensor.is_quantized:
        raise wrong(f"is quantized ({tensor.dtype})")
    if tensor.device.type != "cpu":
        raise wrong(f"has no values (device {tensor.device})")
    dtype = DTYPE_NAMES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise wrong(f"its element type {tensor.dtype} has no form in safetensors")
    shape = tuple(tensor.shape)
    if dtype != "F4":
        return TensorInfo(dtype, shape)
    if not shape:
        raise wrong("holds two packed values and no axis for them")
    return TensorInfo(dtype, (*shape[:-1], 2 * shape[-1]))


def _shared(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, str], list[list[str]]]:
    """Return names tied to an earlier name, and lists of names that share memory in part."""
    tied: dict[str, str] = {}
    owners: dict[tuple[object, ...], str] = {}
    views: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        if not tensor.numel() or not storage:
            continue
        where = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if where in owners:
            tied[name] = owners[where]
        else:
            owners[where] = name
            views.setdefault(storage, []).append(name)
    return tied, [names for names in views.values() if len(names) > 1]


def _notes(state: StateDict, shared: list[list[str]]) -> list[str]:
    notes = []
    if state.beside:
        parts = [
            f"{name} (holds tensors: not renumbered)" if _holds_tensors(value) else name
            for name, value in state.beside.items()
        ]
        notes.append(f"kept beside the weights, unchanged: {', '.join(parts)}")
    notes += [f"stored in one piece of memory, written apart: {', '.join(ns)}" for ns in shared]
    return notes


def _holds_tensors(value: object, depth: int = _MAX_NESTING) -> bool:
    import torch

    if isinstance(value, torch.Tensor):
        return True
    if not depth:
        return False
    inner: Any = value.values() if isinstance(value, Mapping) else value
    if not isinstance(inner, (list, tuple, set)) and not isinstance(value, Mapping):
        return False
    return any(_holds_tensors(item, depth - 1) for item in inner)
