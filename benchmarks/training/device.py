"""What a device does differently."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["autocast", "compiled", "seeded"]


Built = TypeVar("Built", bound=nn.Module)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 on CUDA; CPUs without such instructions are many times slower in it."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def compiled(module: nn.Module, device: torch.device) -> Callable[..., Any]:
    """Compile a module on CUDA, where many runs of it pay for that."""
    if device.type != "cuda":
        return module
    fast: Callable[..., Any] = torch.compile(module)
    return fast


def seeded(build: Callable[[], Built], seed: int) -> Built:
    """Build a module whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
