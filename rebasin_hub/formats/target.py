"""Where and as what an output is to be written: decided, and refused, before any work is done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.atomic import explained, refuse_existing
from rebasin_hub.formats.directory import find_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rebasin_hub.formats.checkpoint import Checkpoint

__all__ = ["Target", "check_output"]

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_READ_FROM = {
    "directory": "a directory",
    "safetensors": "a safetensors file",
    "torch": "a torch file",
    "onnx": "an ONNX model",
    "npz": "a .npz file",
    "msgpack": "a .msgpack file",
    "gguf": "a GGUF file",
    "pt2": "a program of torch.export",
}
_LIKES = {
    "directory": "a directory or .safetensors",
    "torch": ".pt or .safetensors",
    "onnx": ".onnx or .safetensors",
    "npz": ".npz or .safetensors",
    "msgpack": ".msgpack or .safetensors",
    "pt2": ".pt2 or .safetensors",
}


@dataclass(frozen=True)
class Target:
    """An output that can be written: its absolute path and its format."""

    path: Path
    kind: str
    """`safetensors`, `torch`, `directory`, `onnx`, `npz`, `msgpack` or `pt2`."""


def check_output(
    source: Checkpoint,
    out: str | Path,
    *,
    others: Sequence[Checkpoint] = (),
    kind: str | None = None,
    force: bool = False,
) -> Target:
    """Decide how `out` is written from `source`; refuse what cannot or must not be written.

    A `kind` that is given is taken; else the output is like its source.

    Raises:
        OutputError: `out` is, holds or lies in the source or one of `others`; it exists
            (without `force`) or is a directory that is no checkpoint; it is a symbolic link; its
            directory is missing or read-only; its name asks for a conversion that is not offered.

    """
    path = Path(os.path.abspath(out))  # noqa: PTH100 - resolves "..", but follows no link
    with explained(path):
        for one in (source, *others):
            _refuse_input(one, path)
    target = Target(path, kind or _kind(source, path))
    refuse_existing(path, force=force)
    if path.exists():
        _refuse_replacing(target)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the directory {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {path.parent}; choose another place")
    return target


def _refuse_input(source: Checkpoint, out: Path) -> None:
    reason = ""
    real = Path(os.path.realpath(out))
    root = Path(os.path.realpath(source.path))
    if out.exists() and any(out.samefile(file) for file in (source.path, *source.files)):
        reason = "is the input itself"
    elif source.path.is_dir() and real.is_relative_to(root):
        reason = f"lies in the input directory {source.path}"
    elif root.is_relative_to(real):
        reason = f"holds the input {source.path}"
    if reason:
        raise OutputError(f"{out}: {reason}, which is never changed; choose another output")


def _kind(source: Checkpoint, out: Path) -> str:
    suffix = out.suffix.lower()
    torch = suffix in _TORCH_SUFFIXES
    if suffix == ".safetensors":
        return "safetensors"
    if source.format == "directory" and not torch:
        return "directory"
    if source.format not in {"directory", "gguf"} and suffix == source.path.suffix.lower():
        return source.format
    if source.format == "torch" and torch:
        return "torch"
    raise OutputError(
        f"{out}: a checkpoint read from {_READ_FROM[source.format]} is written as "
        f"{_LIKES.get(source.format, '.safetensors')}, not as "
        f"'{suffix or 'a name without ending'}'; choose another name, or use `convert`"
    )


def _refuse_replacing(target: Target) -> None:
    """Refuse to put a file in a directory's place, a directory in a file's, or in any other's."""
    out = target.path
    if target.kind != "directory":
        if out.is_dir():
            raise OutputError(f"{out}: is a directory; name a file in it")
        return
    if not out.is_dir():
        raise OutputError(f"{out}: is a file, and the output is a directory; choose another name")
    try:
        if any(out.iterdir()):
            find_weights(out)
    except FormatError:
        raise OutputError(
            f"{out}: is a directory that is no checkpoint, and is not replaced even by force; "
            "choose another name"
        ) from None
