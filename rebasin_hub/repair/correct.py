"""REPAIR: each channel gets the mean and the deviation that the ends have on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from rebasin_hub.errors import InputError
from rebasin_hub.repair.layers import inspected
from rebasin_hub.repair.moments import Channels, Moments, interpolated
from rebasin_hub.repair.sites import Affine, Fused, Inner, Norm, Site, Target
from rebasin_hub.repair.watch import watched
from rebasin_hub.tasks.network import Batch, TorchNetwork
from rebasin_hub.tasks.task import State

__all__ = ["Targets", "measure", "repaired"]

Weights: TypeAlias = Sequence[float] | Mapping[str, Sequence[float]]

TOLERANCE = 1e-4
"""A state whose channels are this close to their targets, in units of the targets' standard
deviation, is left alone."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What the channels of one end have, by the layer's name in the module.

    output: after each corrected layer; after a norm with its weight and bias.
    normalized: after each norm, before its weight and bias.
    """

    output: Mapping[str, Channels]
    normalized: Mapping[str, Channels]


def measure(network: TorchNetwork, state: State, batches: Iterable[Batch]) -> Targets:
    """Measure the channels of an end, in evaluation mode, once for all points of a line.

    Args:
        network: what runs the state.
        state: the weights of one end.
        batches: the samples; targets are not looked at. `repaired` should be given the same.

    Returns: means and deviations, (channels,) float64.

    Raises:
        InputError: there are no batches.

    """
    sites, inner = inspected(network).sites, network.inner(state)
    totals = watched(network, inner, sites, batches)
    found = {s.name: s.measured(inner, totals[s.name]) for s in sites if s.name in totals}
    normalized = {name: x.normalized for name, x in found.items() if x.normalized is not None}
    return Targets({name: x.output for name, x in found.items()}, normalized)


def repaired(
    network: TorchNetwork,
    state: State,
    targets: Sequence[Targets],
    weights: Weights,
    batches: Iterable[Batch],
) -> State:
    """Return a state whose channels have the interpolated statistics of the ends.

    Args:
        network: what runs the state.
        state: the interpolated weights.
        targets: what `measure` found of each end.
        weights: of each end; or those of every tensor, by the state's names, where they differ.
        batches: the samples; targets are not looked at.

    The laws: a state that meets the targets already, such as an end with weight one, comes back
    bit for bit; names, shapes and types stay; repairing commutes with renumbering, up to rounding.

    One pass tells whether there is anything to correct. In a second one each batch is corrected
    with its own statistics on the way, so that every layer sees inputs that are corrected; the
    correction that the pooled statistics ask for is then fused into the layers' own tensors. What
    is left of a deviation falls as one over the batch's size; with all samples in one batch it is
    rounding. Channels that are dead stay so.

    Jordan et al., arXiv:2211.08403, section 3.

    Raises:
        InputError: there are no batches, or targets that are not one for each weight or were
            measured on another network.

    """
    _check(targets, weights)
    sites = _reached(inspected(network).sites, targets)
    wanted = {site.name: _target(site, targets, _weights(network, site, weights)) for site in sites}
    inner, batches = network.inner(state), list(batches)
    totals = watched(network, inner, sites, batches)
    if _distance(sites, inner, totals, wanted) <= TOLERANCE:
        return dict(state)
    totals = _batchwise(network, inner, sites, wanted, batches)
    new = dict(state)
    for site in sites:
        if site.name in totals:
            fused = site.corrected(inner, totals[site.name], wanted[site.name])
            new.update({network.names[name]: value for name, value in fused.items()})
    return new


def _batchwise(
    network: TorchNetwork,
    inner: Inner,
    sites: Sequence[Site],
    wanted: Mapping[str, Target],
    batches: Iterable[Batch],
) -> dict[str, Moments]:
    """Measure with each batch corrected by its own statistics at every site."""

    def set_norm(site: Norm, moments: Moments) -> Mapping[str, Tensor]:
        return site.corrected(inner, moments, wanted[site.name])

    def solve_fused(site: Fused, moments: Moments) -> Affine:
        return site.affine(moments, wanted[site.name])

    return watched(network, inner, sites, batches, set_norm=set_norm, solve_fused=solve_fused)


def _check(targets: Sequence[Targets], weights: Weights) -> None:
    for each in weights.values() if isinstance(weights, Mapping) else [weights]:
        if not targets or len(targets) != len(each):
            raise InputError(
                f"{len(targets)} measured ends for {len(each)} weights; give one for each"
            )


def _weights(network: TorchNetwork, site: Site, weights: Weights) -> Sequence[float]:
    """Return the weights of the ends at a site: those of its weight, or of its statistics."""
    if not isinstance(weights, Mapping):
        return weights
    names = (f"{site.name}.{key}" for key in ("weight", "running_mean"))
    return weights[next(network.names[name] for name in names if name in network.names)]


def _reached(sites: Sequence[Site], targets: Sequence[Targets]) -> list[Site]:
    """Return the sites that values reached in every end."""
    known = {site.name for site in sites}
    for target in targets:
        if not target.output.keys() <= known:
            layer = sorted(target.output.keys() - known)[0]
            raise InputError(
                f"an end was measured after '{layer}', which is no corrected layer of this "
                "network; measure every end with the same network"
            )
    return [site for site in sites if all(site.name in target.output for target in targets)]


def _target(site: Site, targets: Sequence[Targets], weights: Sequence[float]) -> Target:
    output = interpolated([target.output[site.name] for target in targets], weights)
    if isinstance(site, Fused):
        return Target(output)
    return Target(
        output, interpolated([target.normalized[site.name] for target in targets], weights)
    )


def _distance(
    sites: Sequence[Site],
    inner: Inner,
    totals: Mapping[str, Moments],
    wanted: Mapping[str, Target],
) -> float:
    """Return how far the worst channel is from its target; NaN where one is not a number."""
    apart = [
        site.distance(inner, totals[site.name], wanted[site.name])
        for site in sites
        if site.name in totals
    ]
    return float(np.max(apart, initial=0.0))
