"""Writing a checkpoint in another format than the one that it was read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rebasin_hub.errors import OutputError
from rebasin_hub.formats.atomic import new_directory, new_file
from rebasin_hub.formats.folder import is_weights
from rebasin_hub.formats.msgpack import check_msgpack, write_msgpack
from rebasin_hub.formats.npz import check_npz, write_npz
from rebasin_hub.formats.safetensors import write_safetensors
from rebasin_hub.formats.shards import write_shards
from rebasin_hub.formats.torchfile import write_state_dict
from rebasin_hub.formats.writer import Saved, save_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.checkpoint import Checkpoint
    from rebasin_hub.formats.onnx import OnnxCheckpoint
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.formats.target import Target
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Export", "check_kind", "export", "kind_of"]

_SUFFIXES = {
    ".safetensors": "safetensors",
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "torch"),
    ".npz": "npz",
    ".msgpack": "msgpack",
    ".onnx": "onnx",
}


@dataclass(frozen=True)
class Export:
    """How an output is laid out.

    Args:
        tied: names that share the memory of others; only torch files store such names.
        shard_size: bytes of the largest shard of a directory.
        graph: the ONNX model that an .onnx output is a copy of.

    """

    tied: Mapping[str, str] = field(default_factory=dict)
    shard_size: int | None = None
    graph: OnnxCheckpoint | None = None


def kind_of(out: Path) -> str:
    """Return the format that an output's name asks for; any other name is that of a directory.

    Raises:
        OutputError: the name is that of weights in a format that is not written.

    """
    kind = _SUFFIXES.get(out.suffix.lower())
    if kind is None and is_weights(out.name.lower()):
        raise OutputError(
            f"{out}: '{out.suffix}' files are not written; choose one of {', '.join(_SUFFIXES)}, "
            "or a directory"
        )
    return kind or "directory"


def check_kind(kind: str, header: Mapping[str, TensorInfo], out: Path) -> None:
    """Refuse names and types that a format cannot hold, before anything is read.

    Raises:
        OutputError: with the first one.

    """
    if kind == "npz":
        check_npz(header, out)
    elif kind == "msgpack":
        check_msgpack(header, out)


def export(
    source: Checkpoint, target: Target, supply: Supply, plan: Export, *, force: bool = False
) -> Saved:
    """Write the tensors of `supply`; side files are those of `source`.

    Raises:
        OutputError: the output exists (without `force`) or cannot be written.
        ProofError: another type or shape was made than was said, or the disk gave back other bytes.

    """
    out = target.path
    if plan.graph is not None:
        return save_onnx(plan.graph, out, supply, force=force)
    metadata = source.metadata or ({"format": "pt"} if source.format == "torch" else None)
    if target.kind == "directory":
        with new_directory(out, force=force) as folder:
            nbytes = write_shards(folder, source, supply, metadata, out, limit=plan.shard_size)
        files = tuple(sorted(file for file in out.rglob("*") if file.is_file()))
    else:
        with new_file(out, force=force) as file:
            _write(file, target.kind, supply, metadata, plan.tied)
            nbytes = file.tell()
        files = (out,)
    return Saved(out, nbytes, supply.digests, files, tuple(supply.notes))


def _write(
    file: NewFile,
    kind: str,
    supply: Supply,
    metadata: Mapping[str, str] | None,
    tied: Mapping[str, str],
) -> None:
    header = supply.header
    if kind == "torch":
        write_state_dict(file, header, supply, tied)
    elif kind == "npz":
        write_npz(file, header, supply)
    elif kind == "msgpack":
        write_msgpack(file, header, supply)
    else:
        write_safetensors(file, header, supply, metadata)
