"""Where the arithmetic of matching runs: NumPy on the CPU, or torch on a device."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align import narrow
from rebasin_hub.align.room import Room
from rebasin_hub.errors import InputError, MissingExtraError

__all__ = ["Array", "Backend", "narrowed", "select"]

Array: TypeAlias = Any
"""An array of the backend's library."""

Dtype: TypeAlias = Any
"""An element type of the backend's library."""

CHUNK = 1 << 22
"""How many numbers are widened to float64 at a time."""

ROWS = 1 << 16
"""How many numbers are renumbered at a time in memory: as many as a cache holds."""


@dataclass(frozen=True)
class Backend:
    """An array library with its device: `xp` follows the array API standard.

    `narrow` says that blocks stay in bfloat16 or float16, and products of them are float32.
    """

    xp: Any
    device: str | None = None
    narrow: bool = False

    @property
    def widest(self) -> np.dtype[Any]:
        """The widest float type there is on the device."""
        return np.dtype(np.float32 if str(self.device).startswith("mps") else np.float64)

    def asarray(self, array: NDArray[Any]) -> Array:
        """Bring an array to the device; on NumPy the array itself."""
        if self.device is None:
            return array
        if array.dtype.name == "bfloat16":  # which torch does not know by NumPy's name
            return self.asarray(array.view(np.int16)).view(self.xp.bfloat16)
        # torch takes neither read-only arrays nor negative strides; the copy has none of them.
        return self.xp.asarray(np.array(array, order="C"), device=self.device)

    def numpy(self, array: Array) -> NDArray[Any]:
        """Bring an array back to NumPy."""
        return np.asarray(array if self.device is None else array.cpu().numpy())

    def take(self, array: Array, index: Array, axis: int, room: Room | None = None) -> Array:
        """Gather along one axis by indices in range; the result lies in memory as the array does.

        On NumPy it lies in `room`, where there is one.
        """
        order = self._memory_order(array)
        if order is None:
            return self._take(array, index, axis, room)
        there = self._take(self.xp.permute_dims(array, order), index, order.index(axis), room)
        return self.xp.permute_dims(there, tuple(map(order.index, range(array.ndim))))

    def _take(self, array: Array, index: Array, axis: int, room: Room | None) -> Array:
        if self.device is not None:
            return self.xp.take(array, index, axis=axis)
        shape = (*array.shape[:axis], len(index), *array.shape[axis + 1 :])
        out = None if room is None else room.array(shape, array.dtype)
        # Indices are in range, and looking after each of them takes half of the time.
        return np.take(array, index, axis=axis, mode="clip", out=out)

    def put(self, array: Array, at: Array, axis: int, values: Array) -> None:
        """Write slices of an array in place."""
        array[(*(slice(None),) * axis, at)] = values

    def is_fastest(self, array: Array, axis: int) -> bool:
        """Tell whether memory holds what stands along an axis next to one another."""
        order = self._memory_order(array)
        return axis == (array.ndim - 1 if order is None else order[-1])

    def renumber_fastest(self, array: Array, index: Array) -> None:
        """Renumber in place along the axis that is the fastest in memory, some rows at a time."""
        order = self._memory_order(array)
        rows = array if order is None else self.xp.permute_dims(array, order)
        rows = self.xp.reshape(rows, (-1, rows.shape[-1]))
        assert self.shares(rows, array), "an array with gaps cannot be renumbered in place"
        step = max(1, (ROWS if self.device is None else CHUNK) // rows.shape[1])
        moved = None if self.device is not None else np.empty((step, rows.shape[1]), rows.dtype)
        for first in range(0, rows.shape[0], step):
            part = rows[first : first + step]
            if moved is None:
                part[:] = self.xp.take(part, index, axis=1)
            else:
                part[:] = np.take(part, index, axis=1, mode="clip", out=moved[: len(part)])

    def row_products(self, a: Array, b: Array) -> NDArray[np.float64]:
        """Return the inner products of rows, (n,) from two of (n, k), accumulated in float64."""
        if self.device is None:
            return np.asarray(np.einsum("ij,ij->i", a, b, dtype=np.float64))
        return self.numpy((self._widened(a) * self._widened(b)).sum(-1))

    def shares(self, a: Array, b: Array) -> bool:
        """Tell whether two arrays lie in the same memory."""
        if self.device is None:
            return np.may_share_memory(a, b)
        return bool(a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr())

    def product_type(self, *dtypes: Dtype) -> Dtype:
        """Return the type of products of arrays of these types."""
        return self.xp.result_type(*dtypes, *([self.xp.float32] if self.narrow else []))

    def wide(self, array: Array) -> Array:
        """Return an array in a type that can be computed with, itself unless it is narrow."""
        return self.xp.astype(array, self.product_type(array.dtype), copy=False)

    def product(self, a: Array, b: Array) -> Array:
        """Return `a @ b.T`, (n, m) from (n, k) and (m, k), in the type of products."""
        if self.narrow and a.dtype == b.dtype != self.product_type(a.dtype):
            return narrow.product(a, b)
        if a.dtype != b.dtype:
            a, b = (self.xp.astype(x, self.product_type(a.dtype, b.dtype)) for x in (a, b))
        return a @ self.xp.matrix_transpose(b)

    def add_product(self, total: Array, a: Array, b: Array, sign: int = 1) -> None:
        """Add `sign * a @ b.T` to `total` in place, (n, m) from (n, k) and (m, k)."""
        if not a.dtype == b.dtype == total.dtype:
            made = self.product(a, b)
            total += made if sign > 0 else -made
        elif self.device is not None:
            total.addmm_(a, b.T, alpha=sign)
        elif total.size and a.size:
            _add_product(total, a, b, sign)

    def inner(self, a: Array, b: Array) -> float:
        """Return the inner product of two arrays of one shape, accumulated in float64."""
        order = self._memory_order(a)
        if order is not None:
            a, b = (self.xp.permute_dims(x, order) for x in (a, b))
        flat_a, flat_b = self.xp.reshape(a, (-1,)), self.xp.reshape(b, (-1,))
        if self.device is None:
            # NumPy widens small pieces on the way, without arrays in between.
            return float(np.einsum("i,i->", flat_a, flat_b, dtype=np.float64))
        total = 0.0
        for first in range(0, flat_a.shape[0], CHUNK):
            x, y = (self._widened(flat[first : first + CHUNK]) for flat in (flat_a, flat_b))
            total += float(x @ y)
        return total

    def _memory_order(self, array: Array) -> tuple[int, ...] | None:
        """Return the axes from the slowest in memory to the fastest; None if that is their own."""
        if self.device is None:
            if array.flags.c_contiguous:
                return None
            strides = array.strides
        else:
            if array.is_contiguous():
                return None
            strides = array.stride()
        return tuple(sorted(range(array.ndim), key=lambda axis: -strides[axis]))

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


def narrowed(backend: Backend) -> Backend:
    """Return the backend, told to leave narrow blocks as they are stored where nothing is lost."""
    return replace(backend, narrow=narrow.is_exact(str(backend.device)))


def _add_product(total: NDArray[Any], a: NDArray[Any], b: NDArray[Any], sign: int) -> None:
    """Add `sign * a @ b.T` by BLAS, which needs no array for the product.

    BLAS reads arrays by columns: it is given the transpose of everything.
    """
    from scipy.linalg.blas import dgemm, sgemm

    gemm = sgemm if total.dtype == np.float32 else dgemm
    left, left_is_turned = (b, 0) if b.flags.f_contiguous else (np.ascontiguousarray(b).T, 1)
    right, right_is_turned = (a, 1) if a.flags.f_contiguous else (np.ascontiguousarray(a).T, 0)
    gemm(
        float(sign),
        left,
        right,
        beta=1.0,
        c=total.T,
        trans_a=left_is_turned,
        trans_b=right_is_turned,
        overwrite_c=1,
    )


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
