"""Choose a solver by size and structure, and prove what it found on the full matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.candidates import (
    solve_aligned,
    solve_candidates,
    solve_from_start,
    solve_permutation,
)
from rebasin_hub.assign.dense import Array, Dense, dense
from rebasin_hub.assign.merged import solve_merged
from rebasin_hub.assign.ordered import solve_ordered
from rebasin_hub.assign.problem import Problem, Solution, Solver
from rebasin_hub.assign.result import Assignment
from rebasin_hub.assign.small import SMALL, solve_small
from rebasin_hub.assign.whole import solve_whole
from rebasin_hub.errors import InputError, NotFiniteError

__all__ = ["SOLVERS", "solve_assignment"]

SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        "permutation": solve_permutation,
        "start": solve_from_start,
        "aligned": solve_aligned,
        "ordered": solve_ordered,
        "merged": solve_merged,
        "candidates": solve_candidates,
        "whole": solve_whole,
    }
)
"""The solvers of one large matrix in the order in which they are asked; the last never declines."""

BLOCK = 1 << 22
"""Entries of a temporary array."""


def solve_assignment(
    similarity: Array,
    *,
    start: NDArray[np.float64] | None = None,
    certify: bool = True,
    solver: str | None = None,
) -> Assignment:
    """Pair rows with columns so that the sum of the paired entries is as large as it can be.

    Args:
        similarity: shape (n, n) or (batch, n, n), any real dtype, of NumPy or of torch; entries
            are compared and summed in float64. Passes over a large torch tensor run on its device.
        start: column prices of a similar matrix, shape (n,), from which a matrix of 1,024 rows or
            more goes on: one that has not changed costs one pass.
        certify: whether small matrices that SciPy solves get prices, which takes as long again.
        solver: a key of `SOLVERS` instead of the choice by size and structure.

    The law: `value` is at least the trace of every column permutation of `similarity`, which the
    result's prices prove.

    Raises:
        InputError: the shape is not square, `start` does not fit, `solver` is unknown or declines.
        NotFiniteError: the matrix holds NaN or infinity.

    Source: Jonker and Volgenant, Computing 38, 1987 (shortest augmenting paths); Crouse, "On
    implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016 (SciPy's solver).
    Quantiles as prices, kept entries and a proof on the full matrix make it fast.

    """
    scores = _readable(similarity)
    shape = tuple(scores.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:  # noqa: PLR2004
        raise InputError(f"the similarity matrix has shape {shape}, expected (…, n, n)")
    size = shape[-1]
    if start is not None and (len(shape) != 2 or np.shape(start) != (size,)):  # noqa: PLR2004
        raise InputError(
            f"start has shape {np.shape(start)} for a matrix of shape {shape}, expected one price "
            "for each column of one matrix"
        )
    if solver is not None and solver not in SOLVERS:
        raise InputError(f"solver '{solver}' is none of {', '.join(SOLVERS)}; choose one")
    batch = scores.reshape((math.prod(shape[:-2]), size, size))
    if size < SMALL and solver is None:
        return _small(batch, shape, certify=certify)
    solved = [_large(batch[number], start, solver) for number in range(len(batch))]
    return Assignment(
        columns=np.stack([one.columns for one in solved]).reshape(shape[:-1]),
        value=np.array([one.value for one in solved]).reshape(shape[:-2]),
        row_prices=np.stack([one.row_prices for one in solved]).reshape(shape[:-1]),
        column_prices=np.stack([one.column_prices for one in solved]).reshape(shape[:-1]),
        gap=np.array([one.gap for one in solved]).reshape(shape[:-2]),
        solver="+".join(dict.fromkeys(one.solver for one in solved)),
    )


def _large(scores: Array, start: NDArray[np.float64] | None, solver: str | None) -> Assignment:
    """Ask the solvers of large matrices in turn, and prove what the first one finds."""
    passes = dense(scores)
    if not passes.finite():
        raise _not_finite(passes.float64())
    ones = np.ones(passes.shape[0], dtype=np.int64)
    first = None if start is None else np.asarray(start, dtype=np.float64)
    problem = Problem(passes, ones, ones, first)
    for name in SOLVERS if solver is None else (solver,):
        found = SOLVERS[name](problem)
        if found is not None:
            return _proved(passes, found, name)
    raise InputError(f"solver '{solver}' declines this matrix; leave the choice to the program")


def _proved(passes: Dense, found: Solution, solver: str) -> Assignment:
    """Add the row prices that the full matrix asks for, and what is left between the bounds."""
    paired = passes.entries(np.arange(len(found.columns)), found.columns)
    own = paired - found.prices[found.columns]
    row_prices = found.row_prices
    if row_prices is None:
        row_prices = passes.beyond(found.prices, own, np.inf, 1).maxima
    return Assignment(
        columns=found.columns,
        value=np.asarray(paired.sum()),
        row_prices=row_prices,
        column_prices=found.prices,
        gap=np.asarray((row_prices - own).sum()),
        solver=solver,
    )


def _small(batch: Array, shape: tuple[int, ...], *, certify: bool) -> Assignment:
    """Solve a batch of small matrices together."""
    scores = np.asarray(batch if isinstance(batch, np.ndarray) else batch.cpu(), dtype=np.float64)
    if not np.isfinite(scores).all():
        raise _not_finite(scores)
    columns, prices, solver = solve_small(scores, certify=certify)
    value = np.take_along_axis(scores, columns[..., None], axis=-1).sum(axis=(-2, -1))
    row_prices, gap = np.empty_like(prices), np.empty(len(prices))
    step = max(1, BLOCK // max(1, shape[-1] ** 2))
    for first in range(0, len(scores), step):
        part = slice(first, first + step)
        gain = scores[part] - prices[part, None, :]
        row_prices[part] = gain.max(axis=-1, initial=-np.inf)
        own = np.take_along_axis(gain, columns[part][..., None], axis=-1)[..., 0]
        gap[part] = (row_prices[part] - own).sum(axis=-1)
    return Assignment(
        columns=columns.reshape(shape[:-1]),
        value=value.reshape(shape[:-2]),
        row_prices=row_prices.reshape(shape[:-1]),
        column_prices=prices.reshape(shape[:-1]),
        gap=np.where(np.isnan(gap), np.inf, gap).reshape(shape[:-2]),
        solver=solver,
    )


def _readable(similarity: Array) -> Array:
    """Return the matrix as float32 or float64, whichever holds its numbers; torch stays torch."""
    kind = type(similarity).__module__.partition(".")[0]
    if kind != "torch":
        array = np.asarray(similarity)
        if array.dtype == np.float32 or array.dtype == np.float64:  # noqa: PLR1714
            return array
        narrow = array.dtype.itemsize <= 2  # noqa: PLR2004
        return array.astype(np.float32 if narrow else np.float64)
    import torch

    tensor = similarity.detach()
    if tensor.dtype not in {torch.float32, torch.float64}:
        tensor = tensor.to(torch.float32 if tensor.dtype.itemsize <= 2 else torch.float64)  # noqa: PLR2004
    # Metal has no float64, and what lies in memory is NumPy's without a copy.
    return tensor.cpu().numpy() if tensor.device.type in {"cpu", "mps"} else tensor


def _not_finite(scores: NDArray[Any]) -> NotFiniteError:
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    return NotFiniteError(
        f"the similarity matrix of shape {scores.shape} holds {bad} entries that are NaN or "
        "infinite, expected finite numbers; check the weights that it was computed from"
    )
