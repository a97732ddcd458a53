"""Joint moments of what two models compute, pooled exactly over any number of batches."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["JointMoments"]

PIECE = 1 << 24
"""Numbers that are widened to float64 at a time."""


class JointMoments:
    """Means and covariances of the features of two models over the same observations.

    Args:
        within: whether the covariances inside each model are kept, too.

    The law: any split of the same observations into parts, added in any order, gives the same
    moments up to rounding in float64. Chan, Golub & LeVeque 1983, "Algorithms for computing the
    sample variance", equation 2.1, for pairs of variables.

    `mean_a`, `mean_b`: (n,). `cross`: (n, n) sums of products of deviations, A's features as rows.
    `squares_a`, `squares_b`: the same inside each model: (n, n) with `within`, (n,) without.
    All are float64, on the device of the observations (the CPU for those of MPS).
    """

    def __init__(self, *, within: bool) -> None:
        self.within = within
        self.count = 0
        self.mean_a = self.mean_b = self.cross = torch.zeros(())
        self.squares_a = self.squares_b = torch.zeros(())

    def add(self, a: Tensor, b: Tensor) -> None:
        """Add observations: (observations, n) of both models, in the same order."""
        rows = max(1, PIECE // max(1, a.shape[1]))
        for part_a, part_b in zip(torch.split(a, rows), torch.split(b, rows), strict=True):
            if len(part_a):
                self._add(_wide(part_a), _wide(part_b))

    def _add(self, a: Tensor, b: Tensor) -> None:
        mean_a, mean_b = a.mean(0), b.mean(0)
        a, b = a - mean_a, b - mean_b
        cross, squares_a, squares_b = a.T @ b, self._squares(a), self._squares(b)
        if self.count == 0:
            self.count = len(a)
            self.mean_a, self.mean_b = mean_a, mean_b
            self.cross, self.squares_a, self.squares_b = cross, squares_a, squares_b
            return
        count = self.count + len(a)
        moved_a, moved_b = mean_a - self.mean_a, mean_b - self.mean_b
        share = self.count * len(a) / count
        self.cross += cross.addr_(moved_a, moved_b, alpha=share)
        self.squares_a += self._shifted(squares_a, moved_a, share)
        self.squares_b += self._shifted(squares_b, moved_b, share)
        self.mean_a = self.mean_a + moved_a * (len(a) / count)
        self.mean_b = self.mean_b + moved_b * (len(a) / count)
        self.count = count

    def _squares(self, deviations: Tensor) -> Tensor:
        return deviations.T @ deviations if self.within else deviations.square().sum(0)

    def _shifted(self, squares: Tensor, moved: Tensor, share: float) -> Tensor:
        return squares + share * (torch.outer(moved, moved) if self.within else moved.square())


def _wide(values: Tensor) -> Tensor:
    return values.cpu().double() if values.device.type == "mps" else values.double()
