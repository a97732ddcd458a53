"""Each model to the first one."""

from __future__ import annotations

from rebasin_hub.align.many.work import Work

__all__ = ["to_reference"]


def to_reference(work: Work) -> tuple[tuple[float, ...], bool]:
    """Align each model to the first one."""
    for number in range(1, len(work.reads)):
        work.step([number], [0])
    return (), True
