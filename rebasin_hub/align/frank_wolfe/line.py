"""An objective along a segment, as the polynomial that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

__all__ = ["Line"]

NOTHING = 1e-14
"""Share of the largest coefficient up to which one of a higher power is taken for zero."""
REAL = 1e-9
"""Imaginary part up to which a root of the derivative is taken for real."""


@dataclass(frozen=True, eq=False)
class Line:
    """A polynomial p on [0, 1]."""

    polynomial: Polynomial

    @classmethod
    def of(cls, mixtures: Sequence[Sequence[float]], constant: float = 0.0) -> Line:
        """Sum products of factors that each go from one end of the segment to the other.

        Args:
            mixtures: for each product of k factors the k + 1 sums over all ways of taking d factors
                from the far end and the others from the near one, d = 0 … k. It is worth
                Σ mixtures[d] t^d (1 − t)^(k − d).
            constant: what does not change.

        """
        total = Polynomial([constant])
        for sums in mixtures:
            near = Polynomial([1.0])
            for power, value in enumerate(reversed(sums)):
                lift = Polynomial(np.eye(len(sums))[len(sums) - 1 - power])
                total = total + value * lift * near
                near = near * Polynomial([1.0, -1.0])
        return cls(total)

    def __call__(self, share: float) -> float:
        """Return the value at a share of the way."""
        return float(self.polynomial(share))

    def best(self) -> float:
        """Return the share in [0, 1] of the largest value, the least one of equals.

        Ends and roots of the derivative are compared: no grid.
        """
        slope = self.polynomial.deriv()
        # A leading coefficient of rounding's size would make the other roots wrong.
        slope = slope.trim(NOTHING * float(np.abs(slope.coef).max()))
        roots = np.asarray(slope.roots(), dtype=complex)
        inside = [
            float(root.real) for root in roots if abs(root.imag) <= REAL and 0 < root.real < 1
        ]
        return max((0.0, 1.0, *sorted(inside)), key=lambda share: (self(share), -share))
