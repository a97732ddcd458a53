"""New directories in the layout of Hugging Face: tensors dealt out to shards of bounded size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rebasin_hub.formats.atomic import NewFile
from rebasin_hub.formats.directory import copy_side_files
from rebasin_hub.formats.header import storage_order
from rebasin_hub.formats.safetensors import write_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rebasin_hub.formats.checkpoint import Checkpoint
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.tensors import TensorInfo

__all__ = ["deal_out", "write_shards"]

INDEX = "model.safetensors.index.json"


def deal_out(header: Mapping[str, TensorInfo], limit: int | None) -> dict[str, list[str]]:
    """Return which file holds which tensors: in their order, none of more than `limit` bytes.

    A tensor that is larger has a file of its own; without a limit, or if all fit, there is one
    `model.safetensors`.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, info in header.items():
        if limit is not None and shards[-1] and filled + info.nbytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += info.nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    count = len(shards)
    return {
        f"model-{number:05}-of-{count:05}.safetensors": names
        for number, names in enumerate(shards, 1)
    }


def write_shards(
    folder: Path,
    source: Checkpoint,
    supply: Supply,
    metadata: Mapping[str, str] | None,
    out: Path,
    *,
    limit: int | None,
) -> int:
    """Write all tensors of `supply` into an empty folder, with their index; return the bytes.

    Side files of a source that is a directory go along, and so does config.json that belongs to a
    single file. `out` is the final name, for messages.
    """
    total = 0
    shards = deal_out(supply.header, limit)
    headers = {s: {name: supply.header[name] for name in names} for s, names in shards.items()}
    with supply.ahead([name for header in headers.values() for name in storage_order(header)]):
        for shard, header in headers.items():
            with NewFile(folder / shard, out / shard) as file:
                write_safetensors(file, header, supply, metadata)
                total += file.finish()
    if len(shards) > 1:
        size = sum(info.nbytes for info in supply.header.values())
        homes = {name: shard for shard, names in shards.items() for name in names}
        content = {"metadata": {"total_size": size}, "weight_map": homes}
        with NewFile(folder / INDEX, out / INDEX) as file:
            file.put((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
            total += file.finish()
    return total + copy_side_files(folder, source, supply, out)
