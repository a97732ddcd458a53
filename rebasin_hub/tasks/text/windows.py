"""Windows of a long text, as batches for a language model. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rebasin_hub.tasks.network import IGNORED, Batch
from rebasin_hub.tasks.task import Split

__all__ = ["Windows", "window_starts"]


def window_starts(tokens: int, context: int, stride: int) -> NDArray[np.int64]:
    """Return where windows start, so that every token but the first is predicted once.

    Args:
        tokens: of the text, at least two.
        context: tokens that a window reads.
        stride: tokens from one start to the next, at most `context`.

    """
    more = max(0, tokens - 1 - context)
    return stride * np.arange(1 + -(-more // stride))


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows that each predict the tokens that none before them has predicted.

    ids: (tokens,) int64, the whole text.
    starts: (windows,) int64, of those that are measured.
    context: tokens that a window reads.
    stride: the last ones of a window that it predicts; the first window predicts all.
    """

    split: Split
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    context: int
    stride: int

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        first = np.where(self.starts > 0, self.starts + self.context - self.stride, 0)
        last = np.minimum(self.starts + self.context, len(self.ids) - 1)
        return int((last - first).sum())

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the windows, `size` at a time; the text's last one is padded behind its end.

        A position's logits do not depend on what follows it, so that padding needs no mask.
        """
        length = min(self.context, len(self.ids) - 1)
        for first in range(0, len(self.starts), size):
            starts = self.starts[first : first + size, np.newaxis]
            places = starts + np.arange(length + 1)
            inside = places < len(self.ids)
            tokens = self.ids[np.minimum(places, len(self.ids) - 1)]
            inputs = np.where(inside, tokens, 0)[:, :-1]
            targets = np.where(inside, tokens, IGNORED)[:, 1:]
            # These the window before has predicted.
            seen = (starts > 0) & (np.arange(length) < self.context - self.stride)
            targets[seen] = IGNORED
            yield Batch(
                {"input_ids": torch.from_numpy(np.ascontiguousarray(inputs))},
                torch.from_numpy(np.ascontiguousarray(targets)),
            )
