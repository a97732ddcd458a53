"""Where the arithmetic of matching runs: NumPy on the CPU, or torch on a device."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError, MissingExtraError

__all__ = ["Array", "Backend", "select"]

Array: TypeAlias = Any
"""An array of the backend's library."""

CHUNK = 1 << 22
"""How many numbers are widened to float64 at a time."""


@dataclass(frozen=True)
class Backend:
    """An array library with its device: `xp` follows the array API standard."""

    xp: Any
    device: str | None = None

    @property
    def widest(self) -> np.dtype[Any]:
        """The widest float type there is on the device."""
        return np.dtype(np.float32 if str(self.device).startswith("mps") else np.float64)

    def asarray(self, array: NDArray[Any]) -> Array:
        """Bring an array to the device; on NumPy the array itself."""
        if self.device is None:
            return array
        # torch takes neither read-only arrays nor negative strides; the copy has none of them.
        return self.xp.asarray(np.array(array, order="C"), device=self.device)

    def numpy(self, array: Array) -> NDArray[Any]:
        """Bring an array back to NumPy."""
        return np.asarray(array if self.device is None else array.cpu().numpy())

    def inner(self, a: Array, b: Array) -> float:
        """Return the inner product of two arrays of one shape, accumulated in float64."""
        flat_a, flat_b = self.xp.reshape(a, (-1,)), self.xp.reshape(b, (-1,))
        if self.device is None:
            # NumPy widens small pieces on the way, without arrays in between.
            return float(np.einsum("i,i->", flat_a, flat_b, dtype=np.float64))
        total = 0.0
        for first in range(0, flat_a.shape[0], CHUNK):
            x, y = (self._widened(flat[first : first + CHUNK]) for flat in (flat_a, flat_b))
            total += float(x @ y)
        return total

    def _widened(self, array: Array) -> Array:
        if self.widest != np.float64:
            return self.numpy(array).astype(np.float64)
        return self.xp.astype(array, self.xp.float64)


def select(device: str) -> Backend:
    """Return the backend of a device's name.

    Args:
        device: `cpu` (NumPy), `cpu:torch`, `cuda`, `cuda:N`, `mps`, or `auto`: CUDA where torch is
            installed and finds such a device, NumPy otherwise.

    Raises:
        InputError: no such device.
        MissingExtraError: the device needs torch, which is not installed.

    """
    if device == "cpu":
        return _numpy()
    if not re.fullmatch(r"auto|cpu:torch|cuda(:\d+)?|mps", device):
        raise InputError(
            f"device '{device}' is none of auto, cpu, cpu:torch, cuda, cuda:N, mps; choose one"
        )
    if device == "auto" and not _has_nvidia_driver():
        return _numpy()
    try:
        import torch
    except ModuleNotFoundError:
        if device == "auto":
            return _numpy()
        raise MissingExtraError(f"device '{device}'", "torch") from None
    if device == "auto":
        return _torch("cuda") if torch.cuda.is_available() else _numpy()
    if device.startswith("cuda") and int(device[5:] or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device '{device}' is not there: torch finds {torch.cuda.device_count()} CUDA "
            "devices; use --device cpu"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' is not there: torch finds no Metal; use --device cpu")
    return _torch("cpu" if device == "cpu:torch" else device)


def _has_nvidia_driver() -> bool:
    """Tell whether looking for CUDA is worth the second and a half that importing torch takes."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _numpy() -> Backend:
    import array_api_compat.numpy

    return Backend(array_api_compat.numpy)


def _torch(device: str) -> Backend:
    import array_api_compat.torch

    return Backend(array_api_compat.torch, device)
