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
from collections.abc import Collection, Mapping

from rebasin_hub.bind import Binding
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import Array, Gather, Read, gather, gathered, plan
from rebasin_hub.stream import A_FEW, Bound, ready
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["both_digests", "canonical_digest", "digest_of", "plain_digest", "tensor_digest"]

VERSION = "rebasin-hub digest 1"


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


def plain_digest(
    header: Header,
    read: Read,
    skip: Collection[str] = (),
    *,
    bound: Bound = A_FEW,
) -> str:
    """Return the digest of a checkpoint in the numbering that it is read in.

    Tensors are read and hashed in threads, as many at a time as the bound allows; for `skip` and
    the result see `digest_of`.
    """
    kept = sorted(set(header) - set(skip))
    tensors = ready(
        kept,
        lambda name: tensor_digest(read(name), header[name].dtype),
        cost=lambda name: header[name].nbytes,
        bound=bound,
    )
    return digest_of(header, tensors, skip)


def canonical_digest(
    binding: Binding,
    element: Element,
    read: Read,
    *,
    skip: Collection[str] = (),
    bound: Bound = A_FEW,
) -> str:
    """Return the digest of a checkpoint renumbered by an element, such as its canonical order.

    The law: it equals the `plain_digest` of the renumbered checkpoint. Stored tensors are in
    memory as the bound allows, and a piece of each one's renumbered copy.

    Raises:
        PermutationError: `element` is no element of the binding's group.

    """
    gathers = plan(binding, element)
    tensors = ready(
        sorted(set(binding.header) - set(skip)),
        lambda name: _renumbered_digest(gathers[name], read(gathers[name].source), binding.header),
        cost=lambda name: binding.header[name].nbytes,
        bound=bound,
    )
    return digest_of(binding.header, tensors, skip)


def both_digests(
    binding: Binding,
    element: Element,
    read: Read,
    *,
    skip: Collection[str] = (),
    bound: Bound = A_FEW,
) -> tuple[str, str]:
    """Return `plain_digest` and `canonical_digest` of a checkpoint that is read once.

    Raises:
        PermutationError: `element` is no element of the binding's group.

    """
    targets = {step.source: step for step in plan(binding, element).values()}
    header = binding.header

    def digests(name: str) -> tuple[str, str]:
        stored, step = read(name), targets[name]
        plain = tensor_digest(stored, header[name].dtype)
        return plain, (_renumbered_digest(step, stored, header) if step.moves else plain)

    # What is read for a tensor that is not left out may itself be one of those that are.
    kept = sorted(name for name in header if not {name, targets[name].target} <= set(skip))
    found = ready(kept, digests, cost=lambda name: header[name].nbytes, bound=bound)
    plain = {name: own for name, (own, _) in found.items()}
    canonical = {targets[name].target: own for name, (_, own) in found.items()}
    return digest_of(header, plain, skip), digest_of(header, canonical, skip)


def _renumbered_digest(step: Gather, stored: Array, header: Header) -> str:
    dtype, hasher = header[step.target].dtype, hashlib.sha256()
    if DTYPES[dtype].bits < 8:  # noqa: PLR2004 (stretches might not end on a whole byte)
        return tensor_digest(gather(step.index, stored), dtype)
    for part in gathered(step.index, stored):
        hasher.update(bytes_of(part, dtype))
    return hasher.hexdigest()
