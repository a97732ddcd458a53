"""Whether two models fit in memory as a search holds them, or are read again when needed."""

from __future__ import annotations

import os
from pathlib import Path

from rebasin_hub.align.totals import LEAST_ROOM
from rebasin_hub.bind import Binding
from rebasin_hub.tensors import DTYPES

__all__ = ["SHARE", "available", "held", "to_stream"]

SHARE = 0.5
"""Of the memory that is free, how much models may take by themselves; others need some, too."""

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def to_stream(binding: Binding) -> int | None:
    """Return within how many bytes two models are to be aligned; None if they are to be held.

    They are held where that takes no more than a share of the memory that is free (`SHARE`), or
    where the system does not tell how much is free.
    """
    free = available()
    if free is None or held(binding) <= SHARE * free:
        return None
    return int(SHARE * free)


def held(binding: Binding) -> int:
    """Return the bytes of two models in the type that products are made in, and what is beside."""
    counted = [
        info.size * max(4, DTYPES[info.dtype].bits // 8)
        for info in binding.header.values()
        if DTYPES[info.dtype].floating
    ]
    sizes = [factor.size for factor in binding.group.factors.values() if factor.parent is None]
    matrices = min(sum(4 * size**2 for size in sizes), max(LEAST_ROOM, sum(counted)))
    beside = 3 * 8 * max(sizes, default=0) ** 2
    return 2 * sum(counted) + 2 * max(counted, default=0) + matrices + beside


def available() -> int | None:
    """Return the bytes that a program can still take without others being pushed out.

    That is what Linux says, or less where a container may not take as much; elsewhere the pages
    that are free. None where the system does not tell.
    """
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # Windows has no sysconf
            return None
    left = _left_to_container()
    return free if left is None else min(free, left)


def _left_to_container() -> int | None:
    """Return what the limit of the container that this process runs in leaves; None without one."""
    try:
        most = int((CGROUP / "memory.max").read_text())  # `max` where there is no limit
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = {name: int(n) for name, n in (line.split() for line in lines)}
    except (OSError, ValueError):
        return None
    # What files have in memory goes where programs need it.
    return max(0, most - used + cached.get("inactive_file", 0))
