"""Models whose programs look at the values of some inputs, made fit for torch.export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from torch.compiler import is_exporting
from torch.nn import Module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

__all__ = ["without_grids"]

GRIDS = ("grid_thw", "image_grid_thw", "merge_sizes", "spatial_shapes")
"""Arguments that tell the shapes of others: numbers of frames, rows and columns."""


def without_grids(module: Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let a module know the grids among its inputs by heart, and return the other inputs.

    What a program computes from them alone, and from numbers, is computed while it is traced, and
    stands in the graph as a constant.
    """
    grids = {name: value for name, value in inputs.items() if name in GRIDS}
    if not grids:
        return dict(inputs)
    whole: Callable[..., Any] = module.forward

    def forward(**given: Tensor) -> object:
        with _Folding() if is_exporting() else nullcontext():
            return whole(**given, **grids)

    module.forward = forward
    return {name: value for name, value in inputs.items() if name not in GRIDS}


class _Folding(TorchFunctionMode):
    """Computes at once what depends on no input and no weight: those are fake in a trace."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if all(type(tensor) is Tensor for tensor in tensors):
            with _disable_current_modes():
                return function(*args, **kwargs)
        return function(*args, **kwargs)
