"""Jobs one after another in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from rebasin_hub.workers.attempt import Function, Outcome, one_thread

__all__ = ["run_here"]


def run_here(function: Function, jobs: Sequence[Any]) -> Generator[tuple[int, Outcome], None, None]:
    """Work on the jobs in their order; a problem is raised as it is, with its traceback."""
    for number, job in enumerate(jobs):
        with one_thread():
            outcome = Outcome(function(job))
        yield number, outcome
