"""Writing a checkpoint in the likeness of the one that it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.formats.atomic import new_directory, new_file
from rebasin_hub.formats.directory import DirectoryCheckpoint, write_directory
from rebasin_hub.formats.msgpack import MsgpackCheckpoint, check_msgpack, write_msgpack
from rebasin_hub.formats.npz import NpzCheckpoint, check_npz, write_npz
from rebasin_hub.formats.onnx import OnnxCheckpoint, data_files, write_onnx
from rebasin_hub.formats.program import ProgramCheckpoint, write_program
from rebasin_hub.formats.safetensors import write_safetensors
from rebasin_hub.formats.supply import Supply
from rebasin_hub.formats.target import check_output
from rebasin_hub.formats.together import new_files
from rebasin_hub.formats.torch import TorchCheckpoint
from rebasin_hub.formats.torchfile import write_torch
from rebasin_hub.formats.typed import check_types
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tensors import TensorInfo, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.attachment import Attachment
    from rebasin_hub.formats.checkpoint import Checkpoint
    from rebasin_hub.formats.raw import Array
    from rebasin_hub.formats.target import Target

__all__ = ["Saved", "save_like", "save_onnx", "save_safetensors", "without_ties"]


@dataclass(frozen=True)
class Saved:
    """What was written."""

    path: Path
    nbytes: int
    """Bytes of all files."""
    tensors: Mapping[str, str]
    """Name to the SHA-256 of the tensor's bytes, as written; names left out are absent."""
    files: tuple[Path, ...]
    notes: tuple[str, ...] = field(default=())
    """What a user should know of the result, beside the notes of its source."""


def save_safetensors(
    path: str | Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    force: bool = False,
) -> Saved:
    """Write arrays to one safetensors file, byte for byte as the safetensors library would.

    Law: loading gives back names, values (bit for bit) and metadata.

    Raises:
        OutputError: the file exists (without `force`), cannot be written or cannot hold a name.
        ProofError: the disk gave back other bytes than were written.

    """
    out = Path(path).absolute()
    header = {name: TensorInfo(dtype_of(array), array.shape) for name, array in tensors.items()}
    supply = Supply(header, tensors.__getitem__)
    with new_file(out, force=force) as file:
        write_safetensors(file, header, supply, metadata)
        nbytes = file.tell()
    return Saved(out, nbytes, supply.digests, (out,))


def save_like(
    source: Checkpoint,
    out: str | Path,
    produce: Callable[[str], Array],
    *,
    header: Mapping[str, TensorInfo] | None = None,
    metadata: Mapping[str, str] | None = None,
    attachment: Attachment | None = None,
    approve: Callable[[Mapping[str, str]], None] | None = None,
    cost: Callable[[str], int] | None = None,
    bound: Bound = A_FEW,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Saved:
    """Write a checkpoint like `source`, with the tensors that `produce` makes, in threads.

    Format, shards, nesting, prefixes, ties and side files are those of `source`; an `out` that
    ends in `.safetensors` gives one safetensors file from any source. That file has no ties: of
    names tied in the source it holds the first, and the others only where their values differ
    from it by now. `header` (default: the source's) tells each tensor's type and shape, for the
    same names; `metadata` (default: the source's) is the text in safetensors files; `attachment`
    goes along with it, or as a file of its own into a directory. `approve` is told the digests of
    all tensors before anything takes its name, and may raise; `cost` and `bound` are those of
    `Supply`; `progress` is told bytes done and in all.

    Raises:
        OutputError: as `check_output`, or the output cannot be written.
        ProofError: `produce` made another type or shape than `header` says, or the disk gave
            back other bytes than were written.

    """
    target = check_output(source, out, force=force)
    header = source.header if header is None else header
    if header.keys() != source.header.keys():
        raise ValueError("header and source must name the same tensors")
    supply = Supply(header, produce, progress, cost=cost, bound=bound)
    approve = approve or _approved
    if isinstance(source, DirectoryCheckpoint) and target.kind == "directory":
        with new_directory(target.path, force=force) as folder:
            nbytes = write_directory(
                folder, source, supply, metadata, target.path, attachment=attachment
            )
            approve(supply.digests)
        files = tuple(sorted(file for file in target.path.rglob("*") if file.is_file()))
        return Saved(target.path, nbytes, supply.digests, files, tuple(supply.notes))
    if isinstance(source, OnnxCheckpoint) and target.kind == "onnx":
        return save_onnx(source, target.path, supply, attachment, approve=approve, force=force)
    with new_file(target.path, force=force) as file:
        _write_file(file, source, target, supply, metadata=metadata, attachment=attachment)
        approve(supply.digests)
        nbytes = file.tell()
    return Saved(target.path, nbytes, supply.digests, (target.path,), tuple(supply.notes))


def _approved(_: Mapping[str, str]) -> None:
    """Approve of any digests."""


def save_onnx(
    source: OnnxCheckpoint,
    out: Path,
    supply: Supply,
    attachment: Attachment | None = None,
    *,
    approve: Callable[[Mapping[str, str]], None] = _approved,
    force: bool = False,
) -> Saved:
    """Write a copy of an ONNX model, and of its files of data, with other values.

    Raises:
        OutputError: the types are not the graph's, or a file exists (without `force`), is an input
            or cannot be written.

    """
    check_types(source, supply.header, out)
    places = data_files(source, out)
    for place in places.values():
        check_output(source, place, kind="onnx", force=force)
    with new_files([out, *places.values()], force=force) as files:
        write_onnx(files, source, supply, places)
        approve(supply.digests)
        nbytes = sum(file.tell() for file in files)
    _no_room(attachment, "an ONNX model", supply)
    return Saved(out, nbytes, supply.digests, (out, *places.values()), tuple(supply.notes))


def _write_file(
    file: NewFile,
    source: Checkpoint,
    target: Target,
    supply: Supply,
    *,
    metadata: Mapping[str, str] | None,
    attachment: Attachment | None,
) -> None:
    """Write a single file, of the source's own kind or safetensors."""
    if isinstance(source, TorchCheckpoint) and target.kind == "torch":
        write_torch(file, source, supply.header, supply)
        _no_room(attachment, "a torch file", supply)
    elif isinstance(source, NpzCheckpoint) and target.kind == "npz":
        check_npz(supply.header, target.path)
        write_npz(file, supply.header, supply)
        _no_room(attachment, "a .npz file", supply)
    elif isinstance(source, MsgpackCheckpoint) and target.kind == "msgpack":
        check_msgpack(supply.header, target.path)
        beside = {name: source.kept(name) for name in source.beside}
        write_msgpack(file, supply.header, supply, beside, source.order)
        _no_room(attachment, "a .msgpack file", supply)
    elif isinstance(source, ProgramCheckpoint) and target.kind == "pt2":
        check_types(source, supply.header, target.path)
        write_program(file, source, supply)
        _no_room(attachment, "a program", supply)
    else:
        supply.notes += _left_behind(source)
        stored = without_ties(source.tied, supply)
        write_safetensors(file, stored, supply, _metadata(source, metadata), attachment)


def _no_room(attachment: Attachment | None, what: str, supply: Supply) -> None:
    if attachment is not None:
        supply.notes.append(
            f"{what} has no room for '{attachment.key}'; a .safetensors file or a directory has"
        )


def _metadata(source: Checkpoint, given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    if given is not None:
        return given
    # transformers wants to be told which library the layout of the tensors comes from.
    return source.metadata or ({"format": "pt"} if _torch_parts(source) else None)


def _torch_parts(source: Checkpoint) -> list[TorchCheckpoint]:
    parts = source.shards if isinstance(source, DirectoryCheckpoint) else (source,)
    return [part for part in parts if isinstance(part, TorchCheckpoint)]


def _left_behind(source: Checkpoint) -> list[str]:
    """Say what a single safetensors file cannot take over from its source."""
    left = [name for part in _torch_parts(source) for name in part.state.beside]
    if isinstance(source, DirectoryCheckpoint):
        left += source.side_files
    if isinstance(source, OnnxCheckpoint):
        left += ["the graph", *source.contents.skipped]
    if isinstance(source, ProgramCheckpoint):
        left += ["the program"]
    if isinstance(source, MsgpackCheckpoint):
        left += source.beside
    return [f"left behind: {', '.join(left)}"] if left else []


def without_ties(tied: Mapping[str, str], supply: Supply) -> dict[str, TensorInfo]:
    """Return the header to store: that of `supply`, less tied names that still hold as tied.

    The header goes to disk before any values, so tied tensors are made here once more.
    """
    stored = dict(supply.header)
    firsts: dict[str, str] = {}
    for name, first in tied.items():
        if first not in firsts:
            firsts[first] = hashlib.sha256(supply.take(first)).hexdigest()
        same_type = stored[name] == stored[first]
        if same_type and hashlib.sha256(supply.take(name)).hexdigest() == firsts[first]:
            del stored[name]
            supply.passed(name)
            supply.notes.append(
                f"{name} shares {first}'s values and is left out, as transformers does"
            )
        else:
            supply.notes.append(f"{name} is no longer tied to {first}: they now differ")
    return stored
