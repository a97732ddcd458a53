"""Arrays within so many bytes of memory: those longest unused are dropped, or wait in a file."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.buffers import empty
from rebasin_hub.errors import OutputError

__all__ = ["Shelf"]

Array = NDArray[Any]


class Shelf:
    """Holds arrays by their keys, those used last, of so many bytes in all.

    What can be made again is dropped where there is no more room; what cannot is written to a
    temporary file, one for each key, which is gone when the shelf is closed, and however else the
    program ends. An array that is larger than the shelf is handed out, but not held. A shelf is a
    context manager that closes itself.

    Args:
        nbytes: how many bytes are held.

    """

    def __init__(self, nbytes: int) -> None:
        self._most = nbytes
        self._held: OrderedDict[Hashable, Array] = OrderedDict()
        self._used = 0
        self._lasting: dict[Hashable, _Spilled] = {}

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return the array of a key, made if it is not there. It is not to be changed."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        array = make()
        self._hold(key, array)
        return array

    def keep(self, key: Hashable, array: Array) -> None:
        """Keep an array that cannot be made again, in place of an earlier one of its key.

        Who changes it afterwards has to keep it again.

        Raises:
            OutputError: there is no room for it in memory, nor in the temporary directory.

        """
        spilled = self._lasting.setdefault(key, _Spilled())
        spilled.stale = True
        self._hold(key, array)
        if key not in self._held:
            spilled.write(array)

    def kept(self, key: Hashable) -> Array:
        """Return the array that was kept under a key."""
        return self.get(key, self._lasting[key].read)

    @property
    def nbytes(self) -> int:
        """The bytes that are held now."""
        return self._used

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spilled in self._lasting.values():
            spilled.close()
        self._held.clear()

    def _hold(self, key: Hashable, array: Array) -> None:
        earlier = self._held.pop(key, None)
        self._used -= 0 if earlier is None else earlier.nbytes
        if array.nbytes > self._most:
            return
        while self._used + array.nbytes > self._most:
            oldest, dropped = self._held.popitem(last=False)
            self._used -= dropped.nbytes
            if oldest in self._lasting:
                self._lasting[oldest].write(dropped)
        self._held[key] = array
        self._used += array.nbytes


class _Spilled:
    """An array in a temporary file, which has no name where the system allows that.

    `stale` says that the file is not what the array is now.
    """

    def __init__(self) -> None:
        self.stale = True
        self._file: IO[bytes] | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def write(self, array: Array) -> None:
        if not self.stale:
            return
        self._shape, self._dtype = array.shape, array.dtype
        try:
            self._file = self._file or tempfile.TemporaryFile(prefix="rebasin-hub-")  # noqa: SIM115
            self._file.seek(0)
            self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            self._file.flush()
        except OSError as problem:
            raise OutputError(
                f"{tempfile.gettempdir()}: {problem.strerror or problem}; what does not fit in "
                "memory is put there; name another directory by TMPDIR, or allow more memory"
            ) from None
        self.stale = False

    def read(self) -> Array:
        assert self._file is not None, "what is not held has been written"
        array = empty(self._shape, self._dtype)
        self._file.seek(0)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        return array

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take is tried once more, for nothing
                self._file.close()
