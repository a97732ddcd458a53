"""What every checkpoint offers, whatever its format: names and shapes first, values on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rebasin_hub.formats.raw import Array
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Checkpoint"]


class Checkpoint(ABC):
    """An open checkpoint; a context manager that closes its files."""

    path: Path
    """The file or directory, as it was given."""
    format: str
    """`safetensors`, `torch`, `onnx`, `pt2`, `npz`, `msgpack`, `gguf`, or `directory` of such."""
    files: tuple[Path, ...]
    """The files that the weights are read from."""
    header: Mapping[str, TensorInfo]
    """Name to type and shape, in stored order; known before any value is read."""
    metadata: Mapping[str, str]
    """The text that safetensors files carry beside the tensors."""
    config: Mapping[str, Any] | None
    """config.json, where one belongs to the checkpoint."""
    tied: Mapping[str, str]
    """Name to the first name that it shares all of its memory with (torch, ONNX and .pt2 files)."""
    notes: tuple[str, ...]
    """What a user should know of this checkpoint, in whole sentences."""

    @abstractmethod
    def read(self, name: str) -> Array:
        """Return a tensor's values, bit for bit, in fresh memory.

        The array is C-contiguous, of the shape `header[name].shape` and of the element type
        `DTYPES[header[name].dtype].numpy`.

        Raises:
            KeyError: no tensor of this name is in `header`.
            FormatError: the file ended early or could not be read.

        """

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
