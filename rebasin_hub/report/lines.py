"""Lines of text for people: a key and its value, notes, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from rebasin_hub.report.figures import plain

__all__ = ["cell", "count", "line", "listed", "notes", "size", "some", "write"]

WIDTH = 13
"""Of the column of keys."""


def write(console: Console, text: str) -> None:
    """Print text as it is, without markup; what does not print is escaped."""
    console.print(plain(text), markup=False)


def line(console: Console, key: str, value: object, *, width: int = WIDTH) -> None:
    """Print a key and its value, at least one space apart."""
    console.print(f"[bold]{key:<{width - 1}}[/bold] ", end="")
    write(console, str(value))


def notes(console: Console, told: Iterable[str], *, width: int = WIDTH) -> None:
    """Print what a user should know, each thing once."""
    for note in dict.fromkeys(told):
        console.print(f"[yellow]{'note':<{width}}[/yellow]", end="")
        write(console, note)


def cell(text: str) -> Text:
    """Return a table cell that shows its text as it is, without markup."""
    return Text(plain(text))


def some(names: Sequence[str]) -> str:
    """List three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004
    return ", ".join(names[:3]) + more


def listed(sizes: Mapping[str, int]) -> str:
    """List sizes with the instances of one name together: `embed 384, ff 1536 ×6`."""
    grouped: dict[tuple[str, int], int] = {}
    for key, number in sizes.items():
        name = key.partition("[")[0]
        grouped[name, number] = grouped.get((name, number), 0) + 1
    return ", ".join(
        f"{name} {number}" + (f" ×{times}" if times > 1 else "")
        for (name, number), times in grouped.items()
    )


def size(nbytes: int) -> str:
    """Write a number of bytes with three digits."""
    value, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:  # noqa: PLR2004
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def count(number: int) -> str:
    """Write a number with its thousands apart."""
    return f"{number:,}"
