"""How the methods of aligning are printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebasin_hub.align.method import MethodKind
from rebasin_hub.report.render import LISTS

__all__: list[str] = []


def _all_methods(kinds: Sequence[MethodKind], console: Console) -> None:
    """Print what models can be aligned by, with what can be set and where it is from."""
    table = Table.grid(padding=(0, 2))
    for kind in kinds:
        lines = [kind.summary + (" (needs a task)" if kind.needs == "evidence" else "")]
        if kind.settings:
            lines.append(", ".join(f"{name}={value}" for name, value in kind.settings.items()))
        if kind.source:
            lines.append(kind.source)
        text = Text(lines[0])
        for line in lines[1:]:
            text.append(f"\n{line}", style="dim")
        table.add_row(Text(kind.name, style="bold"), text)
    console.print(table)


LISTS[MethodKind] = _all_methods
