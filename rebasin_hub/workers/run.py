"""Who works on jobs: an engine by name, and how many workers of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from rebasin_hub.errors import InputError
from rebasin_hub.workers.attempt import Function, Name, Outcome

__all__ = ["ENGINES", "Workers"]

Job = TypeVar("Job")
Result = TypeVar("Result")
Outcomes: TypeAlias = Generator[tuple[int, Outcome], None, None]
Engine: TypeAlias = Callable[[Function, Sequence[Any], "Workers", Name], Outcomes]
AUTO = "auto"


@dataclass(frozen=True)
class Workers:
    """An engine of `ENGINES`, and the number of its workers; wrong ones are refused at once.

    engine: `auto` is `local` for two workers or more and `serial` otherwise; `ray://HOST:PORT` is
        the engine `ray` with the address of a cluster.
    count: by default one for each core (`local`) or CPU of the cluster (`ray`).

    Raises:
        InputError: there is no such engine, or the number is none that it can have.

    """

    engine: str = AUTO
    count: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.address is None and self.engine not in {AUTO, *ENGINES}:
            raise InputError(
                f"engine '{self.engine}' is none of {AUTO}, {', '.join(ENGINES)}, "
                "ray://HOST:PORT; choose one"
            )
        if self.count is not None and self.count < 1:
            raise InputError(f"workers is {self.count}, expected 1 or more")
        if self.engine == "serial" and self.count not in {None, 1}:
            raise InputError(f"the engine 'serial' has one worker, not {self.count}; take 'local'")

    @property
    def address(self) -> str | None:
        """The address of a Ray cluster, where the engine names one."""
        return self.engine if self.engine.startswith("ray://") else None

    @property
    def chosen(self) -> str:
        """The key of `ENGINES`."""
        if self.engine == AUTO:
            return "serial" if self.count in {None, 1} else "local"
        return "ray" if self.address else self.engine

    def run(
        self,
        function: Callable[[Job], Result],
        jobs: Sequence[Job],
        *,
        progress: Callable[[int, int], None] | None = None,
        name: Callable[[Job], str] = str,
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the number of each job with its result, in the order in which they are done.

        Args:
            function: works on one job, on one thread. It belongs to a module's level and depends
                on nothing but the job and files.
            jobs: values that can be pickled, small: what is large is named by its path.
            progress: told how many jobs are done, of how many.
            name: of a job, for people.

        A worker that is lost (killed, out of memory, with its machine) has its job begun again
        elsewhere, so that a job may leave nothing half-done where it is stopped. The laws: every
        job is yielded once; its result is the same for every engine and number of workers. Closing
        the generator interrupts the jobs that run.

        Raises:
            RebasinError: a job has lost its worker too many times; or what the function raises.
            InputError: the cluster cannot be joined.
            MissingExtraError: ray is not installed.

        """
        with closing(ENGINES[self.chosen](function, jobs, self, name)) as outcomes:
            for done, (number, outcome) in enumerate(outcomes, 1):
                if outcome.problem is not None:
                    raise outcome.problem
                if progress is not None:
                    progress(done, len(jobs))
                yield number, outcome.result


def _serial(function: Function, jobs: Sequence[Any], _workers: Workers, _name: Name) -> Outcomes:
    from rebasin_hub.workers.serial import run_here

    return run_here(function, jobs)


def _local(function: Function, jobs: Sequence[Any], workers: Workers, name: Name) -> Outcomes:
    from rebasin_hub.workers.local import run_in_processes

    return run_in_processes(function, jobs, workers.count, name)


def _ray(function: Function, jobs: Sequence[Any], workers: Workers, name: Name) -> Outcomes:
    from rebasin_hub.workers.cluster import run_on_cluster

    return run_on_cluster(function, jobs, workers.count, workers.address, name)


ENGINES: Mapping[str, Engine] = {"serial": _serial, "local": _local, "ray": _ray}
"""`serial`: in this process; `local`: in processes of this machine; `ray`: on a Ray cluster."""
