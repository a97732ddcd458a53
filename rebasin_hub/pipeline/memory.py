"""Whether two models fit in memory as a search holds them, or are read again when needed."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from rebasin_hub.align.totals import LEAST_ROOM
from rebasin_hub.bind import Binding
from rebasin_hub.tensors import DTYPES

__all__ = ["SHARE", "available", "held", "to_stream"]

SHARE = 0.5
"""Of the memory that is free, how much models may take by themselves; others need some, too."""

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")

VERSION_2 = "memory.max", "memory.current", "inactive_file"
VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
STATISTICS = "memory.stat"
"""Files of a control group that say its limit and what it uses; a line of the third, what of that
files have."""


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

    That is what Linux says, or less where a container or a job may not take as much; elsewhere the
    pages that are free. None where the system does not tell.
    """
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # Windows has no sysconf
            return None
    left = _left_to_groups()
    return free if left is None else min(free, left)


def _left_to_groups() -> int | None:
    """Return what the limits on this process's control groups leave; None without any.

    A limit holds for all groups below it, so that each one up to the root is asked.
    """
    try:
        own = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
        kinds = {"": VERSION_2, "memory": VERSION_1}
        found = [
            left
            for _, controllers, path in own
            for controller in kinds.keys() & controllers.split(",")
            for group in PurePosixPath(path.lstrip("/"), STATISTICS).parents
            if (left := _left_to(CGROUP / controller / group, *kinds[controller])) is not None
        ]
    except (OSError, ValueError):
        return None
    return min(found, default=None)


def _left_to(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return what the limit of one control group leaves; None if it has no limit, or is not seen.

    Inside a container the way to its group leads nowhere, and the root is the container's own.
    """
    try:
        most = int((group / limit).read_text())  # `max` where there is no limit
        used = int((group / usage).read_text())
        lines = (group / STATISTICS).read_text().splitlines()
        cached = {name: int(n) for name, n in (line.split() for line in lines)}
    except (OSError, ValueError):
        return None
    # What files have in memory goes where programs need it.
    return max(0, most - used + cached.get(cache, 0))
