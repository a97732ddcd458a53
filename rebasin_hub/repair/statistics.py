"""Running statistics of BatchNorm, measured anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from rebasin_hub.repair.layers import inspected
from rebasin_hub.repair.moments import Moments
from rebasin_hub.repair.sites import Norm
from rebasin_hub.repair.watch import watched
from rebasin_hub.tasks.network import Batch, TorchNetwork
from rebasin_hub.tasks.task import State

__all__ = ["recomputed"]


def recomputed(network: TorchNetwork, state: State, batches: Iterable[Batch]) -> State:
    """Return a state whose BatchNorms have the statistics of their inputs.

    Args:
        network: what runs the state.
        state: the weights; all but running means and variances stay as they are, and so do
            `num_batches_tracked`.
        batches: the samples; targets are not looked at.

    One pass, in which each norm normalizes with its batch's own statistics, as in training: this
    is the literature's reset (Izmailov et al., arXiv:1803.05407, section 3.2; Jordan et al.,
    arXiv:2211.08403, section 2). Means and variances are pooled exactly, so neither momentum nor
    the batches' order counts. A network without such norms gets its state back.

    Raises:
        InputError: there are no batches.

    """
    inner = network.inner(state)
    norms = inspected(network).norms

    def set_norm(norm: Norm, moments: Moments) -> Mapping[str, Tensor]:
        return norm.recomputed(inner, moments, unbiased=False)

    new = dict(state)
    if not norms:
        return new
    totals = watched(network, inner, norms, batches, set_norm=set_norm)
    for norm in norms:
        if norm.name in totals:
            for name, value in norm.recomputed(inner, totals[norm.name]).items():
                new[network.names[name]] = value
    return new
