"""Processes that examine one class each, with limits on time and memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

__all__ = ["Row", "first_line", "run"]

SECONDS = 120
"""Of processor time, for one class."""
PATIENCE = 40
"""Times as long it may take by the clock, which on a busy machine says little."""
MEMORY = 8 << 30

Row: TypeAlias = dict[str, Any]
Examine: TypeAlias = Callable[[str, str], Row]


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:300]


def child(examine: Examine, pipe: Connection, model_type: str, name: str) -> None:
    """Examine one class under limits, and send the row."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        row = examine(model_type, name)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        row = {
            "class": name,
            "model_type": model_type,
            "outcome": "failed",
            "stage": "crash",
            "reason": first_line(error),
        }
    pipe.send(row)
    pipe.close()


@dataclass(eq=False)
class Worker:
    """A process that examines one class."""

    process: Any
    pipe: Connection
    model_type: str
    name: str
    deadline: float

    def row(self) -> Row:
        """Return what it sent, or why it sent nothing."""
        base = {"class": self.name, "model_type": self.model_type, "outcome": "failed"}
        try:
            return dict(self.pipe.recv()) if self.pipe.poll() else self.ended(base)
        except EOFError:
            return self.ended(base)

    def ended(self, base: Row) -> Row:
        """Return why a process sent nothing; one that takes too long is ended."""
        if self.process.is_alive() and time.monotonic() > self.deadline:
            self.process.kill()
        self.process.join()
        code = self.process.exitcode
        if code in {-9, -24}:
            return base | {"stage": "time", "reason": f"takes more than {SECONDS} s"}
        return base | {"stage": "crash", "reason": f"the process ended with {code}"}


def run(examine: Examine, wanted: list[tuple[str, str]], workers: int) -> Iterator[Row]:
    """Yield a row for each model type and class as it comes; libraries must be loaded before."""
    context = multiprocessing.get_context("fork")
    queue = list(reversed(wanted))
    busy: list[Worker] = []
    while queue or busy:
        while queue and len(busy) < workers:
            model_type, name = queue.pop()
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(examine, there, model_type, name))
            process.start()
            there.close()
            deadline = time.monotonic() + PATIENCE * SECONDS
            busy.append(Worker(process, here, model_type, name, deadline))
        ready = wait([w.pipe for w in busy], timeout=1)
        for worker in list(busy):
            if worker.pipe in ready or time.monotonic() > worker.deadline:
                yield worker.row()
                worker.process.join()
                busy.remove(worker)
