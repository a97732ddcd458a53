"""One run on a few samples, to see how a network's layers follow one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_hub.tasks.network import Batch, Returned, TorchNetwork

__all__ = ["Probe", "few_samples", "probed"]

SAMPLES = 4


@dataclass(frozen=True)
class Probe:
    """What was seen.

    calls: how often each layer ran.
    normalized: from layers to the BatchNorm whose input is their output; one that keeps running
        statistics.
    outputs: layers whose output is the network's, and the last one that ran if it is linear: what
        follows it (pooling, the choice of a position) has no weights.
    """

    calls: Mapping[str, int]
    normalized: Mapping[str, str]
    outputs: frozenset[str]


class _Trace:
    """Outputs of layers in their order; they are kept, so that no two have the same memory."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.order: list[str] = []
        self.outputs: list[tuple[str, Tensor, int]] = []
        self.normalized: dict[str, str] = {}

    def before(self, name: str, values: Tensor) -> None:
        """See the input of a BatchNorm."""
        for layer, output, version in self.outputs:
            # An activation that works in place gives the same tensor, in a later version.
            if output is values and output._version == version:
                self.normalized[layer] = name

    def after(self, name: str, output: object) -> None:
        """See the output of a layer."""
        self.calls[name] += 1
        self.order.append(name)
        if isinstance(output, Tensor):
            self.outputs.append((name, output, output._version))


def probed(network: TorchNetwork) -> Probe:
    """Run a network once on a few samples, with the module's own weights."""
    trace = _Trace()
    handles = []
    try:
        for name, module in network.module.named_modules():
            is_norm = isinstance(module, _BatchNorm)
            if is_norm and module.running_mean is not None:
                hook = _before(trace, name)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            if is_norm or next(module.parameters(recurse=False), None) is not None:
                handles.append(module.register_forward_hook(_after(trace, name)))
        output = network.forward({}, few_samples(network))
    finally:
        for handle in handles:
            handle.remove()
    given = _tensor(network, output)
    outputs = {name for name, x, _ in trace.outputs if given is not None and _same_memory(x, given)}
    return Probe(trace.calls, trace.normalized, frozenset(outputs | set(trace.order[-1:])))


def _before(trace: _Trace, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:  # noqa: ARG001
        trace.before(name, next(iter((*args, *kwargs.values()))))

    return hook


def _after(trace: _Trace, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: object, output: object) -> None:  # noqa: ARG001
        trace.after(name, output)

    return hook


def few_samples(network: TorchNetwork) -> Batch:
    """Return the first samples of the data, on the network's device."""
    data = next(iter(network.data.values()))
    batch = next(iter(data.batches(min(SAMPLES, network.batch))))
    return batch.to(network.device)


def _tensor(network: TorchNetwork, output: Returned) -> Tensor | None:
    """Return the logits, or whatever single tensor the network gives."""
    given = network.logits(output) if network.loss is None else output
    return given if isinstance(given, Tensor) else None


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
