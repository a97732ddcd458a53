"""Mean and variance of each channel, pooled exactly over any number of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Channels", "Moments", "interpolated", "moments_of", "pooled"]


@dataclass(frozen=True, eq=False)
class Channels:
    """Mean and standard deviation (divisor n) of each channel: (channels,) float64, on the CPU."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of the values of each channel: (channels,) float64, on the CPU.

    `count` values were seen of each channel; `squares` is the sum of their squared deviations
    from `mean`.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @property
    def variance(self) -> Tensor:
        """The variance of the values seen, with divisor n."""
        return self.squares / self.count

    @property
    def channels(self) -> Channels:
        """Mean and standard deviation."""
        return Channels(self.mean, self.variance.sqrt())


def moments_of(values: Tensor, axis: int, mask: Tensor | None = None) -> Moments | None:
    """Return the moments of each channel of a batch; None where there are no values.

    Args:
        values: any shape and float type, on any device.
        axis: the channels'.
        mask: booleans of the shape of the leading axes; positions that are False do not count.
            It is for channels on the last axis.

    Sums are made in float64.

    """
    wide = values.cpu().double() if values.device.type == "mps" else values.double()
    if mask is not None:
        wide = wide[mask]
    channels = wide.shape[axis]
    count = wide.numel() // max(1, channels)
    if count == 0:
        return None
    others = [number for number in range(wide.ndim) if number != axis % wide.ndim]
    variance, mean = torch.var_mean(wide, others, correction=0)
    mean, variance = torch.stack((mean, variance)).cpu()
    return Moments(count, mean, variance * count)


def pooled(a: Moments, b: Moments) -> Moments:
    """Return the moments of the values of both.

    The law: any split of the same values into parts, pooled in any order, gives the same moments
    up to rounding in float64. Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
    variance", equation 2.1.
    """
    count = a.count + b.count
    shift = b.mean - a.mean
    return Moments(
        count,
        a.mean + shift * (b.count / count),
        a.squares + b.squares + shift.square() * (a.count * b.count / count),
    )


def interpolated(ends: Sequence[Channels], weights: Sequence[float]) -> Channels:
    """Return the weighted sums of means and of standard deviations (not of variances).

    Beyond the ends, where a weight is negative, a deviation is zero at least.
    """
    pairs = list(zip(ends, weights, strict=True))
    mean = torch.stack([weight * end.mean for end, weight in pairs]).sum(0)
    std = torch.stack([weight * end.std for end, weight in pairs]).sum(0)
    return Channels(mean, std.clamp(min=0))
