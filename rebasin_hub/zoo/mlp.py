"""A chain of linear layers under any of the names that people give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers with an elementwise activation between them.

    Maps (batch, widths[0]) to (batch, widths[-1]). `template` and `numbers` name the layers:
    the default gives `layers.0.weight`, `layers.1.weight`, …; `net.{}` with numbers 0, 2, 4 is an
    `nn.Sequential` that holds activations too, and `fc{}` with 1, 2, 3 is attributes.

    Raises:
        ValueError: fewer than two widths, or not exactly one number for each layer.

    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] = functional.relu,
        template: str = "layers.{}",
        numbers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes = list(pairwise(widths))
        if not sizes:
            raise ValueError(f"an MLP has at least two widths, got {list(widths)}")
        numbers = range(len(sizes)) if numbers is None else numbers
        self.activation = activation
        self.names = [template.format(number) for number in numbers]
        for name, (inputs, outputs) in zip(self.names, sizes, strict=True):
            _add_at(self, name, nn.Linear(inputs, outputs, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output, without an activation."""
        *hidden, last = (self.get_submodule(name) for name in self.names)
        for layer in hidden:
            x = self.activation(layer(x))
        logits: Tensor = last(x)
        return logits


def _add_at(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under a dotted path, making the modules in between."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
