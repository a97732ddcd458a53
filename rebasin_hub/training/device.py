"""What a device does differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from rebasin_hub.training.recipe import Precision

__all__ = ["autocast", "compiled", "one_thread", "seeded"]

WORTH_COMPILING = 2000
"""Steps that make up for the half minute that compiling takes."""

Built = TypeVar("Built", bound=nn.Module)


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[object]:
    """Compute in a precision, by default in bfloat16 on CUDA.

    CPUs without instructions for bfloat16 are many times slower in it, so one asks for it there.
    """
    if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def compiled(module: nn.Module, device: torch.device, *, steps: int) -> Callable[..., Any]:
    """Compile a module on CUDA, where many steps pay for that."""
    if device.type != "cuda" or steps < WORTH_COMPILING:
        return module
    fast: Callable[..., Any] = torch.compile(module)
    return fast


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute with one thread of a CPU: the order of sums, and with it the weights, depends on it.

    The networks that are trained on CPUs are too small for more anyway.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seeded(build: Callable[[], Built], seed: int) -> Built:
    """Build a module whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
