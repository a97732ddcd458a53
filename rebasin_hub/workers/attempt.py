"""One job, as every engine runs it: on one thread, with its error as a value."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from rebasin_hub.errors import RebasinError

__all__ = ["TRIES", "Function", "Name", "Outcome", "attempt", "lost", "one_thread"]

Function: TypeAlias = Callable[[Any], Any]
Name: TypeAlias = Callable[[Any], str]

TRIES = 3
"""How often a job is begun whose workers do not live to see its end."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a job: a result, or the problem that it met."""

    result: Any = None
    problem: Exception | None = None


def attempt(function: Function, job: Any) -> Outcome:  # noqa: ANN401
    """Work on a job on one thread; an outcome can be pickled where its result can."""
    try:
        with one_thread():
            return Outcome(function(job))
    except Exception as problem:  # noqa: BLE001 - it is raised where the job was given
        return Outcome(problem=_portable(problem))


def _portable(problem: Exception) -> Exception:
    """Return a problem that can be pickled and raised elsewhere, where the traceback is lost."""
    if not isinstance(problem, RebasinError):
        problem.add_note("".join(traceback.format_exception(problem)))
    try:
        pickle.loads(pickle.dumps(problem))
    except Exception:  # noqa: BLE001 - whatever an exception's own code may raise
        if isinstance(problem, RebasinError):
            return RebasinError(str(problem))
        told = RuntimeError(f"{type(problem).__name__}: {problem}")
        told.add_note("\n".join(problem.__notes__))
        return told
    return problem


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, also in libraries that are loaded meanwhile."""
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in THREADS}
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with threadpool_limits(1):
            if torch is not None:  # it sets its own number again on its first use
                torch.set_num_threads(1)
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch is not None:
            torch.set_num_threads(threads)


def lost(name: str, how: str = "") -> RebasinError:
    """Return the error of a job that no worker survives."""
    return RebasinError(
        f"{name}: its worker was lost {TRIES} times{how}; it may take more memory than there is "
        "(try fewer workers), or a library crashes on it (try --engine serial)"
    )
