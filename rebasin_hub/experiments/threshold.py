"""A network with one output, which says that a point is in the class where it is above 0.

A user's task of its own: `threshold.py:Threshold` on an .npz file of points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rebasin_hub.zoo import MLP

__all__ = ["Threshold"]


class Threshold(MLP):
    """Two inputs, two hidden layers of two units, one output."""

    def __init__(self) -> None:
        super().__init__([2, 2, 2, 1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: 0 for points that are not in the class, the output for those that are.

        Shapes: (points, 2) → (points, 2).
        """
        output = super().forward(x)
        return torch.cat([torch.zeros_like(output), output], 1)
