"""Bring the rows of an experiment together: a place of the table is a mean over its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rebasin_hub.experiments.experiment import Column, Row

__all__ = ["finite", "mean_of", "summarize"]


def summarize(rows: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return one row for each place, in the order in which places first appear.

    Its keys are the key columns; `rows`, the number of rows; and for each other column its mean,
    with `_low` and `_high` behind its name its least and largest value. A mean is None where one of
    its values is missing or not finite.
    """
    keys = [column.name for column in columns if column.key]
    places: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        places.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    table = []
    for place, members in places.items():
        found: dict[str, Any] = {**dict(zip(keys, place, strict=True)), "rows": len(members)}
        for column in columns:
            if not column.key:
                found |= _figures(column.name, members)
        table.append(found)
    return table


def mean_of(rows: Sequence[Row], name: str) -> float | None:
    """Return the mean of a figure over rows; None where one of its values is missing."""
    values = [finite(row.get(name)) for row in rows]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def finite(value: object) -> float | None:
    """Return a number, or None if it is none or not finite."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _figures(name: str, rows: Sequence[Row]) -> dict[str, float | None]:
    mean = mean_of(rows, name)
    if mean is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    values = [float(row[name]) for row in rows]
    return {name: mean, f"{name}_low": min(values), f"{name}_high": max(values)}
