"""Functions compiled by numba, where it is installed; importing this module does not import it."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast

from numpy.typing import NDArray

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["compiled", "helper", "loaded", "variant", "worth"]

WORTH = 1 << 22
"""Elements of an array for which numba is imported, which takes half a second."""

Function = TypeVar("Function", bound=Callable[..., Any])


def worth(size: int) -> bool:
    """Tell whether compiled code pays for an array of so many elements: any, once numba is here."""
    return size >= WORTH or "numba" in sys.modules


@functools.cache
def loaded(module: str) -> ModuleType | None:
    """Return a module of compiled functions, or None where numba is not installed or cannot run."""
    return importlib.import_module(module) if _numba() else None


@functools.cache
def _numba() -> ModuleType | None:
    try:
        return importlib.import_module("numba")
    except ImportError:  # what it says of a NumPy that is newer than it knows, too
        return None


def helper(function: Function) -> Function:
    """Compile a function that others call; its machine code is kept with theirs."""
    import numba

    return cast("Function", numba.njit(nogil=True)(function))


def compiled(function: Function) -> Function:
    """Compile a function for each type of its first argument, an array, when it is first called.

    The machine code is kept on disk where that works. Every type has files of its own: processes
    that compile one function for several types at once would overwrite each other's.
    """
    importlib.import_module("numba")  # a module of such functions says at once that it is missing
    variants: dict[tuple[Any, bool], Any] = {}
    lock = Lock()

    @functools.wraps(function)
    def called(first: NDArray[Any], *others: Any) -> Any:  # noqa: ANN401
        kind = (first.dtype, first.flags.writeable)
        if kind not in variants:
            with lock:  # two threads would compile it twice
                if kind not in variants:
                    variants[kind] = variant(function, f"{first.dtype.name}_{kind[1]}")
        return variants[kind](first, *others)

    return cast("Function", called)


def variant(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Compile a function for one type of arrays, whose machine code has files of its own."""
    import numba

    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__qualname__}_{kind}"
    try:
        return cast("Callable[..., Any]", numba.njit(cache=True, nogil=True)(copy))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast("Callable[..., Any]", numba.njit(nogil=True)(copy))
