"""Choose a solver by size and structure, and prove what it found on the full matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.candidates import (
    solve_aligned,
    solve_candidates,
    solve_from_start,
    solve_permutation,
)
from rebasin_hub.assign.dense import Array, Dense
from rebasin_hub.assign.merged import solve_merged
from rebasin_hub.assign.ordered import solve_ordered
from rebasin_hub.assign.passes import dense
from rebasin_hub.assign.problem import Problem, Solution, Solver
from rebasin_hub.assign.result import Assignment, Proof
from rebasin_hub.assign.small import (
    SMALL,
    is_finite,
    solve_paths,
    solve_scipy,
    solve_tiny,
    summed,
    worth_loading,
)
from rebasin_hub.assign.whole import solve_whole
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.permute import Index

__all__ = ["SOLVERS", "solve_assignment"]

SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        "permutation": solve_permutation,
        "start": solve_from_start,
        "merged": solve_merged,
        "aligned": solve_aligned,
        "ordered": solve_ordered,
        "candidates": solve_candidates,
        "whole": solve_whole,
    }
)
"""The solvers of one large matrix in the order in which they are asked; the last never declines."""

Floats: TypeAlias = NDArray[np.float64]


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
        certify: whether a matrix that SciPy solves is kept, so that it can be proven when one
            asks for prices, which takes as long again.
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
    if type(similarity) is np.ndarray and start is None and solver is None:
        tiny = solve_tiny(similarity, certify=certify)
        if tiny is not None:
            return tiny
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
    if size < SMALL and solver is None:
        array = scores if isinstance(scores, np.ndarray) else scores.cpu().numpy()
        return solve_tiny(array, certify=certify) or _small(array, certify=certify)
    batch = scores.reshape((math.prod(shape[:-2]), size, size))
    solved = [_large(batch[number], start, solver, certify=certify) for number in range(len(batch))]
    if len(shape) == 2:  # noqa: PLR2004
        return solved[0]
    proof = Proof(
        np.stack([one.row_prices for one in solved]).reshape(shape[:-1]),
        np.stack([one.column_prices for one in solved]).reshape(shape[:-1]),
        np.array([one.gap for one in solved]).reshape(shape[:-2]),
    )
    return Assignment(
        columns=np.stack([one.columns for one in solved]).reshape(shape[:-1]),
        value=np.array([one.value for one in solved]).reshape(shape[:-2]),
        solver="+".join(dict.fromkeys(one.solver for one in solved)),
        evidence=proof,
    )


def _large(
    scores: Array, start: NDArray[np.float64] | None, solver: str | None, *, certify: bool
) -> Assignment:
    """Ask the solvers of large matrices in turn, and prove what the first one finds."""
    passes = dense(scores)
    ones = np.ones(passes.shape[0], dtype=np.int64)
    first = None if start is None else np.asarray(start, dtype=np.float64)
    problem = Problem(passes, ones, ones, first)
    if not problem.finite:
        raise _not_finite(passes.float64())
    for name in SOLVERS if solver is None else (solver,):
        found = SOLVERS[name](problem)
        if found is not None:
            return _proved(passes, found, name, certify=certify)
    raise InputError(f"solver '{solver}' declines this matrix; leave the choice to the program")


def _proved(passes: Dense, found: Solution, solver: str, *, certify: bool) -> Assignment:
    """Add the row prices that the full matrix asks for, and what is left between the bounds."""
    paired = passes.entries(np.arange(len(found.columns)), found.columns)
    value = np.asarray(paired.sum())
    if found.prices is None:
        return Assignment(found.columns, value, solver, passes.copied() if certify else None)
    own = paired - found.prices[found.columns]
    row_prices = found.row_prices
    if row_prices is None:
        rows = np.arange(len(own))
        row_prices = passes.beyond(rows, found.prices, own, np.inf, 1).maxima
    proof = Proof(row_prices, found.prices, np.asarray((row_prices - own).sum()))
    return Assignment(found.columns, value, solver, proof)


def _small(scores: NDArray[Any], *, certify: bool) -> Assignment:
    """Solve a small matrix or a batch of them; what SciPy solves is proven when one asks."""
    shape, size = scores.shape, scores.shape[-1]
    count = math.prod(shape[:-2])
    if not is_finite(scores):
        raise _not_finite(scores)
    batch = scores.reshape(count, size, size)
    if worth_loading(count, size):
        return _by_paths(batch, shape[:-2])
    columns = solve_scipy(batch)
    value = summed(_paired(batch, columns)).reshape(shape[:-2])
    kept = scores.copy() if certify else None  # what is proven later is the matrix as it is now
    return Assignment(columns.reshape(shape[:-1]), value, "scipy", kept)


def _by_paths(batch: NDArray[Any], shape: tuple[int, ...]) -> Assignment:
    """Solve a batch with proofs, by compiled code."""
    columns, prices, row_prices, solver = solve_paths(batch)
    entries = _paired(batch, columns)
    gap = (row_prices - (entries - np.take_along_axis(prices, columns, -1))).sum(-1)
    value, each = summed(entries).reshape(shape), (*shape, batch.shape[-1])
    proof = Proof(row_prices.reshape(each), prices.reshape(each), gap.reshape(shape))
    return Assignment(columns.reshape(each), value, solver, proof)


def _paired(batch: NDArray[Any], columns: Index) -> NDArray[np.float64]:
    """Return the entries of a batch that are paired, (batch, n)."""
    return np.take_along_axis(batch, columns[..., None], -1)[..., 0].astype(np.float64)


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
