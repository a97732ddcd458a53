"""What follows a search: its time limit, its progress, and the best that it has found so far."""

from __future__ import annotations

import time

from rebasin_hub.align.result import Progress, Report
from rebasin_hub.permute import Element, Index

__all__ = ["Watch"]


class Watch:
    """Follows a search, so that it can be stopped at any time without losing its best.

    Args:
        seconds: after how many of them, on the clock, the search should come to an end.
        report: told of the progress.

    """

    def __init__(self, seconds: float | None = None, report: Report | None = None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._report = report
        self.best: dict[str, Index] | None = None

    @property
    def limited(self) -> bool:
        """Whether there is a time limit."""
        return self._end is not None

    @property
    def spent(self) -> float:
        """The share of the time that is gone, from 0 to 1; 0 without a limit."""
        if self._end is None or not self._seconds:
            return 0.0
        return min(1.0, max(0.0, 1 - (self._end - time.monotonic()) / self._seconds))

    @property
    def over(self) -> bool:
        """Whether the time is up. A search then returns what it has."""
        return self._end is not None and time.monotonic() >= self._end

    def keep(self, element: Element) -> None:
        """Remember an element as the best so far."""
        self.best = {name: index.copy() for name, index in element.items()}

    def report(
        self, step: int, value: float, *, restart: int = 0, unit: str = "sweep", of: int = 0
    ) -> None:
        """Tell of a finished step: which one (from 0) of how many (0: unknown), and its value."""
        if self._report is not None:
            self._report(Progress(restart, step, value, unit, of))
