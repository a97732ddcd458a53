"""The two kinds of places where channels are corrected, and how: in the layer's own tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from rebasin_hub.repair.moments import Channels, Moments

__all__ = ["Affine", "Fused", "Inner", "Norm", "Site", "Target"]

Inner: TypeAlias = Mapping[str, Tensor]
"""Weights by the module's own names."""

FLOOR = 1e-4
"""A channel whose deviation is below this share of its layer's is dead: what is left is rounding,
which must not be blown up."""
SMALL = 1e-2
"""Deviations from a target are in units of its standard deviation, or of this share of the
layer's where that is larger."""


@dataclass(frozen=True, eq=False)
class Target:
    """What a layer's channels should have.

    output: after the layer.
    normalized: after a norm, before its weight and bias; None for other layers.
    """

    output: Channels
    normalized: Channels | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """x → (x − center) · scale + offset, for each channel: (channels,) float64.

    The center is subtracted first, as in float32 small deviations drown in a large mean.
    """

    center: Tensor
    scale: Tensor
    offset: Tensor

    def __call__(self, values: Tensor, axis: int) -> Tensor:
        """Return the values with each channel, on `axis`, corrected."""
        shape = [1] * values.ndim
        shape[axis] = -1
        center, scale, offset = (
            x.to(values.device, values.dtype).view(shape)
            for x in (self.center, self.scale, self.offset)
        )
        return (values - center) * scale + offset


@dataclass(frozen=True)
class Fused:
    """A convolution or linear layer, corrected in its weight's rows and its bias.

    axis: the channels', in the output.
    weight_axis: the output channels', in the weight.
    groups: of a transposed convolution, in whose weight each group's output channels stand side
        by side with the others', while its input channels follow one another.
    bias: whether there is one; without it only deviations can be corrected.
    """

    name: str
    axis: int
    weight_axis: int = 0
    groups: int = 1
    bias: bool = True

    def measured(self, inner: Inner, moments: Moments) -> Target:  # noqa: ARG002 - as of a norm
        """Return what the layer's channels have, from the moments of its output."""
        return Target(moments.channels)

    def affine(self, moments: Moments, target: Target) -> Affine:
        """Return the map that gives the output the target's statistics."""
        now, wanted = moments.channels, target.output
        scale = torch.where(_alive(now.std), wanted.std / now.std, 1.0)
        if self.bias:
            return Affine(now.mean, scale, wanted.mean)
        return Affine(torch.zeros_like(scale), scale, torch.zeros_like(scale))

    def corrected(self, inner: Inner, moments: Moments, target: Target) -> dict[str, Tensor]:
        """Return the layer's tensors with the correction in them: y = W·x + b stays its form."""
        affine = self.affine(moments, target)
        weight = inner[f"{self.name}.weight"]
        fused = {f"{self.name}.weight": self._scaled(weight, affine.scale)}
        if self.bias:
            bias = inner[f"{self.name}.bias"]
            fused[f"{self.name}.bias"] = affine(bias.cpu().double(), 0).to(bias)
        return fused

    def _scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        by_group = weight.reshape(self.groups, -1, *weight.shape[1:])
        shape = [1] * by_group.ndim
        shape[0], shape[self.weight_axis + 1] = self.groups, -1
        return (by_group * scale.to(weight).view(shape)).reshape(weight.shape)

    def distance(self, inner: Inner, moments: Moments, target: Target) -> float:
        """Return how far the channels are from the target, in its deviations; the largest."""
        alive = _alive(moments.channels.std)
        return _distance(self.measured(inner, moments), target, alive, mean=self.bias)


@dataclass(frozen=True)
class Norm:
    """A BatchNorm, whose input is measured; corrected in its running statistics and parameters.

    affine: whether it has a weight of its own.
    bias: whether it has a bias of its own.
    """

    name: str
    eps: float
    affine: bool = True
    bias: bool = True

    @property
    def tensors(self) -> list[str]:
        """The names of what may be set."""
        keys = ["running_mean", "running_var"] + ["weight"] * self.affine + ["bias"] * self.bias
        return [f"{self.name}.{key}" for key in keys]

    def measured(self, inner: Inner, moments: Moments) -> Target:
        """Return what the norm's channels have in evaluation, from the moments of its input."""
        mean, variance, weight, bias = self._tensors(inner)
        root = (variance + self.eps).sqrt()
        normalized = Channels((moments.mean - mean) / root, moments.channels.std / root)
        output = Channels(normalized.mean * weight + bias, normalized.std * weight.abs())
        return Target(output, normalized)

    def corrected(self, inner: Inner, moments: Moments, target: Target) -> dict[str, Tensor]:
        """Return the norm's tensors that give its output the target's statistics.

        The running statistics bring the normalized values where the ends have them: close to mean
        zero and deviation one, so that training can go on. Weight and bias do the rest.
        """
        _, variance, weight, _ = self._tensors(inner)
        std, normalized, wanted = moments.channels.std, target.normalized, target.output
        assert normalized is not None  # `measured` gave it
        alive = _alive(std)
        asked = ((std / normalized.std).square() - self.eps).clamp(min=0)
        variance = torch.where(alive & (normalized.std > 0), asked, variance)
        root = (variance + self.eps).sqrt()
        values = {
            "running_mean": moments.mean - normalized.mean * root,
            "running_var": variance,
        }
        if self.affine:
            weight = torch.where(alive, weight.sign() * wanted.std * root / std, weight)
            values["weight"] = weight
        if self.bias:
            values["bias"] = wanted.mean - weight * normalized.mean
        return self._stored(inner, values)

    def recomputed(
        self, inner: Inner, moments: Moments, *, unbiased: bool = True
    ) -> dict[str, Tensor]:
        """Return the running statistics that training would have come to.

        The variance has divisor n − 1, as torch stores it, or n, as training normalizes with it.
        """
        divisor = max(1, moments.count - unbiased)
        values = {"running_mean": moments.mean, "running_var": moments.squares / divisor}
        return self._stored(inner, values)

    def distance(self, inner: Inner, moments: Moments, target: Target) -> float:
        """Return how far the channels are from the target, in its deviations; the largest."""
        alive = _alive(moments.channels.std) & (self._tensors(inner)[2] != 0)
        mean = self.bias or not self.affine
        return _distance(self.measured(inner, moments), target, alive, mean=mean)

    def _tensors(self, inner: Inner) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return running mean and variance, weight and bias in float64, on the CPU."""
        mean, variance = (
            inner[f"{self.name}.{key}"].cpu().double() for key in ("running_mean", "running_var")
        )
        weight = inner[f"{self.name}.weight"].cpu().double() if self.affine else mean * 0 + 1
        bias = inner[f"{self.name}.bias"].cpu().double() if self.bias else mean * 0
        return mean, variance, weight, bias

    def _stored(self, inner: Inner, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = {f"{self.name}.{key}": value for key, value in values.items()}
        return {name: value.to(inner[name]) for name, value in names.items()}


Site: TypeAlias = Fused | Norm


def _typical(std: Tensor) -> Tensor:
    """Return the root mean square of a layer's deviations."""
    return std.square().mean().sqrt()


def _alive(std: Tensor) -> Tensor:
    return std > FLOOR * _typical(std)


def _distance(now: Target, target: Target, alive: Tensor, *, mean: bool) -> float:
    wanted = target.output
    unit = torch.maximum(wanted.std, SMALL * _typical(wanted.std))
    apart = torch.where(alive, now.output.std - wanted.std, 0.0).abs()
    if mean:
        apart = torch.maximum(apart, (now.output.mean - wanted.mean).abs())
    # Where nothing varies there is no unit, and nothing to correct but the mean.
    return float((apart / unit.where(unit > 0, 1.0)).max())
