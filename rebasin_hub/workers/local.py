"""Jobs in processes of this machine.

Every worker is a pool of one process. So it is known which job a process was at when it died, no
other job is lost with it, and only that process is started again.

Processes are spawned, not forked: threads and CUDA do not survive a fork. Interrupts reach a worker
only within a job, which then cleans up after itself; the rest of the time it ignores them.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from types import FrameType
from typing import Any

from rebasin_hub.workers.attempt import TRIES, Function, Name, Outcome, attempt, lost

__all__ = ["cores", "run_in_processes"]

NOTICE = 1.0
"""Seconds in which an interrupt is noticed that comes just before waiting begins."""
GRACE = 10.0
"""Seconds that interrupted jobs have to clean up."""


def run_in_processes(
    function: Function, jobs: Sequence[Any], count: int | None, name: Name
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield what became of each job, as it is done; the job of a lost process is begun again.

    Args:
        function: of a module's level.
        jobs: values that can be pickled.
        count: processes; as many as there are cores by default.
        name: of a job, for people.

    Raises:
        RebasinError: a job has lost its process `TRIES` times.

    """
    waiting = deque(range(len(jobs)))
    losses = dict.fromkeys(waiting, 0)
    # Who is at work may not be in `busy` yet when an interrupt comes.
    workers = {_Worker() for _ in range(min(count or cores(), len(jobs)))}
    idle = [*workers]
    busy: dict[Future[Outcome], tuple[_Worker, int]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                worker, number = idle.pop(), waiting.popleft()
                busy[worker.begin(function, jobs[number])] = worker, number
            done = []
            for future in wait(busy, NOTICE, FIRST_COMPLETED).done:
                worker, number = busy.pop(future)
                try:
                    done.append((number, future.result()))
                except BrokenProcessPool as problem:
                    losses[number] += 1
                    if losses[number] == TRIES:
                        raise lost(name(jobs[number]), worker.last_words) from problem
                    waiting.appendleft(number)
                    workers.remove(worker)
                    worker = _Worker()
                    workers.add(worker)
                idle.append(worker)
            yield from done
    finally:
        _end(workers)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A process that works on one job at a time; it starts with the first."""

    def __init__(self) -> None:
        self._context = _Spawn()
        self._pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=_prepare)

    def begin(self, function: Function, job: Any) -> Future[Outcome]:  # noqa: ANN401
        with _interrupts_held():  # a process that is starting inherits this, and dies of none
            return self._pool.submit(_work, function, job)

    @property
    def last_words(self) -> str:
        """How the process ended, as far as it is known."""
        process = self._context.started
        if process is None:
            return ""
        process.join(1)  # it is dead, but who waits for it may come late
        end = time.monotonic() + 1
        while process.exitcode is None and time.monotonic() < end:
            time.sleep(0.01)  # the pool's thread has waited for it, and is about to note its code
        code = process.exitcode or 0
        return f", by {signal.Signals(-code).name}" if code < 0 else ""

    def interrupt(self) -> None:
        """Stop the job, if there is one."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        process = self._context.started
        if process is not None and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)

    def end(self, seconds: float) -> None:
        """Wait for the process to end, and kill it where it takes too long."""
        process = self._context.started
        try:
            if process is not None:
                process.join(seconds)
        finally:
            if process is not None and process.is_alive():
                process.kill()
            self._pool.shutdown()


def _end(workers: Collection[_Worker]) -> None:
    """Stop workers, the idle ones at once."""
    for worker in workers:
        worker.interrupt()
    end = time.monotonic() + GRACE
    for worker in workers:
        worker.end(max(0.0, end - time.monotonic()))


class _Spawn(SpawnContext):
    """Spawns one process, and remembers it."""

    started: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: ANN401, N802
        self.started = SpawnProcess(*args, **kwargs)
        return self.started


@contextmanager
def _interrupts_held() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the worker


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no process behind whose parent was killed: nobody would ever tell it to stop."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(function: Function, job: Any) -> Outcome:  # noqa: ANN401
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return attempt(function, job)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # cleaning up is not to be interrupted as well
    raise KeyboardInterrupt
