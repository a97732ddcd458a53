"""Weights that hide no mistake."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

__all__ = ["randomize"]


@torch.no_grad()
def randomize(module: nn.Module, generator: Generator) -> None:
    """Overwrite every floating-point tensor of a module's state dict with random values.

    A fresh network has unit gains, zero biases, zero means and unit variances: whoever forgets to
    renumber them changes nothing. Here gains are drawn from [0.5, 1.5), running variances from
    [0.5, 2), biases and running means from N(0, ½²), and weights of two or more axes from N(0,
    2 / fan-in), which keeps a ReLU network's activations of order one (He et al.,
    arXiv:1502.01852, eq. 10). Integers (`num_batches_tracked`) stay as they are.

    The values depend only on the generator's state and the names and shapes, up to rounding to
    each tensor's own dtype; the generator's device need not be the module's.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_draw(name.rpartition(".")[2], tensor.shape, generator))


def _draw(name: str, shape: torch.Size, generator: Generator) -> Tensor:
    values = torch.empty(shape, dtype=torch.float64, device=generator.device)
    if name == "running_var":
        return values.uniform_(0.5, 2, generator=generator)
    if len(shape) > 1:
        fan_in = max(1, shape[1:].numel())
        return values.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    if name in {"bias", "running_mean"}:
        return values.normal_(0, 0.5, generator=generator)
    return values.uniform_(0.5, 1.5, generator=generator)
