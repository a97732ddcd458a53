"""What the jobs of one run share within a worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

__all__ = ["Kept"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Something that takes long to make, such as open models: made by the first job that asks.

    A variable of a module: each process has its own. Only the last one is kept.

    Args:
        make: makes it from a key that jobs carry; what the stack is given is closed after use.

    """

    def __init__(self, make: Callable[[Key, ExitStack], Value]) -> None:
        self._make = make
        self._stack = ExitStack()
        self._kept: tuple[Key, Value] | None = None

    def of(self, key: Key) -> Value:
        """Return what belongs to a key."""
        if self._kept is None or self._kept[0] != key:
            self.close()
            self._kept = key, self._make(key, self._stack)
        return self._kept[1]

    def close(self) -> None:
        """Keep nothing: for the process that gave the jobs, and may have worked on them itself."""
        self._kept = None
        self._stack.close()
