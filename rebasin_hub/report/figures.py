"""Numbers as people read them, the same in the terminal and in the report."""

from __future__ import annotations

from rebasin_hub.record.model import Figure, Number

__all__ = ["duration", "figure", "number", "percent", "percent_figure", "plain"]

UNKNOWN = "not finite"


def number(value: Number) -> str:
    """Write a loss: four decimals for small ones, four digits for others."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if size != 0 and (size < 0.001 or size >= 100_000):  # noqa: PLR2004
        return f"{value:.1e}"
    return f"{value:.4f}" if size < 10 else f"{value:,.2f}"  # noqa: PLR2004


def percent(value: Number) -> str:
    """Write a share."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def figure(value: Figure) -> str:
    """Write a barrier with its interval."""
    if value.low is None or value.high is None:
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def percent_figure(value: Figure) -> str:
    """Write a share with its interval."""
    if value.value is None or value.low is None or value.high is None:
        return percent(value.value)
    return f"{100 * value.value:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


def plain(text: str) -> str:
    """Escape characters that do not print: names come from files, and they could reorder a line."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
