"""Sentences about figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rebasin_hub.experiments.experiment import Column, Row

__all__ = ["cell_text", "first_below", "nats", "percent"]

UNKNOWN = "not finite"


def nats(value: float | None) -> str:
    """Write a loss or a barrier with three decimals."""
    return UNKNOWN if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Write a share of 0 to 1."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def first_below(table: Sequence[Row], x: str, name: str, limit: float) -> Any:  # noqa: ANN401
    """Return the first x from which on a figure never exceeds a limit; None if it does at last."""
    found = None
    for row in reversed(table):
        if row[name] is None or row[name] > limit:
            break
        found = row[x]
    return found


def cell_text(row: Row, column: Column) -> str:
    """Write a place of the table: a mean with its range, where there is more than one value."""
    value = row.get(column.name)
    if column.key or isinstance(value, str):
        return str(value)
    write = percent if column.percent else nats
    if value is None or row.get("rows", 1) == 1:
        return write(value)
    low, high = write(row[f"{column.name}_low"]), write(row[f"{column.name}_high"])
    return write(value) if low == high else f"{write(value)} ({low} – {high})"
