"""How well each unit matched: the cosine between its weights in both models."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.rearrange import Read
from rebasin_hub.tensors import DTYPES

__all__ = ["match_cosines"]

Floats = NDArray[np.float64]


def match_cosines(binding: Binding, read_a: Read, read_b: Read) -> dict[str, Floats]:
    """Return for each unit the cosine between all weights that touch it in A and in B.

    Units of B are taken as `read_b` numbers them, so that a unit is compared with the one in its
    place. A unit's weights are those that `align` compares: floats that are no statistics.

    Args:
        binding: of both models, which have the same names and shapes.
        read_a: reads a tensor of A.
        read_b: reads a tensor of B.

    Returns for each permutation an array of the group's shape, float64, from -1 to 1; NaN where
    all weights of a unit are zero in one of the models. Sums are made in float64; one tensor of
    each model is in memory at a time.

    """
    group = binding.group
    products = {name: np.zeros((3, *group.shape(name))) for name in group.factors}
    for tensor in binding.tensors:
        if not tensor.statistic and tensor.permutations and _counts(binding, tensor):
            _add(tensor, read_a, read_b, products)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            name: np.clip(ab / np.sqrt(aa * bb), -1.0, 1.0)
            for name, (ab, aa, bb) in products.items()
        }


def _counts(binding: Binding, tensor: BoundTensor) -> bool:
    return DTYPES[binding.header[str(tensor.names.flat[0])].dtype].floating


def _add(tensor: BoundTensor, read_a: Read, read_b: Read, products: Mapping[str, Floats]) -> None:
    for where in np.ndindex(tensor.names.shape):
        name = str(tensor.names[where])
        for a, b in zip(_real(read_a(name)), _real(read_b(name)), strict=True):
            stored = [x.reshape((1,) * len(where) + x.shape) for x in (a, b)]
            for block in tensor.blocks:
                x, y = (block.of(array) for array in stored)
                for pair, operands in enumerate(((x, y), (x, x), (y, y))):
                    for atom, sums in _inner_products(block, *operands).items():
                        place = _place(where, block.lineage(atom))
                        products[str(block.atoms[atom].permutation)][pair][place] += sums


def _inner_products(
    block: Block, left: NDArray[np.floating], right: NDArray[np.floating]
) -> dict[int, Floats]:
    """Return for each atom that is renumbered the inner products of its units' weights."""
    all_axes = string.ascii_letters[: left.ndim]
    return {
        number: np.einsum(
            f"{all_axes},{all_axes}->{''.join(all_axes[axis] for axis in block.lineage(number))}",
            left,
            right,
            dtype=np.float64,
        )
        for number, atom in enumerate(block.atoms)
        if atom.permutation is not None
    }


def _place(where: tuple[int, ...], axes: tuple[int, ...]) -> tuple[slice, ...]:
    """Return where sums over some axes belong: of an axis of the name, one index is here."""
    return tuple(
        slice(where[axis], where[axis] + 1) if axis < len(where) else slice(None) for axis in axes
    )


def _real(array: NDArray[Any]) -> Sequence[NDArray[np.floating]]:
    """Return an array's values, or real and imaginary parts, in float32 or float64."""
    if array.dtype.kind == "c":
        return array.real, array.imag
    return (array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False),)
