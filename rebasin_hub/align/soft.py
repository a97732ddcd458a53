"""Soft renumberings: doubly stochastic matrices in the place of permutations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.align.backend import Array
from rebasin_hub.align.moved import cut
from rebasin_hub.align.state import State
from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SoftMover", "similarity", "sinkhorn", "softened"]

RIDGE = 1e-10
"""Added to a system that is singular where a matrix falls apart into parts that share nothing."""


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Scale exp(scores) to doubly stochastic matrices, by turns of rows and columns.

    Args:
        scores: (…, n, n) float; larger ones for what belongs together.
        iterations: over rows and columns; about 20 are enough for soft matrices.

    Returns matrices of the same shape whose columns sum to one, and rows in the limit. The gradient
    is that of the limit, by implicit differentiation: its cost does not depend on the iterations.

    Source: Peña et al., "Re-basin via implicit Sinkhorn differentiation" (arXiv:2212.12042),
    section 3; the elimination of the columns' multipliers is ours.

    """
    import torch

    with torch.no_grad():
        logs = scores.detach()
        for _ in range(iterations):
            logs = logs - logs.logsumexp(-1, keepdim=True)
            logs = logs - logs.logsumexp(-2, keepdim=True)
        multipliers = logs - scores
    passed = scores.view_as(scores)
    matrices = (passed + multipliers).exp()
    if passed.requires_grad:
        fixed = matrices.detach()
        passed.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: _with_multipliers(fixed, gradient)
        )
    return matrices


def _with_multipliers(matrices: Tensor, gradient: Tensor) -> Tensor:
    """Correct a gradient at fixed multipliers for those that follow the scores.

    With P = exp(scores + f + g), sums of rows r and of columns c must not change. That ties the
    changes of f and g to that of the scores: diag(r)·df + P·dg = −(P∘d scores)·1, and likewise for
    the columns. The adjoint system is the same one, for the gradient W at fixed f and g.
    """
    import torch

    # Near a permutation the system is nearly singular; Metal has no float64.
    device = torch.device("cpu") if matrices.device.type == "mps" else matrices.device
    p, w = (x.to(device).double() for x in (matrices, gradient))
    rows, columns = p.sum(-1).clamp_min(torch.finfo(torch.float64).tiny), p.sum(-2)
    scaled = p / rows.unsqueeze(-1)
    right = w.sum(-2) - (scaled.mT @ w.sum(-1).unsqueeze(-1)).squeeze(-1)
    # A constant may be moved from f to g: asking for a mean of zero makes the solution unique.
    system = torch.diag_embed(columns + RIDGE) - p.mT @ scaled + 1 / p.shape[-1]
    v = torch.linalg.solve(system, right)
    u = (w.sum(-1) - (p @ v.unsqueeze(-1)).squeeze(-1)) / rows
    result: Tensor = w - p * (u.unsqueeze(-1) + v.unsqueeze(-2))
    return result.to(gradient.dtype).to(gradient.device)


def softened(block: Block, array: Tensor, matrices: Mapping[str, Tensor]) -> Tensor:
    """Apply matrices along the atoms of a block: `new[i, …] = Σⱼ matrix[i, j] · old[j, …]`.

    Args:
        block: whose atoms the axes of the array are.
        array: of the block's shape, on the matrices' device, of their type.
        matrices: (n, n), for permutations that depend on no other; those without one stay.

    The law: with the matrices of an element, it is `renumbered` by that element.

    """
    import torch

    for number, atom in enumerate(block.atoms):
        matrix = matrices.get(atom.permutation or "")
        if matrix is not None:
            moved = torch.tensordot(matrix.to(array.dtype), array, dims=([1], [number]))
            array = moved.movedim(0, number)
    return array


def similarity(state: State, scale: float) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Return the objective of weight matching under matrices, divided by `scale`.

    Matrices are relative to the element at which the state stands.
    """
    import torch

    blocks = [term.block for term in state.problem.terms]
    pairs = [
        tuple(torch.as_tensor(_writable(x)) for x in (term.a, b))
        for term, b in zip(state.problem.terms, state.b, strict=True)
    ]

    def value(matrices: Mapping[str, Tensor]) -> Tensor:
        inner = [
            (a * softened(block, b, matrices)).sum()
            for block, (a, b) in zip(blocks, pairs, strict=True)
        ]
        return torch.stack([x.to(inner[0].dtype) for x in inner]).sum() / scale

    return value


def _writable(array: Array) -> Array:
    """Return an array that torch takes without a warning."""
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        return array.copy()
    return array


class SoftMover:
    """Applies matrices to a model's tensors wherever their permutations stand.

    Args:
        binding: of the checkpoint.
        tensors: the model, all on one device; of tensors that a permutation spreads over names
            there are all or none.
        names: permutations that get matrices; no other depends on them, nor they on any.

    """

    def __init__(
        self, binding: Binding, tensors: Mapping[str, Tensor], names: Sequence[str]
    ) -> None:
        wanted = set(names)
        self._tensors = tensors
        self._soft = [
            (tensor, [cut(block, _stacked(tensor, tensors)) for block in tensor.blocks])
            for tensor in binding.tensors
            if wanted & set(tensor.permutations)
            and all(str(name) in tensors for name in tensor.names.flat)
            and _inexact(tensors[str(tensor.names.flat[0])])
        ]

    def __call__(self, matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the model under matrices, differentiable in them; integers stay."""
        result = dict(self._tensors)
        for tensor, blocks in self._soft:
            pairs = zip(tensor.blocks, blocks, strict=True)
            whole = _pasted(tensor, [softened(block, x, matrices) for block, x in pairs])
            for where in np.ndindex(tensor.names.shape):
                result[str(tensor.names[where])] = whole[where] if where else whole
        return result


def _inexact(array: Tensor) -> bool:
    return array.is_floating_point() or array.is_complex()


def _stacked(tensor: BoundTensor, tensors: Mapping[str, Tensor]) -> Tensor:
    import torch

    if not tensor.name_atoms:
        return tensors[str(tensor.names[()])]
    whole = torch.stack([tensors[str(name)] for name in tensor.names.flat])
    return whole.reshape(*tensor.names.shape, *whole.shape[1:])


def _pasted(tensor: BoundTensor, blocks: Sequence[Tensor]) -> Tensor:
    """Put the blocks of a tensor together again, one leading axis for each atom of its name."""
    import torch

    lead = len(tensor.name_atoms)
    parts = [
        x.reshape(*x.shape[:lead], *(segment.positions.size for segment in block.segments))
        for block, x in zip(tensor.blocks, blocks, strict=True)
    ]
    # The last axis' segments change fastest from block to block.
    for axis in reversed(range(len(tensor.axes))):
        segments = tensor.axes[axis].segments
        rows = _rows(parts, len(segments))
        order = np.concatenate([segment.positions.reshape(-1) for segment in segments])
        back = torch.from_numpy(np.argsort(order)).to(parts[0].device)
        straight = np.array_equal(order, np.arange(len(order)))
        parts = []
        for row in rows:
            joined = torch.cat(row, lead + axis) if len(row) > 1 else row[0]
            parts.append(joined if straight else joined.index_select(lead + axis, back))
    return parts[0]


def _rows(parts: list[Tensor], width: int) -> list[list[Tensor]]:
    return [parts[first : first + width] for first in range(0, len(parts), width)]
