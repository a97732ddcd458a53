"""The stream of tensors that a format's writer pulls: one at a time, checked, accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebasin_hub.errors import ProofError
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.tensors import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rebasin_hub.formats.raw import Array
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Supply"]


class Supply:
    """Hands out tensors' bytes in the order that a writer asks for, and keeps their digests.

    `header` tells what each tensor must be; `produce` makes it; `progress` is told the bytes
    written so far and in all.
    """

    def __init__(
        self,
        header: Mapping[str, TensorInfo],
        produce: Callable[[str], Array],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.header = header
        self.digests: dict[str, str] = {}
        """Name to the SHA-256 of the tensor's bytes, for every tensor written so far."""
        self.notes: list[str] = []
        """What a user should know of the result."""
        self._produce = produce
        self._progress = progress
        self._done = 0
        self._total = sum(info.nbytes for info in header.values())

    def take(self, name: str) -> memoryview:
        """Make one tensor and return the bytes to store.

        Raises:
            ProofError: it has not the type or shape that the header says.

        """
        array, info = self._produce(name), self.header[name]
        try:
            dtype = dtype_of(array)
        except KeyError:
            dtype = str(array.dtype)
        if (dtype, array.shape) != (info.dtype, info.shape):
            raise ProofError(
                f"tensor {name!r} came out as {dtype} {list(array.shape)}, expected "
                f"{info.dtype} {list(info.shape)}; nothing was written"
            )
        return bytes_of(array, info.dtype)

    def wrote(self, name: str, digest: str) -> None:
        """Note that a tensor is stored under a digest."""
        self.digests[name] = digest
        self.passed(name)

    def passed(self, name: str) -> None:
        """Note that a tensor is done with, stored or not."""
        self._done += self.header[name].nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)
