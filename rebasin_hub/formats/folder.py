"""What else lies in a checkpoint directory: files that go along, and weights that stay behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from rebasin_hub.formats.atomic import NewFile

__all__ = ["copy_file", "is_weights", "survey"]

_TORCH = (".bin", ".pt", ".pth", ".ckpt")
_OTHERS = (
    *(".safetensors", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".npz", ".tflite"),
    *(".ot", ".mlmodel", ".index.json"),
)
# What trainers leave beside the weights: torch files, and no models.
_TRAINING = ("optimizer", "scheduler", "scaler", "rng_state", "training_args")
_CHUNK = 8 << 20


def is_weights(name: str, *, torch_only: bool = False) -> bool:
    """Whether a file name is one that weights have; with `torch_only`, a torch model's."""
    if torch_only:
        return name.endswith(_TORCH) and not name.startswith(_TRAINING)
    return name.endswith(_TORCH + _OTHERS)


def survey(directory: Path, used: AbstractSet[str]) -> tuple[list[str], list[str]]:
    """Return the paths inside a directory to copy, and those that stay behind; both sorted.

    Copied are visible files, also behind links, in the directory and its subdirectories, but no
    weights: unchanged they would contradict the new ones. `used` are the names written anew.
    """
    copied: list[str] = []
    left: list[str] = []
    for place, folders, files in os.walk(directory):
        folders[:] = _visible(folders)
        inside = Path(place).relative_to(directory)
        left += [str(inside / name) for name in folders if Path(place, name).is_symlink()]
        for name in _visible(files):
            path = str(inside / name)
            if path in used:
                continue
            plain = Path(place, name).is_file() and not is_weights(name)
            (copied if plain else left).append(path)
    return sorted(copied), sorted(left)


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def copy_file(path: Path, file: NewFile) -> None:
    """Append a side file to a new file, a few megabytes at a time."""
    try:
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                file.put(chunk)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; make it readable or move it away"
        ) from None
