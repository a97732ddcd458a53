"""Forward passes that measure each channel where it is corrected, and correct it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from rebasin_hub.errors import InputError
from rebasin_hub.repair.moments import Moments, moments_of, pooled
from rebasin_hub.repair.sites import Affine, Fused, Inner, Norm, Site
from rebasin_hub.tasks.network import Batch, TorchNetwork

__all__ = ["SetNorm", "SolveFused", "mask_fits", "padding_mask", "watched"]

SetNorm: TypeAlias = Callable[[Norm, Moments], Mapping[str, Tensor]]
"""From a norm and the moments of one batch to the tensors that it should use for this batch."""
SolveFused: TypeAlias = Callable[[Fused, Moments], Affine]
"""From a layer and the moments of one batch to the map that its output takes."""

MASK = "attention_mask"


def watched(
    network: TorchNetwork,
    inner: Inner,
    sites: Sequence[Site],
    batches: Iterable[Batch],
    *,
    set_norm: SetNorm | None = None,
    solve_fused: SolveFused | None = None,
) -> dict[str, Moments]:
    """Run all batches once, and return the moments at each site by its layer's name.

    Args:
        network: in evaluation mode.
        inner: the weights; they are not changed.
        sites: where to measure: at the input of norms, at the output of other layers.
        batches: at least one.
        set_norm: corrects each norm with the statistics of each batch, so that the layers after
            it see what they will see once it is corrected.
        solve_fused: the same for other layers.

    Sites that no value reached are left out.

    Raises:
        InputError: there are no batches.

    """
    watch = _Watch(set_norm, solve_fused)
    # Norms are set in place; tensors that are tied to others must stay the same object.
    changed = {name for site in sites if isinstance(site, Norm) for name in site.tensors}
    inner = {name: x.clone() if name in changed else x for name, x in inner.items()}
    count = 0
    with _hooked(network.module, sites, watch):
        for stored in batches:
            batch = stored.to(network.device)
            watch.mask = padding_mask(batch)
            network.forward(inner, batch)
            count += 1
    if count == 0:
        raise InputError("there are no samples to measure statistics on; give at least one batch")
    return watch.totals


class _Watch:
    """What the hooks share."""

    def __init__(self, set_norm: SetNorm | None, solve_fused: SolveFused | None) -> None:
        self.set_norm = set_norm
        self.solve_fused = solve_fused
        self.totals: dict[str, Moments] = {}
        self.mask: Tensor | None = None

    def count(self, site: Site, moments: Moments) -> None:
        before = self.totals.get(site.name)
        self.totals[site.name] = moments if before is None else pooled(before, moments)

    def before_norm(self, site: Norm, module: nn.Module, values: Tensor) -> None:
        moments = moments_of(values, 1)
        if moments is None:
            return
        self.count(site, moments)
        if self.set_norm is not None:
            for name, value in self.set_norm(site, moments).items():
                getattr(module, name.rpartition(".")[2]).copy_(value)

    def after_fused(self, site: Fused, output: Tensor) -> Tensor | None:
        mask = self.mask if site.axis == -1 and mask_fits(self.mask, output) else None
        moments = moments_of(output, site.axis, mask)
        if moments is None:
            return None
        self.count(site, moments)
        if self.solve_fused is None:
            return None
        return self.solve_fused(site, moments)(output, site.axis)


@contextmanager
def _hooked(module: nn.Module, sites: Sequence[Site], watch: _Watch) -> Iterator[None]:
    handles = []
    try:
        for site in sites:
            layer = module.get_submodule(site.name)
            if isinstance(site, Norm):
                hook = _norm_hook(watch, site)
                handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(layer.register_forward_hook(_fused_hook(watch, site)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norm_hook(watch: _Watch, site: Norm) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        watch.before_norm(site, module, next(iter((*args, *kwargs.values()))))

    return hook


def _fused_hook(watch: _Watch, site: Fused) -> Callable[[nn.Module, Any, Any], Tensor | None]:
    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor | None:  # noqa: ARG001
        return watch.after_fused(site, output)

    return hook


def padding_mask(batch: Batch) -> Tensor | None:
    """Return which positions are no padding: (samples, positions) booleans."""
    mask = batch.inputs.get(MASK) if isinstance(batch.inputs, Mapping) else None
    return None if mask is None else mask.to(torch.bool)


def mask_fits(mask: Tensor | None, output: Tensor) -> bool:
    """Tell whether a mask is of the positions of values whose last axis is the channels'."""
    return mask is not None and mask.ndim == 2 and output.shape[:-1] == mask.shape  # noqa: PLR2004
