"""Jobs on a Ray cluster: one that runs already, or one of this machine alone."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebasin_hub import __version__
from rebasin_hub.errors import InputError, MissingExtraError, RebasinError
from rebasin_hub.workers.attempt import TRIES, Function, Name, Outcome, attempt, lost
from rebasin_hub.workers.local import GRACE, cores

__all__ = ["run_on_cluster"]


def run_on_cluster(
    function: Function, jobs: Sequence[Any], count: int | None, address: str | None, name: Name
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield what became of each job, as it is done; Ray repeats what was on a lost node.

    Args:
        function: of a module that all nodes have.
        jobs: values that can be pickled; paths in them lead to the same files on all nodes.
        count: jobs at a time; as many as the cluster has CPUs by default.
        address: `ray://HOST:PORT`; by default that of the environment's RAY_ADDRESS, and without
            one a cluster is started for these jobs.
        name: of a job, for people.

    Raises:
        MissingExtraError: ray is not installed.
        InputError: there is no cluster at the address.
        RebasinError: a job has lost its worker `TRIES` times, or a node has another version.

    """
    try:
        import ray
    except ModuleNotFoundError as problem:
        if problem.name != "ray":
            raise
        raise MissingExtraError("the engine 'ray'", "ray") from problem
    with _joined(ray, address, count):
        remote = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_on_node)
        waiting = iter(range(len(jobs)))
        here = _Here(__version__, str(Path.cwd()))
        busy: dict[Any, int] = {}

        def begin(most: int) -> None:
            for _, number in zip(range(most), waiting, strict=False):
                busy[remote.remote(here, function, jobs[number])] = number

        try:
            begin(count or len(jobs))
            while busy:
                with redirect_stdout(sys.stderr):  # Ray prints what befalls its nodes
                    (ready,), _ = ray.wait(list(busy), num_returns=1)
                number = busy.pop(ready)
                outcome = _fetched(ray, ready, name(jobs[number]))
                begin(1)
                yield number, outcome
        finally:
            _stop(ray, list(busy))


@dataclass(frozen=True)
class _Here:
    """What a node should have in common with the program that gave the jobs."""

    version: str
    folder: str


def _on_node(there: _Here, function: Function, job: Any) -> Outcome:  # noqa: ANN401
    if there.version != __version__:
        return Outcome(
            problem=RebasinError(
                f"the Ray node {platform.node()} has rebasin-hub {__version__}, not "
                f"{there.version}; install the same on all nodes"
            )
        )
    with suppress(OSError):  # then only whole paths can be found
        os.chdir(there.folder)
    return attempt(function, job)


def _fetched(ray: Any, reference: Any, name: str) -> Outcome:  # noqa: ANN401
    errors = ray.exceptions
    try:
        outcome: Outcome = ray.get(reference)
    except errors.RayTaskError as problem:  # not even `attempt` could be called
        raise RebasinError(
            f"{name}: a Ray worker cannot begin it ({problem.cause}); all nodes need rebasin-hub "
            f"{__version__} with the same extras"
        ) from problem
    except errors.RayError as problem:
        raise lost(name) from problem
    return outcome


def _stop(ray: Any, references: list[Any]) -> None:  # noqa: ANN401
    """Interrupt jobs, and leave them some time to clean up."""
    if not references:
        return
    for reference in references:
        ray.cancel(reference)
    ray.wait(references, num_returns=len(references), timeout=GRACE)


@contextmanager
def _joined(ray: Any, address: str | None, count: int | None) -> Iterator[None]:  # noqa: ANN401
    """Belong to a cluster; one that this process belongs to already is left as it is."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    found = address or os.environ.get("RAY_ADDRESS")
    own = {} if found else {"num_cpus": count or cores(), "include_dashboard": False}
    try:
        ray.init(found or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError, ImportError) as problem:
        where = f"cannot join the Ray cluster at {found}" if found else "cannot start Ray"
        raise InputError(f"{where}: {str(problem).strip().splitlines()[0]}") from problem
    try:
        yield
    finally:
        ray.shutdown()
