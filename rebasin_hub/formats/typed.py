"""Files that hold a graph or a program beside the weights take those of its own types alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebasin_hub.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rebasin_hub.formats.checkpoint import Checkpoint
    from rebasin_hub.tensors import TensorInfo

__all__ = ["check_types"]


def check_types(source: Checkpoint, header: Mapping[str, TensorInfo], out: Path) -> None:
    """Refuse other types or shapes than a graph or a program was made for.

    Raises:
        OutputError: with the first one.

    """
    for name, info in source.header.items():
        if header[name] != info:
            raise OutputError(
                f"{out}: {source.path} takes {name!r} as {info.dtype} {list(info.shape)}, not as "
                f"{header[name].dtype} {list(header[name].shape)}; write a .safetensors file"
            )
