"""Means of models, and how far models are from theirs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.tensors import DTYPES

__all__ = ["cosines_to_others", "mean_of", "spread"]


def spread(binding: Binding, reads: Sequence[Read]) -> float:
    """Return how far models are from their mean: the root of the mean squared Frobenius distance.

    Floats that are no running statistics count, as in `align`; sums are made in float64.
    """
    squares = []
    for name in _counting(binding):
        arrays = [read(name) for read in reads]
        mean = _mean(arrays)
        squares += [_squared_distance(array, mean) for array in arrays]
    return math.sqrt(math.fsum(squares) / len(reads))


def cosines_to_others(binding: Binding, reads: Sequence[Read]) -> tuple[float, ...]:
    """Return for each model the cosine between it and the mean of the others.

    Floats that are no running statistics count, as in `align`; sums are made in float64. 1 where a
    norm is zero. A tensor of each model is in memory at a time.
    """
    gram = np.zeros((len(reads), len(reads)))
    for name in _counting(binding):
        arrays = [_wide_flat(read(name)) for read in reads]
        for p, q in itertools.combinations_with_replacement(range(len(reads)), 2):
            gram[p, q] += float(np.vdot(arrays[p], arrays[q]).real)
    gram = gram + np.triu(gram, 1).T
    return tuple(_cosine_to_others(gram, number) for number in range(len(reads)))


def _cosine_to_others(gram: NDArray[np.float64], number: int) -> float:
    rest = np.arange(len(gram)) != number
    squares = gram[number, number] * gram[np.ix_(rest, rest)].sum()
    return float(gram[number, rest].sum() / math.sqrt(squares)) if squares > 0 else 1.0


def _wide_flat(array: Array) -> NDArray[Any]:
    return array.reshape(-1).astype(np.result_type(_wide(array.dtype), np.float64))


def mean_of(reads: Sequence[Read]) -> Read:
    """Return a reader of the mean of models."""
    return lambda name: _mean([read(name) for read in reads])


def _counting(binding: Binding) -> Iterator[str]:
    for tensor in binding.tensors:
        for name in tensor.names.flat:
            if not tensor.statistic and DTYPES[binding.header[str(name)].dtype].floating:
                yield str(name)


def _squared_distance(array: Array, mean: NDArray[Any]) -> float:
    off = (array.astype(mean.dtype) - mean).reshape(-1)
    return float(np.einsum("i,i->", off, off.conj(), dtype=np.result_type(off, np.float64)).real)


def _mean(arrays: Sequence[Array]) -> NDArray[Any]:
    """Return the mean of arrays of one shape, in float32 or wider; a single array is itself.

    As a sum over differences, so that equal arrays give themselves back.
    """
    first = arrays[0]
    if len(arrays) == 1 or first.dtype.kind in "biu":
        return first
    kind = np.result_type(*(_wide(array.dtype) for array in arrays))
    base = first.astype(kind)
    shift = sum((array.astype(kind) - base for array in arrays[1:]), np.zeros_like(base))
    mean: NDArray[Any] = base + shift / len(arrays)
    return mean


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    known = dtype in {np.dtype(np.float64), np.dtype(np.complex64), np.dtype(np.complex128)}
    return dtype if known else np.dtype(np.float32)
