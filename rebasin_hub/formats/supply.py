"""The stream of tensors that a format's writer pulls: in its order, checked, accounted for."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rebasin_hub.errors import ProofError
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.stream import A_FEW, Bound, ahead
from rebasin_hub.tensors import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rebasin_hub.formats.raw import Array
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Made", "Supply"]


@dataclass(frozen=True)
class Made:
    """A tensor as it is stored: its name, its bytes, and their SHA-256 in hexadecimal."""

    name: str
    data: memoryview
    digest: str


class Supply:
    """Hands out tensors' bytes in the order that a writer asks for, and keeps their digests.

    `header` tells what each tensor must be; `produce` makes it, several at a time in threads;
    `cost` says how many bytes that takes (by default those of the tensor, twice), and `bound` how
    many may be taken at a time; `progress` is told the bytes written so far and in all.
    """

    def __init__(
        self,
        header: Mapping[str, TensorInfo],
        produce: Callable[[str], Array],
        progress: Callable[[int, int], None] | None = None,
        *,
        cost: Callable[[str], int] | None = None,
        bound: Bound = A_FEW,
    ) -> None:
        self.header = header
        self.digests: dict[str, str] = {}
        """Name to the SHA-256 of the tensor's bytes, for every tensor written so far."""
        self.notes: list[str] = []
        """What a user should know of the result."""
        self._produce = produce
        self._progress = progress
        self._cost = cost or (lambda name: 2 * header[name].nbytes)
        self._bound = bound
        self._line: Iterator[tuple[str, Made]] | None = None
        self._current: Made | None = None
        self._done = 0
        self._total = sum(info.nbytes for info in header.values())

    @contextmanager
    def ahead(self, names: Iterable[str]) -> Iterator[None]:
        """Make tensors ahead of the writer, in threads, until the block is left.

        `names` are what `made` will be asked for, in order. Inside another such block this does
        nothing: the outer one knows more of what comes.
        """
        if self._line is not None:
            yield
            return
        with ahead(names, self._make, cost=self._cost, bound=self._bound) as line:
            self._line = line
            try:
                yield
            finally:
                self._line = None

    def made(self, name: str) -> Made:
        """Return one tensor as it is to be stored; its bytes stay until it is said to be written.

        Raises:
            ProofError: as `take`.

        """
        if self._line is None:
            self._current = self._make(name)
        else:
            expected, self._current = next(self._line)
            if expected != name:
                raise ValueError(f"{name!r} is asked for, and {expected!r} was announced")
        return self._current

    def _make(self, name: str) -> Made:
        data = self.take(name)
        return Made(name, data, hashlib.sha256(data).hexdigest())

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
        if self._current is not None:
            self._current.data.release()  # before the next one is waited for
            self._current = None
        self.passed(name)

    def passed(self, name: str) -> None:
        """Note that a tensor is done with, stored or not."""
        self._done += self.header[name].nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)
