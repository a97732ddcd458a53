"""Say in a sentence or two what a measurement showed."""

from __future__ import annotations

import numpy as np

from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord, PlaneRecord

__all__ = ["verdict_of"]

NEGLIGIBLE = 0.01
"""A barrier below this share of the ends' mean loss is no barrier to speak of."""


def verdict_of(record: Record) -> str:
    """Return what a person should take from a record."""
    return _of_plane(record) if record.kind == "plane" else _of_line(record)


def _of_line(record: Record) -> str:
    """Return the verdict on a line.

    It speaks of the loss on the first split: of the naive barrier and what is left after aligning
    as is, then of the best treatment where that differs, last of the midpoint against its ends.
    """
    split = next(iter(record.task.splits))
    curves = {(c.numbering, c.treatment): c for c in record.curves if c.split == split}
    naive, aligned = (curves.get((numbering, "as is")) for numbering in ("naive", "aligned"))
    if naive is None:
        return "The line was measured only treated; see the table."
    parts = [_removed(record, naive, aligned, split)]
    best = min(
        (c for c in curves.values() if c.numbering == (aligned or naive).numbering),
        key=lambda c: _value(c.entezari.loss.value),
    )
    if best.treatment != "as is" and _differs(best, aligned or naive):
        parts.append(f"With '{best.treatment}' it is {_shown(best.entezari.loss.value)}.")
    parts.append(_midpoint(record, best, split))
    return " ".join(parts)


def _removed(record: Record, naive: CurveRecord, aligned: CurveRecord | None, split: str) -> str:
    before = naive.entezari.loss.value
    if aligned is None:
        return f"The loss barrier on '{split}' is {_shown(before)}; nothing was aligned."
    after = aligned.entezari.loss.value
    change = f"on '{split}': {_shown(before)} → {_shown(after)}"
    if before is None or after is None:
        return f"The loss is not finite somewhere on the line {change}."
    if before <= NEGLIGIBLE * _ends(naive):
        return f"There was hardly a barrier to remove {change}."
    share = next(r.share for r in record.removed if (r.split, r.treatment) == (split, "as is"))
    if share.value is None or after >= before:
        return f"Alignment did not help here {change}."
    percent = f"{100 * share.value:.0f} %"
    if share.low is not None and share.low <= 0:
        return f"Alignment removed {percent} of the loss barrier, which may be chance {change}."
    return f"Alignment removed {percent} of the loss barrier {change}."


def _midpoint(record: Record, best: CurveRecord, split: str) -> str:
    """Compare the middle of the best curve with its ends and the ensemble."""
    middle = best.loss[len(best.loss) // 2]
    better = min(_value(best.loss[0]), _value(best.loss[-1]))
    ensemble = next(
        (b.loss for b in record.baselines if (b.name, b.split) == ("ensemble", split)), None
    )
    against = f"the better end has {_shown(better)}, the ensemble {_shown(ensemble)}"
    if _value(middle) < better:
        return f"The midpoint is better than both ends: loss {_shown(middle)}; {against}."
    return f"The midpoint is no better than its ends: loss {_shown(middle)}; {against}."


def _differs(one: CurveRecord, other: CurveRecord) -> bool:
    return abs(_value(one.entezari.loss.value) - _value(other.entezari.loss.value)) > (
        NEGLIGIBLE * _ends(other)
    )


def _ends(curve: CurveRecord) -> float:
    return (_value(curve.loss[0]) + _value(curve.loss[-1])) / 2


def _value(number: float | None) -> float:
    return float("inf") if number is None else number


def _shown(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.3g}"


def _of_plane(record: Record) -> str:
    """Say how large the hill between the three models is: at their mean, against their ends."""
    split = next(iter(record.task.splits))
    told = []
    for plane in record.planes:
        if plane.split == split:
            centre = np.mean(list(plane.corners.values()), axis=0)
            loss = _nearest(plane, *centre)
            ends = [_nearest(plane, *corner) for corner in plane.corners.values()]
            told.append(f"{plane.numbering} {loss:.3g} (models {min(ends):.3g} to {max(ends):.3g})")
    return f"Loss near the mean of the three models on '{split}': {'; '.join(told)}."


def _nearest(plane: PlaneRecord, x: float, y: float) -> float:
    column = int(np.argmin(np.abs(np.asarray(plane.x) - x)))
    row = int(np.argmin(np.abs(np.asarray(plane.y) - y)))
    loss = plane.loss[row][column]
    return float("nan") if loss is None else loss
