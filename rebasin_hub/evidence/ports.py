"""Which values of a module are numbered as an axis of one of its own tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.rnn import PackedSequence

from rebasin_hub.repair.layers import is_conv1d

__all__ = ["Port", "channels_of", "ports_of", "value_at"]

Side: TypeAlias = Literal["input", "state", "output"]

CONVOLVED = 4
"""Axes of a value whose channels may stand on axis 1."""
ATTENDED = ("query", "key", "value")


@dataclass(frozen=True)
class Port:
    """A value of a module, and the axis of the module's tensor that numbers its channels.

    side: an input that the tensor multiplies, a state that it multiplies in the next time step,
        or an output that it computes.
    tensor: its name inside the module.
    axis: of the tensor.
    channels: the axis of the value; None for norms, where the value's shape tells it.
    number: which input; which layer (times directions) of a recurrent network's states.
    part: which of the parts that stand side by side on `channels`, of `parts`.
    mixes: whether each output of the module depends on all of these channels.
    """

    side: Side
    tensor: str
    axis: int
    channels: int | None
    number: int = 0
    part: int = 0
    parts: int = 1
    mixes: bool = True


def ports_of(module: nn.Module) -> tuple[Port, ...] | None:
    """Return the ports of a module; None for kinds of modules that are not known."""
    for kinds, ports in KINDS:
        if isinstance(module, kinds):
            return tuple(ports(module))
    if is_conv1d(module):
        return Port("input", "weight", 0, -1), Port("output", "weight", 1, -1)
    if type(module).__name__.endswith("Norm"):
        return (Port("output", "weight", 0, None),)
    return None


def _of_convolution(module: _ConvNd) -> Iterator[Port]:
    reads, writes = (0, 1) if isinstance(module, _ConvTransposeNd) else (1, 0)
    if module.groups == 1:
        yield Port("input", "weight", reads, 1)
        yield Port("output", "weight", writes, 1)
        return
    # Of a group's channels the other axis holds only those of one group: the numbering of all
    # stands on axis 0 alone. A depthwise convolution has the same channels on both sides.
    first: Side = "input" if writes == 1 else "output"
    second: Side = "output" if writes == 1 else "input"
    yield Port(first, "weight", 0, 1, mixes=False)
    if module.groups == module.in_channels == module.out_channels:
        yield Port(second, "weight", 0, 1, mixes=False)


def _of_recurrent(module: nn.RNNBase) -> Iterator[Port]:
    directions = ["", "_reverse"] if module.bidirectional else [""]
    for direction in directions:
        yield Port("input", f"weight_ih_l0{direction}", 1, -1)
    for layer in range(module.num_layers):
        last = layer == module.num_layers - 1
        for number, direction in enumerate(directions):
            yield Port(
                "state",
                f"weight_hh_l{layer}{direction}",
                1,
                -1,
                # Of the layers below the last one only the final states come out.
                number=-1 if last else layer * len(directions) + number,
                part=number if last else 0,
                parts=len(directions) if last else 1,
            )


def _of_attention(module: nn.MultiheadAttention) -> Iterator[Port]:
    """Yield the inputs; what is inside is computed by functions and cannot be seen."""
    for number, name in enumerate("qkv"):
        joint = module.in_proj_weight is not None
        yield Port("input", "in_proj_weight" if joint else f"{name}_proj_weight", 1, -1, number)


KINDS: tuple[tuple[type | UnionType, Callable[[Any], Iterable[Port]]], ...] = (
    (nn.Linear, lambda _: (Port("input", "weight", 1, -1), Port("output", "weight", 0, -1))),
    (_ConvNd, _of_convolution),
    (nn.Embedding | nn.EmbeddingBag, lambda _: (Port("output", "weight", 1, -1),)),
    (_NormBase | nn.GroupNorm, lambda _: (Port("output", "weight", 0, 1),)),
    (nn.LayerNorm, lambda _: (Port("output", "weight", 0, -1),)),
    (nn.RNNBase, _of_recurrent),
    (
        nn.RNNCellBase,
        lambda _: (Port("input", "weight_ih", 1, -1), Port("state", "weight_hh", 1, -1)),
    ),
    (nn.MultiheadAttention, _of_attention),
)


def value_at(
    port: Port, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: object
) -> Tensor | None:
    """Return the value at a port, with its channels on the last axis; None where there is none."""
    value: object
    if port.side == "input":
        value = _input(port, module, args, kwargs)
    elif isinstance(module, nn.RNNBase):
        value = _states(port, output)
    else:  # an LSTM cell gives its hidden and its inner state
        value = output[0] if isinstance(output, tuple) else output
    if isinstance(value, PackedSequence):
        value = value.data
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    return value


def channels_of(port: Port, value: Tensor, length: int) -> int | None:
    """Return which axis of a value holds `length` channels; None where none does."""
    channels = port.channels
    if channels is None:
        first = value.ndim >= CONVOLVED and value.shape[1] == length
        channels = 1 if first else -1
    if value.ndim <= max(channels, 0) or value.shape[channels] != length * port.parts:
        return None
    return channels


def _input(
    port: Port, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> object:
    if isinstance(module, nn.MultiheadAttention):
        named = dict(zip(ATTENDED, args, strict=False)) | dict(kwargs)
        return named.get(ATTENDED[port.number])
    return next(iter((*args, *kwargs.values())), None)


def _states(port: Port, output: object) -> object:
    if not isinstance(output, tuple) or len(output) != 2:  # noqa: PLR2004
        return None
    values, final = output
    if port.number < 0:
        return values
    final = final[0] if isinstance(final, tuple) else final
    return final[port.number]
