"""Scores of soft permutations: what gradient descent on permutations changes.

This module can be imported without torch; what it does needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rebasin_hub.assign import solve_assignment
from rebasin_hub.permute import Element, Index, SymmetryGroup

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["SoftScores"]


class SoftScores:
    """Scores of soft permutations; those of one size are scaled together.

    Args:
        group: of all permutations.
        names: those that are soft; of one unit there is nothing to find.
        share: of each unit that begins at its own place; below one over their number, soft
            permutations begin as the mean of all permutations.
        temperature: that scores are divided by.
        iterations: of Sinkhorn's scaling.
        device: of the scores.

    `scores` are tensors (permutations, n, n) float32 to be optimized, one for each size n.

    """

    def __init__(
        self,
        group: SymmetryGroup,
        names: Sequence[str],
        *,
        share: float,
        temperature: float,
        iterations: int,
        device: torch.device | str,
    ) -> None:
        import torch

        self._group = group
        self._temperature = temperature
        self._iterations = iterations
        self._names: dict[int, list[str]] = {}
        for name in names:
            if group.factors[name].size > 1:
                self._names.setdefault(group.factors[name].size, []).append(name)
        self.scores = []
        for size, own in self._names.items():
            eye = torch.eye(size, device=device)
            scores = (temperature * _lead(share, size) * eye).repeat(len(own), 1, 1)
            self.scores.append(scores.requires_grad_())

    def matrices(self) -> dict[str, Tensor]:
        """Return the doubly stochastic matrix of each permutation."""
        from rebasin_hub.align.soft import sinkhorn

        matrices: dict[str, Tensor] = {}
        for own, scores in zip(self._names.values(), self.scores, strict=True):
            stack = sinkhorn(scores / self._temperature, self._iterations)
            matrices |= dict(zip(own, stack, strict=True))
        return matrices

    def element(self, begin: Element) -> dict[str, Index]:
        """Return the nearest hard permutations, made relative to an element."""
        import torch

        step = self._group.identity()
        with torch.no_grad():
            for name, matrix in self.matrices().items():
                step[name] = solve_assignment(matrix.cpu().numpy()).columns
        return self._group.compose(step, begin)


def _lead(share: float, size: int) -> float:
    """Return by how much one score must exceed size − 1 others to have a share of the sum."""
    least = 1 / size
    return math.log(share * (size - 1) / (1 - share)) if share > least else 0.0
