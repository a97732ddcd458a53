"""Text that goes along with weights, and that is complete only once they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Attachment"]


@dataclass(frozen=True)
class Attachment:
    """What is said of a checkpoint: in a directory a file, in a safetensors file metadata.

    A safetensors file has its metadata in front of its tensors. There the draft takes the place
    of the final text, which is as long and is put over it in the end (docs/decisions/0004).
    """

    key: str
    """Of the metadata."""
    file: str
    """The name in a directory."""
    draft: str
    """As long as the final text."""
    final: Callable[[Mapping[str, str]], str]
    """Makes the final text of the SHA-256 of every tensor that was written, by name."""
