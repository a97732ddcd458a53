"""Linear assignment: pair the rows of a matrix with its columns so that the sum is largest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Index

__all__ = ["Assignment", "solve_assignment"]


@dataclass(frozen=True, eq=False)
class Assignment:
    """An optimal pairing: row `i` goes with column `columns[..., i]`.

    `columns` has shape (n,) or (batch, n), and each last axis is a permutation of `range(n)`;
    `value` has shape () or (batch,) and holds the sum of the paired entries.
    """

    columns: Index
    value: NDArray[np.float64]


def solve_assignment(similarity: NDArray[Any]) -> Assignment:
    """Pair rows with columns so that the sum of the paired entries is as large as it can be.

    Args:
        similarity: shape (n, n) or (batch, n, n), any real dtype; compared and summed in float64.

    The law: `value` is at least the trace of every column permutation of `similarity`.

    Raises:
        NotFiniteError: the matrix holds NaN or infinity.

    Source: Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016
    (a Jonker-Volgenant solver, in SciPy); rows whose largest entries lie in distinct columns are
    optimal as they stand and need no solver.

    """
    scores = np.asarray(similarity, dtype=np.float64)
    if not np.isfinite(scores).all():
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        raise NotFiniteError(
            f"the similarity matrix of shape {scores.shape} holds {bad} entries that are NaN or "
            "infinite, expected finite numbers; check the weights that it was computed from"
        )
    size = scores.shape[-1]
    batch = scores.reshape(math.prod(scores.shape[:-2]), size, size)
    columns = batch.argmax(axis=-1) if size else np.zeros(batch.shape[:-1], dtype=np.int64)
    distinct = (np.sort(columns, axis=-1) == np.arange(size)).all(axis=-1)
    for number in np.flatnonzero(~distinct):
        columns[number] = _solve(batch[number])
    value = np.take_along_axis(batch, columns[..., None], axis=-1).sum(axis=(-2, -1))
    return Assignment(columns.reshape(scores.shape[:-1]), value.reshape(scores.shape[:-2]))


def _solve(scores: NDArray[np.float64]) -> Index:
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(scores, maximize=True)[1], dtype=np.int64)
