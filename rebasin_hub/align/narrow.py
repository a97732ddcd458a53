"""Products of bfloat16 and float16 matrices as they are stored, on devices that lose nothing by it.

A product of two such numbers is a number of float32. Tensor cores multiply them so and sum in
float32: the result is as good as that of the widened matrices, many times as fast, from half of the
memory. Not every device and release does; here it is asked, and tried.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np

__all__ = ["NARROW", "is_exact", "product"]

Array: TypeAlias = Any
"""A torch tensor."""

NARROW = ("bfloat16", "float16")
"""Types whose products are numbers of float32."""

TRIED = 256, 4096
"""Rows and width of the matrices that a device is tried with."""


@cache
def is_exact(device: str) -> bool:
    """Tell whether a device multiplies narrow matrices to float32 without losing anything.

    Sums of whole numbers below 2²⁴ are exact in float32 in whatever order they are made: a device
    that sums in less, or rounds what it has summed, shows it.
    """
    if not device.startswith("cuda"):
        return False
    import torch

    rows, width = TRIED
    rng = np.random.default_rng(0)
    a, b = rng.integers(-64, 65, (2, rows, width)).astype(np.float32)
    expected = a.astype(np.float64) @ b.T.astype(np.float64)
    for name in NARROW:
        x, y = (torch.asarray(m, device=device).to(getattr(torch, name)) for m in (a, b))
        try:
            found = product(x, y)
        except (TypeError, RuntimeError, NotImplementedError):  # older releases, other devices
            return False
        if not np.array_equal(found.cpu().numpy(), expected):
            return False
    return True


def product(a: Array, b: Array) -> Array:
    """Return `a @ b.T` in float32, (n, m) from (n, k) and (m, k) of one narrow type."""
    import torch

    return torch.mm(a, b.T, out_dtype=torch.float32)
