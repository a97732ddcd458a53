"""Checkpoint files: opened lazily, streamed back in the same format, bit for bit."""

from __future__ import annotations

from pathlib import Path

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.atomic import new_directory, new_file
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.directory import DirectoryCheckpoint
from rebasin_hub.formats.gguf import GgufCheckpoint
from rebasin_hub.formats.msgpack import MsgpackCheckpoint
from rebasin_hub.formats.npz import NpzCheckpoint
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.formats.program import ProgramCheckpoint
from rebasin_hub.formats.safetensors import SafetensorsCheckpoint
from rebasin_hub.formats.sniff import (
    HEAD,
    check_exists,
    foreign,
    is_npz,
    is_pickle,
    is_zip,
    open_input,
)
from rebasin_hub.formats.target import Target, check_output
from rebasin_hub.formats.torch import TorchCheckpoint
from rebasin_hub.formats.writer import Saved, save_like, save_safetensors

__all__ = [
    "Checkpoint",
    "Saved",
    "Target",
    "check_output",
    "new_directory",
    "new_file",
    "open_checkpoint",
    "save_like",
    "save_safetensors",
]

_READ = (
    ".safetensors, .pt, .pth, .bin, .ckpt, .onnx, .pt2, .npz, .msgpack and .gguf files and Hugging "
    "Face directories"
)
_BY_NAME: dict[str, type[OnnxCheckpoint | MsgpackCheckpoint]] = {
    ".onnx": OnnxCheckpoint,
    ".msgpack": MsgpackCheckpoint,
}
"""Formats that have no signature of their own."""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint: a file of weights, an ONNX model, or a Hugging Face directory.

    Only headers are read. What a file is, its content decides; .onnx and .msgpack files, which have
    no signature, are known by their names.

    Raises:
        FormatError: there is no such file, or it is damaged, hostile or of another kind.
        MissingExtraError: it is a torch file, and torch is not installed.

    """
    path = Path(path)
    if check_exists(path):
        return DirectoryCheckpoint(path)
    with open_input(path) as file:
        head = file.read(HEAD)
    suffix = path.suffix.lower()
    if suffix == ".safetensors" or head[8:9] == b"{":
        return SafetensorsCheckpoint(path)
    known = foreign(head)
    if suffix in _BY_NAME and known is None:
        return _BY_NAME[suffix](path)
    if head.startswith(b"GGUF") and suffix != ".safetensors":
        return GgufCheckpoint(path)
    if is_npz(head) or (is_zip(head) and suffix == ".npz"):
        return NpzCheckpoint(path)
    if (is_zip(head) and suffix not in {".npz", ".onnx", ".zip"}) or is_pickle(head):
        return ProgramCheckpoint(path) if suffix == ".pt2" else TorchCheckpoint(path)
    what, do = known or ("of an unknown kind", f"what can be read: {_READ}")
    raise FormatError(f"{path}: is {what}; {do}")
