"""Which layers can be corrected, and why others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rebasin_hub.repair.probe import Probe, probed
from rebasin_hub.repair.sites import Fused, Norm, Site
from rebasin_hub.tasks.network import TorchNetwork

__all__ = ["Inspected", "Layer", "inspected", "is_conv1d", "layers"]

Repaired: TypeAlias = Literal["mean and deviation", "deviation", "running statistics"] | None

STOCK = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
STATISTICS = ("running_mean", "running_var")
NO_BIAS = "it has no bias, so that means stay as they come"


@dataclass(frozen=True)
class Layer:
    """What is done with a layer.

    name: in the module.
    type: its class.
    recomputed: whether its running statistics are measured anew by `recomputed`.
    repaired: what `repaired` sets of each of its channels, if anything.
    reason: why that is not all; empty where it is.
    """

    name: str
    type: str
    recomputed: bool
    repaired: Repaired
    reason: str


@dataclass(frozen=True)
class Inspected:
    """A network's layers in the module's order, and where each function measures."""

    layers: tuple[Layer, ...]
    norms: tuple[Norm, ...]
    """For `recomputed`."""
    sites: tuple[Site, ...]
    """For `repaired`."""


def layers(network: TorchNetwork) -> tuple[Layer, ...]:
    """Return every layer that has parameters or normalizes, with what is done with it and why.

    The module is run once on a few samples, with its own weights, to see which layers follow one
    another and which gives the output.
    """
    return inspected(network).layers


def inspected(network: TorchNetwork) -> Inspected:
    """Return the layers of a network with the places where it is measured and corrected."""
    probe = probed(network)
    shared = _shared(network)
    found: list[tuple[Layer, Site | None]] = []
    for name, module in network.module.named_modules():
        if isinstance(module, _BatchNorm):
            found.append(_norm(network, name, module, probe, shared))
        elif isinstance(module, STOCK) or is_conv1d(module):
            found.append(_fused(network, name, module, probe, shared))
        elif (reason := _other(module)) is not None:
            found.append((Layer(name, type(module).__name__, False, None, reason), None))
    return Inspected(
        tuple(layer for layer, _ in found),
        tuple(site for layer, site in found if layer.recomputed and isinstance(site, Norm)),
        tuple(site for layer, site in found if layer.repaired is not None and site is not None),
    )


def _norm(
    network: TorchNetwork,
    name: str,
    module: _BatchNorm,
    probe: Probe,
    shared: Mapping[str, str],
) -> tuple[Layer, Site | None]:
    kind = type(module).__name__
    own = {key: f"{name}.{key}" for key in (*STATISTICS, "weight", "bias")}
    own = {key: tensor for key, tensor in own.items() if getattr(module, key) is not None}
    if not own.keys() >= set(STATISTICS):
        return Layer(name, kind, False, None, "it keeps no running statistics"), None
    if probe.calls[name] == 0:
        return Layer(name, kind, False, None, "the network does not run it"), None
    reasons = {key: _foreign(network, tensor, shared) for key, tensor in own.items()}
    reason = ", ".join(filter(None, reasons.values()))
    if any(reasons[key] for key in STATISTICS):
        return Layer(name, kind, False, None, reason), None
    if reason:
        site = Norm(name, module.eps, affine=False, bias=False)
        return Layer(name, kind, True, "running statistics", reason), site
    site = Norm(name, module.eps, affine="weight" in own, bias="bias" in own)
    if site.affine and not site.bias:
        return Layer(name, kind, True, "deviation", NO_BIAS), site
    return Layer(name, kind, True, "mean and deviation", ""), site


def _fused(
    network: TorchNetwork,
    name: str,
    module: nn.Module,
    probe: Probe,
    shared: Mapping[str, str],
) -> tuple[Layer, Site | None]:
    kind, site = type(module).__name__, _site(name, module)
    reason = _misplaced(name, probe) or _not_its_own(network, name, module, shared)
    if reason:
        return Layer(name, kind, False, None, reason), None
    if not site.bias:
        return Layer(name, kind, False, "deviation", NO_BIAS), site
    return Layer(name, kind, False, "mean and deviation", ""), site


def _misplaced(name: str, probe: Probe) -> str:
    """Return why a layer's place in the network forbids a correction; empty where it does not."""
    if probe.calls[name] == 0:
        return "the network does not run it as a layer"
    if name in probe.outputs:
        return "it gives the network's output"
    if name in probe.normalized:
        return f"its output goes straight into {probe.normalized[name]}, which is corrected instead"
    if probe.calls[name] > 1:
        return f"it is applied {probe.calls[name]} times in one pass"
    return ""


def _not_its_own(
    network: TorchNetwork, name: str, module: nn.Module, shared: Mapping[str, str]
) -> str:
    """Return why scaling a layer's tensors would do something else; empty where it would not."""
    if not is_conv1d(module) and not any(type(module).forward is s.forward for s in STOCK):
        return "its class computes in a way of its own"
    tensors = [f"{name}.{key}" for key in ("weight", "bias") if getattr(module, key) is not None]
    return ", ".join(filter(None, (_foreign(network, tensor, shared) for tensor in tensors)))


def _foreign(network: TorchNetwork, tensor: str, shared: Mapping[str, str]) -> str:
    """Return why a tensor cannot be set for its layer alone; empty where it can."""
    key = tensor.rpartition(".")[2]
    if tensor in shared:
        return f"it shares its {key} with {shared[tensor]}"
    return "" if tensor in network.names else f"its {key} is not stored as such"


def _site(name: str, module: nn.Module) -> Fused:
    bias = getattr(module, "bias", None) is not None
    if isinstance(module, _ConvTransposeNd):
        return Fused(name, axis=1, weight_axis=1, groups=module.groups, bias=bias)
    if isinstance(module, _ConvNd):
        return Fused(name, axis=1, bias=bias)
    return Fused(name, axis=-1, weight_axis=1 if is_conv1d(module) else 0, bias=bias)


def is_conv1d(module: nn.Module) -> bool:
    """Tell whether a module is transformers' Conv1D: a linear layer with its weight transposed."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _other(module: nn.Module) -> str | None:
    """Return why a layer of another kind is left out; None where it has nothing of its own."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "it looks up rows and computes nothing"
    if "running_mean" in dict(module.named_buffers(recurse=False)):
        return "it has running statistics, but is no BatchNorm of torch's"
    own = list(module.named_parameters(recurse=False))
    kind = type(module).__name__
    instance = isinstance(module, nn.modules.instancenorm._InstanceNorm)
    known = instance or isinstance(module, nn.LayerNorm | nn.GroupNorm)
    if known or (own and kind.endswith("Norm")):
        return "it normalizes each sample by itself and keeps no running statistics"
    return "it is neither a convolution nor a linear layer" if own else None


def _shared(network: TorchNetwork) -> dict[str, str]:
    """Return for each tensor that has other names too, in the module or stored, one of them."""
    groups: dict[object, list[str]] = {}
    for name, tensor in network.module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(name)
        groups.setdefault(network.names.get(name, name), []).append(name)
    return {
        name: names[n - 1]
        for names in groups.values()
        for n, name in enumerate(names)
        if len(names) > 1
    }
