"""How large each unit is: a sum of squares that no renumbering can change by even one bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.canonical.entries import EAGER, ELEMENTS, Slab, Stream, bits_of, each_slab, pieces
from rebasin_hub.canonical.fused import fused_marginals
from rebasin_hub.permute import SymmetryGroup
from rebasin_hub.rearrange import Array, Read

__all__ = ["Energy", "unit_energies"]

Energy = NDArray[np.float64]

EXACT_BITS = 53
"""Whole numbers up to 2**53 add up exactly in float64, whatever the order."""
_EXPONENT_LIMIT = 1022
"""Powers of two beyond this leave float64's range. Weights so small count as zero."""


def unit_energies(
    group: SymmetryGroup, tensors: Sequence[BoundTensor], read: Read, stream: Stream = EAGER
) -> dict[str, Energy]:
    """Return for each unit the sum of the squares of all finite weights that touch it.

    Squares are rounded to multiples of a power of two, chosen for each tensor by its largest
    magnitude, so that their sums are exact; tensors are added in the order given.

    Args:
        group: the renumberings.
        tensors: floating tensors, in an order that does not depend on the numbering.
        read: reads a stored tensor.
        stream: how they are gone over.

    Returns arrays of the group's shapes. The law: the energies of a renumbered model are the
    energies renumbered, bit by bit.

    """
    energy = {name: np.zeros(group.shape(name)) for name in group.factors}
    for found in stream.over(tensors, lambda tensor: _tensor_energies(group, tensor, read)):
        for name, own in found.items():
            energy[name] += own
    return energy


def _tensor_energies(group: SymmetryGroup, tensor: BoundTensor, read: Read) -> dict[str, Energy]:
    if tensor.names.size == 1:
        # Both looks at the only stored tensor share one reading of it.
        stored = read(str(tensor.names.flat[0]))
        return _scaled_energies(group, tensor, lambda _: stored)
    return _scaled_energies(group, tensor, read)


@np.errstate(all="ignore")  # NaN and infinity are expected here, and so is leaving the range
def _scaled_energies(group: SymmetryGroup, tensor: BoundTensor, read: Read) -> dict[str, Energy]:
    looks = [_look(read(str(name))) for name in tensor.names.flat]
    peak, finite = max(look.peak for look in looks), all(look.finite for look in looks)
    if peak == 0:
        return {}
    shift = (EXACT_BITS - _summand_bits(group, tensor)) // 2 - math.frexp(peak)[1]
    shift = max(-_EXPONENT_LIMIT, min(shift, _EXPONENT_LIMIT))
    total = {name: np.zeros(group.shape(name)) for name in tensor.permutations}

    def add(slab: Slab) -> None:
        wanted = {n: slab.block.lineage(n) for n, a in enumerate(slab.block.atoms) if a.permutation}
        if not wanted:
            return
        sums = _marginals(slab, math.ldexp(1.0, shift), finite, set(wanted.values()))
        for atom, axes in wanted.items():
            name = str(slab.block.atoms[atom].permutation)
            total[name][slab.here(axes)] += slab.gathered(sums[axes], atom)

    each_slab(tensor, read, add)
    return {name: np.ldexp(own, -2 * shift) for name, own in total.items()}


def _summand_bits(group: SymmetryGroup, tensor: BoundTensor) -> int:
    """Bound the number of weights that touch one unit, as a power of two."""
    touching = dict.fromkeys(tensor.permutations, 0)
    for block in tensor.blocks:
        for name in (atom.permutation for atom in block.atoms):
            if name is not None:
                touching[name] += _size(block) // max(1, math.prod(group.shape(name)))
    return (2 * max(touching.values())).bit_length()  # twice: complex weights have two parts


def _size(block: Block) -> int:
    return math.prod(block.shape)


def _marginals(
    slab: Slab, scale: float, finite: bool, wanted: set[tuple[int, ...]]
) -> dict[tuple[int, ...], Energy]:
    """Sum the squares of the scaled weights over all axes but the wanted ones, which are kept."""
    if finite and (fused := fused_marginals(slab.values, scale, wanted)) is not None:
        return fused
    rank, shape = slab.values.ndim, slab.values.shape
    sums = {axes: np.zeros([shape[n] if n in axes else 1 for n in range(rank)]) for axes in wanted}
    # Each sum starts from the smallest one before it that still has all its axes; the first one
    # is over the axes that nothing moves.
    joint = tuple(sorted(set().union(*wanted)))
    steps = dict.fromkeys([joint, *sorted(wanted, key=lambda axes: (-len(axes), axes))])
    most = min(slab.values.size, ELEMENTS)
    scratch: Energy = np.empty(most + (most + 1) // 2)  # squares, and float32 numbers behind them
    for piece in pieces(shape):
        squares = _squares(slab.values[piece], scale, finite, scratch)
        done: dict[frozenset[int], Energy] = {frozenset(range(rank)): squares}
        for axes in steps:
            source = min((d for d in done if d.issuperset(axes)), key=lambda d: done[d].size)
            over = tuple(source.difference(axes))
            part = done[source].sum(axis=over, keepdims=True) if over else done[source]
            done[frozenset(axes)] = part
            if axes in sums:
                sums[axes][tuple(p if n in axes else slice(None) for n, p in enumerate(piece))] += (
                    part
                )
    return sums


def _squares(weights: Array, scale: float, finite: bool, scratch: Energy) -> Energy:
    """Return whole numbers: the squares of the finite weights times the square of the scale."""
    if weights.dtype.kind == "c":
        real = _squares(weights.real, scale, finite, scratch).copy()
        return np.add(real, _squares(weights.imag, scale, finite, scratch), out=real)
    squares = scratch[: weights.size].reshape(weights.shape)
    if weights.dtype == ml_dtypes.bfloat16:
        # They are the upper halves of float32 numbers, made behind the squares.
        bits = scratch.view(np.uint32)[-weights.size :].reshape(weights.shape)
        np.copyto(bits, weights.view(np.uint16))
        bits <<= np.uint32(16)
        squares[...] = bits.view(np.float32)
    else:
        squares[...] = _numbers(weights)
    if not finite:
        squares[~np.isfinite(squares)] = 0
    squares *= scale
    squares *= squares
    return np.rint(squares, out=squares)


@dataclass(frozen=True)
class _Look:
    """The largest finite magnitude of a tensor (0 where there is none), and whether all are."""

    peak: float
    finite: bool


_INFINITY: dict[np.dtype[Any], int] = {
    np.dtype(ml_dtypes.bfloat16): 0x7F80,
    np.dtype(np.float16): 0x7C00,
    np.dtype(np.float32): 0x7F800000,
}
"""The bits of infinity."""


def _look(weights: Array) -> _Look:
    if weights.dtype.kind == "c":
        real, imaginary = _look(weights.real), _look(weights.imag)
        return _Look(max(real.peak, imaginary.peak), real.finite and imaginary.finite)
    flat, peak, finite = weights.reshape(-1), 0.0, True
    infinity = _INFINITY.get(weights.dtype)
    if infinity is not None:
        # Without their sign, the bits of finite numbers rise with their magnitudes.
        bits: NDArray[np.unsignedinteger[Any]] = bits_of(flat)
        mask = bits.dtype.type((1 << 8 * bits.itemsize - 1) - 1)
        top = max((int((bits[p] & mask).max(initial=0)) for p in pieces(flat.shape)), default=0)
        if top < infinity:
            return _Look(float(np.array([top], bits.dtype).view(weights.dtype)[0]), finite=True)
    for piece in pieces(flat.shape):
        magnitudes = np.abs(_numbers(flat[piece]))
        largest = float(magnitudes.max(initial=0))
        if not math.isfinite(largest):
            finite = False
            largest = float(magnitudes.max(initial=0, where=np.isfinite(magnitudes)))
        peak = max(peak, largest)
    return _Look(peak, finite)


def _numbers(weights: Array) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return weights of any floating type, without loss, as float32 or float64."""
    if weights.dtype == np.float64:
        return weights.astype(np.float64, copy=False)
    if weights.dtype == ml_dtypes.bfloat16:
        # A bfloat16 is the upper half of a float32; this is faster than the type's own cast.
        return (weights.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return weights.astype(np.float32, copy=False)
