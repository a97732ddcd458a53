"""Functions of a module's level, for workers to import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from rebasin_hub.errors import BindingError, InputError, Mismatch


def product(seed):
    """Return a matrix product whose last bits depend on the number of threads."""
    a, b = np.random.default_rng(seed).standard_normal((2, 300, 700)).astype(np.float32)
    return (a @ b.T).tobytes()


def threads(_job):
    """Return the numbers of threads of all pools, those of a library loaded here among them."""
    import torch
    from threadpoolctl import threadpool_info

    return {info["num_threads"] for info in threadpool_info()} | {torch.get_num_threads()}


def once_killed(job):
    """Note the process, be killed the first time, and return the number's square the second."""
    number, folder = job
    note = folder / f"{number}-{os.getpid()}"
    note.touch()
    if number == 1 and len(list(folder.glob("1-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_killed(job):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def refuse(job):
    if job == 1:
        raise InputError("job 1 cannot be done")
    return job


def misfit(_job):
    raise BindingError("mlp", [Mismatch("missing", "a.weight", "is not there")])


class OddError(Exception):
    """Cannot be made again from its message."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def odd(_job):
    raise OddError(1, 2)


def wait_and_clean(folder: Path):
    """Wait to be interrupted, and say so."""
    started, ended = (folder / f"{os.getpid()}.{end}" for end in ("started", "ended"))
    try:
        started.touch()
        time.sleep(60)
    finally:
        ended.touch()


def process(job):
    """Return which process worked, after a while in which others have their turn."""
    time.sleep(0.3)
    return os.getpid(), job


def on_node(job):
    """Note the Ray node; the first to have number 3 waits there until the node is killed."""
    import ray

    number, folder = job
    (folder / f"{number}-{ray.get_runtime_context().get_node_id()}").touch()
    time.sleep(60 if number == 3 and len(list(folder.glob("3-*"))) == 1 else 0.2)
    return number * number
