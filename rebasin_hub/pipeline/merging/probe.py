"""How fast this machine is, from a tenth of a second of work: enough to say "about"."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rebasin_hub.assign import solve_assignment
from rebasin_hub.merge import combine

__all__ = ["Speed", "probe"]

READ = 8 << 20
HASHED = 4 << 20
PRODUCT = 384
PAIRED = 128
MERGED = 1 << 18
LEAST_READ = 1 << 16
REPEATS = 3
NOMINAL_READ = 1e9
"""Bytes a second, where the file is too small to tell."""


@dataclass(frozen=True)
class Speed:
    """What the machine does in a second, on the CPU.

    read and hashed in bytes, product in floating-point operations (float32), merged in elements
    of one model; `pairing` is the time of a linear assignment of n, over n³, in seconds.
    """

    read: float
    hashed: float
    product: float
    pairing: float
    merged: float


def probe(file: Path) -> Speed:
    """Measure this machine's speed, reading a few megabytes from the middle of a file at most."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(PRODUCT, PRODUCT)).astype(np.float32)
    similarity = rng.normal(size=(PAIRED, PAIRED))
    block = bytes(HASHED)
    models = [rng.normal(size=MERGED).astype(np.float32) for _ in range(2)]
    solve_assignment(np.ones((2, 2)))  # SciPy is loaded now, which is no part of the speed
    return Speed(
        read=_read_speed(file),
        hashed=HASHED / _seconds(lambda: hashlib.sha256(block)),
        product=2 * PRODUCT**3 / _seconds(lambda: a @ a),
        pairing=_seconds(lambda: solve_assignment(similarity, certify=False)) / PAIRED**3,
        merged=2 * MERGED / _seconds(lambda: combine(models, (0.5, 0.5), method="linear")),
    )


def _read_speed(file: Path) -> float:
    size = file.stat().st_size
    wanted = min(READ, size // 4)
    if wanted < LEAST_READ:
        return NOMINAL_READ

    def read() -> None:
        with file.open("rb", buffering=0) as source:
            source.seek(size // 2)
            source.read(wanted)

    return wanted / max(_once(read), 1e-9)  # once: a second time it would come from memory


def _seconds(work: Callable[[], object]) -> float:
    """Return how long work takes: the best of a few, which other programs disturb least."""
    return max(min(_once(work) for _ in range(REPEATS)), 1e-9)


def _once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
