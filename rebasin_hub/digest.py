"""Digests of weights: SHA-256 over names, element types, shapes and values, and nothing else.

Files that hold the same tensors have the same digest, whatever their format, sharding, metadata
and stored order. The plain digest takes values in stored numbering, the canonical digest in
canonical order, so that it is equal for renumbered copies too.

A digest is SHA-256 over the lines of `digest_of`, one for each tensor, with the SHA-256 of each
tensor's bytes as a safetensors file holds them. What has been hashed on its way to disk need not
be read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.permute import Element, Index
from rebasin_hub.rearrange import Array, Read, gather, plan
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["canonical_digest", "digest_of", "plain_digest", "tensor_digest"]

VERSION = "rebasin-hub digest 1"
PART_BYTES = 1 << 19


def digest_of(header: Header, tensors: Mapping[str, str], skip: Collection[str] = ()) -> str:
    """Return the digest of a checkpoint whose tensors have been hashed one by one.

    Args:
        header: names, types and shapes.
        tensors: the `tensor_digest` of each name in the header.
        skip: names to leave out: those that share the memory of others, which other formats do
            not store.

    Returns 64 hexadecimal digits.

    """
    skipped = set(skip)
    whole = hashlib.sha256(f"{VERSION}\n".encode())
    for name in sorted(set(header) - skipped):
        info = header[name]
        # JSON quotes whatever a name may hold, so that no two headers give the same lines.
        line = json.dumps([name, info.dtype, list(info.shape), tensors[name]])
        whole.update(f"{line}\n".encode())
    return whole.hexdigest()


def tensor_digest(array: Array, dtype: str) -> str:
    """Return the SHA-256 of the bytes that a file holds for an array of a stored type."""
    return hashlib.sha256(bytes_of(array, dtype)).hexdigest()


def plain_digest(header: Header, read: Read, skip: Collection[str] = ()) -> str:
    """Return the digest of a checkpoint in the numbering that it is read in.

    One tensor at a time is in memory; for `skip` and the result see `digest_of`.
    """
    kept = sorted(set(header) - set(skip))
    tensors = {name: tensor_digest(read(name), header[name].dtype) for name in kept}
    return digest_of(header, tensors, skip)


def canonical_digest(
    binding: Binding, element: Element, read: Read, *, skip: Collection[str] = ()
) -> str:
    """Return the digest of a checkpoint renumbered by an element, such as its canonical order.

    The law: it equals the `plain_digest` of the renumbered checkpoint. One stored tensor at a
    time is in memory, and a piece of its renumbered copy.

    Raises:
        PermutationError: `element` is no element of the binding's group.

    """
    gathers = plan(binding, element)
    tensors: dict[str, str] = {}
    for name in sorted(set(binding.header) - set(skip)):
        dtype, hasher = binding.header[name].dtype, hashlib.sha256()
        for part in _parts(gathers[name].index, read(gathers[name].source), dtype):
            hasher.update(bytes_of(part, dtype))
        tensors[name] = hasher.hexdigest()
    return digest_of(binding.header, tensors, skip)


def _parts(index: tuple[Index | None, ...], stored: Array, dtype: str) -> Iterator[Array]:
    """Renumber a tensor by consecutive stretches of its first axis, which stay in the cache."""
    joint = any(axis is not None and axis.ndim > 1 for axis in index)
    packed = DTYPES[dtype].bits < 8  # noqa: PLR2004 (stretches might not end on a whole byte)
    if joint or packed or not any(axis is not None for axis in index):
        yield gather(index, stored)
        return
    rows = max(1, PART_BYTES * stored.shape[0] // max(1, stored.nbytes))
    first, *others = index
    for start in range(0, stored.shape[0], rows):
        stretch = slice(start, start + rows)
        part = stored[stretch] if first is None else np.take(stored, first[stretch], axis=0)
        yield gather((None, *others), part)
