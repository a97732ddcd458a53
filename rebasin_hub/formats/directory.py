"""Checkpoint directories in the layout of Hugging Face: weights in one file or in shards.

An index (`model.safetensors.index.json`) says which shard holds which tensor. It is input like
any other: its file names must be plain names inside the directory, and index and shards must
agree on every tensor. Directories of torch files (`pytorch_model.bin`) work the same way.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.atomic import NewFile
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_in, config_of_dtype, read_json
from rebasin_hub.formats.folder import copy_file, is_weights, survey
from rebasin_hub.formats.header import storage_order
from rebasin_hub.formats.safetensors import SafetensorsCheckpoint, write_safetensors
from rebasin_hub.formats.torch import TorchCheckpoint
from rebasin_hub.formats.torchfile import write_torch
from rebasin_hub.tensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from rebasin_hub.formats.attachment import Attachment
    from rebasin_hub.formats.raw import Array
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.tensors import TensorInfo

__all__ = ["DirectoryCheckpoint", "Index", "copy_side_files", "find_weights", "write_directory"]

# In the order of preference of transformers.
_STANDARD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_PARALLEL = re.compile(r"consolidated\.\d+\.pth")
"""What tensor-parallel parts are called in Meta's checkpoints."""
_SHOWN = 5
# The types that config.json names.
_CONFIG_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class Index:
    """A checked index file: each tensor's shard, and what else the file holds."""

    path: Path
    shards: Mapping[str, str]
    total_size: int | None
    content: Mapping[str, Any]


class DirectoryCheckpoint(Checkpoint):
    """A directory of one or more files of weights, with its side files."""

    format = "directory"

    def __init__(self, path: Path) -> None:
        self.path = path
        weights = find_weights(path)
        self.index = read_index(weights) if weights.name.endswith(".index.json") else None
        names = sorted(set(self.index.shards.values())) if self.index else [weights.name]
        self.config = config_in(path)
        with ExitStack() as opened:
            self.shards = tuple(
                opened.enter_context(_open_shard(path / name, self.index)) for name in names
            )
            self._home = _homes(self.shards, self.index)
            self._opened = opened.pop_all()
        self.files = tuple(path / name for name in names)
        self.header = {name: info for shard in self.shards for name, info in shard.header.items()}
        self.metadata = {
            key: text for shard in reversed(self.shards) for key, text in shard.metadata.items()
        }
        self.tied = {name: to for shard in self.shards for name, to in shard.tied.items()}
        self.side_files, left = survey(path, {*names, weights.name})
        self.notes = (*(note for shard in self.shards for note in shard.notes),)
        self.notes += tuple(_index_notes(self.index, self.header))
        if left:
            self.notes += (f"neither read nor copied: {', '.join(left)}",)

    def read(self, name: str) -> Array:  # noqa: D102
        return self._home[name].read(name)

    def close(self) -> None:  # noqa: D102
        self._opened.close()


def find_weights(directory: Path) -> Path:
    """Return the file of weights, or the index of its shards, that a directory stands for.

    Raises:
        FormatError: there is none, or several with nothing to choose between them.

    """
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        raise FormatError(f"{directory}: cannot be listed: {error.strerror}") from None
    if (standard := next((name for name in _STANDARD if name in names), None)) is not None:
        return directory / standard
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    single = [name for name in names if name.endswith(".safetensors")]
    torch = [name for name in names if is_weights(name, torch_only=True)]
    for candidates in (indexes, single, torch):
        if len(candidates) > 1:
            if all(_PARALLEL.fullmatch(name) for name in candidates):
                raise FormatError(
                    f"{directory}: holds one model in {len(candidates)} parts, each with a slice "
                    f"of every matrix ({_list(candidates)}); join those of Llama with `rebasin-hub "
                    "convert DIRECTORY OUT --from-layout original`, and give what it writes"
                )
            raise FormatError(
                f"{directory}: holds {_list(candidates)} and no index that joins them; "
                "give one of these files"
            )
        if candidates:
            return directory / candidates[0]
    raise FormatError(
        f"{directory}: holds no weights: expected {', '.join(_STANDARD)} or one other file of "
        "weights; give the directory or the file that does"
    )


def read_index(path: Path) -> Index:
    """Read and check an index file.

    Raises:
        FormatError: it is damaged, or names a file outside its directory.

    """
    content = read_json(path)
    shards = content.get("weight_map")
    if not isinstance(shards, dict):
        raise FormatError(f"{path}: lacks 'weight_map', an object of tensor name to file name")
    suffix = ".safetensors" if path.name.endswith(".safetensors.index.json") else ".bin"
    for tensor, file in shards.items():
        if not _is_plain(file) or not file.endswith(suffix):
            raise FormatError(
                f"{path}: tensor {tensor!r}: its shard {file!r} is not the plain name of a "
                f"{suffix} file in the index's own directory; do not trust this checkpoint"
            )
    for file in sorted(set(shards.values())):
        if not path.with_name(file).exists():
            count = sum(shard == file for shard in shards.values())
            raise FormatError(
                f"{path.with_name(file)}: this shard is missing; {path.name} promises {count} "
                "tensors in it; download it again"
            )
    metadata = content.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return Index(path, shards, total if type(total) is int else None, content)


def _is_plain(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name.isprintable() and not set(name) & set("/\\:")


def _open_shard(path: Path, index: Index | None) -> Checkpoint:
    if path.name.endswith(".safetensors"):
        return SafetensorsCheckpoint(path, alone=False)
    # Nesting and prefixes could differ from shard to shard; the index names tensors as stored.
    return TorchCheckpoint(path, unwrap=index is None, alone=False)


def _homes(shards: Iterable[Checkpoint], index: Index | None) -> dict[str, Checkpoint]:
    """Return each tensor's shard; refuse any disagreement between index and shards."""
    homes: dict[str, Checkpoint] = {}
    for shard in shards:
        for name in shard.header:
            if name in homes:
                raise FormatError(
                    f"{shard.path}: tensor {name!r} is in {homes[name].path.name} as well; "
                    "remove one of the two"
                )
            homes[name] = shard
    if index is None:
        return homes
    if unlisted := [name for name in homes if name not in index.shards]:
        raise FormatError(
            f"{homes[unlisted[0]].path}: holds {_list(unlisted)}, which {index.path.name} does "
            "not list; write the index again"
        )
    for name, file in index.shards.items():
        if name not in homes or homes[name].path.name != file:
            found = f"found in {homes[name].path.name}" if name in homes else "not there"
            raise FormatError(
                f"{index.path.with_name(file)}: lacks tensor {name!r} that {index.path.name} "
                f"promises ({found}); download both again"
            )
    return homes


def _index_notes(index: Index | None, header: Mapping[str, TensorInfo]) -> Iterable[str]:
    if index is not None and index.total_size is not None:
        total = sum(info.nbytes for info in header.values())
        if index.total_size != total:
            yield (
                f"{index.path.name} says {index.total_size:,} bytes in all, its shards hold "
                f"{total:,}"
            )


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def write_directory(
    folder: Path,
    source: DirectoryCheckpoint,
    supply: Supply,
    metadata: Mapping[str, str] | None,
    out: Path,
    *,
    attachment: Attachment | None = None,
) -> int:
    """Write shards, index and side files of `source` into an empty folder; return the bytes.

    `metadata` stands in for that of every shard; `out` is the final name, for messages; the
    attachment becomes a file.
    """
    total = 0
    headers = [{name: supply.header[name] for name in shard.header} for shard in source.shards]
    pairs = list(zip(source.shards, headers, strict=True))
    with supply.ahead([name for shard, header in pairs for name in _write_order(shard, header)]):
        for shard, header in pairs:
            name = shard.path.name
            with NewFile(folder / name, out / name) as file:
                if isinstance(shard, TorchCheckpoint):
                    write_torch(file, shard, header, supply)
                else:
                    kept = shard.metadata or None if metadata is None else metadata
                    write_safetensors(file, header, supply, kept)
                total += file.finish()
    if source.index is not None:
        name = source.index.path.name
        with NewFile(folder / name, out / name) as file:
            file.put(_index_text(source.index, supply.header))
            total += file.finish()
    skipped = ""
    if attachment is not None:
        skipped = attachment.file  # that of the source spoke of the source
        with NewFile(folder / attachment.file, out / attachment.file) as file:
            file.put(attachment.final(supply.digests).encode())
            total += file.finish()
    return total + copy_side_files(folder, source, supply, out, skip=skipped)


def _write_order(shard: Checkpoint, header: Mapping[str, TensorInfo]) -> Iterable[str]:
    """Return the names of a shard in the order in which they are written."""
    return header if isinstance(shard, TorchCheckpoint) else storage_order(header)


def copy_side_files(
    folder: Path, source: Checkpoint, supply: Supply, out: Path, *, skip: str = ""
) -> int:
    """Copy what goes along with weights into a folder, but for one file; return the bytes.

    That are the side files of a directory, or config.json that belongs to a single file. Where all
    weights have come to be of one other type, the copy of config.json says so.
    """
    total = 0
    dtype = _new_dtype(source.header, supply.header)
    place, names = source.path.parent, ["config.json"] if source.config is not None else []
    if isinstance(source, DirectoryCheckpoint):
        place, names = source.path, source.side_files
    for name in names:
        if name == skip:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with NewFile(folder / name, out / name) as file:
            if name == "config.json" and dtype is not None:
                text, notes = config_of_dtype(place / name, dtype)
                file.put(text)
                supply.notes += notes
            else:
                copy_file(place / name, file)
            total += file.finish()
    return total


def _new_dtype(old: Mapping[str, TensorInfo], new: Mapping[str, TensorInfo]) -> str | None:
    """Return what config.json calls the one type of all new weights, None if it says so anyway."""
    before, now = (
        {info.dtype for info in header.values() if DTYPES[info.dtype].floating}
        for header in (old, new)
    )
    return _CONFIG_NAMES.get(now.pop()) if now != before and len(now) == 1 else None


def _index_text(index: Index, header: Mapping[str, TensorInfo]) -> bytes:
    """Return the index in the form that transformers gives it, with the new total size."""
    old = index.content.get("metadata")
    metadata = dict(old) if isinstance(old, dict) else {}
    metadata["total_size"] = sum(info.nbytes for info in header.values())
    content = {**index.content, "metadata": metadata}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
