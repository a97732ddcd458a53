"""The loss of a batch under given weights, to be differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_hub.tasks.network import IGNORED, Batch, TorchNetwork

__all__ = ["batch_loss"]


def batch_loss(network: TorchNetwork, tensors: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Return the mean loss of a batch: over samples, or over positions that count.

    Args:
        network: in evaluation mode, so that nothing is dropped out.
        tensors: by the checkpoint's names; not changed, also not their running statistics.
        batch: on any device.

    A scalar on the network's device, differentiable by every tensor that asks for it.

    """
    batch = batch.to(network.device)
    args: tuple[Tensor, ...] = ()
    kwargs: dict[str, Tensor] = {}
    if isinstance(batch.inputs, Mapping):
        kwargs = dict(batch.inputs)
    else:
        args = batch.inputs
    inner = network.inner(tensors)
    norms = {
        name: module
        for name, module in network.module.named_modules()
        if isinstance(module, _BatchNorm)
    }
    for name, norm in norms.items():
        for key, buffer in norm.named_buffers(prefix=name, recurse=False):
            inner[key] = inner.get(key, buffer).detach().clone()
    with (
        _by_batch(norms.values()),
        torch.backends.cudnn.flags(deterministic=True, allow_tf32=False),
    ):
        output = functional_call(network.module, inner, args, kwargs)
        if network.loss is not None:
            return network.loss(output, batch.targets)[0].mean()
        logits = network.logits(output)
        return cross_entropy(logits.flatten(0, -2), batch.targets.flatten(), ignore_index=IGNORED)


@contextmanager
def _by_batch(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Let norms use the statistics of their batch."""
    before = [(norm, norm.training) for norm in norms]
    try:
        for norm, _ in before:
            norm.training = True
        yield
    finally:
        for norm, training in before:
            norm.training = training
