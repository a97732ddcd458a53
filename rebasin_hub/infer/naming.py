"""Find words for groups, after the modules whose tensors they stand on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rebasin_hub.infer.fold import Folded, Line
from rebasin_hub.infer.layout import Layout
from rebasin_hub.spec.check import INTERFACES

__all__ = ["names_of"]

ENDINGS = frozenset({"weight", "bias", "running_mean", "running_var", "gamma", "beta", "kernel"})
RESERVED = INTERFACES | {"_", "scalar", "on", "off", "yes", "no", "true", "false", "null", "y", "n"}
STREAM = 6
"""Lines on which a group stands that is called the stream."""
MAX_LENGTH = 60


def names_of(layout: Layout, folded: Folded) -> dict[int, str]:
    """Return a word for each group that is left after folding, parents first."""
    taken = set(RESERVED) | {v for line in folded.lines for v in line.variables}
    places: dict[int, list[tuple[Line, int]]] = {group: [] for group in folded.members}
    for line in folded.lines:
        for axis, expression in enumerate(line.axes):
            for atom in dict.fromkeys(layout.labels.atoms(expression)):
                if atom in places:
                    places[atom].append((line, axis))
    parents = {g.parent for g in layout.groups.values() if g.parent is not None}
    stream = _stream(layout, folded, places)
    names: dict[int, str] = {}
    for group in sorted(folded.members, key=lambda g: (_depth(layout, g), g)):
        if group == stream:
            word = "stream"
        elif group in parents and layout.groups[group].parent is None:
            word = "head"
        else:
            word = next(_words(places[group]), "hidden")
        names[group] = _new(word, taken)
    return names


def _depth(layout: Layout, group: int) -> int:
    parent = layout.groups[group].parent
    return 0 if parent is None else 1 + _depth(layout, parent)


def _stream(
    layout: Layout, folded: Folded, places: dict[int, list[tuple[Line, int]]]
) -> int | None:
    """Return the group without index that stands on most lines, if these are many."""
    parents = {g.parent for g in layout.groups.values()}
    shared = [
        group
        for group, found in places.items()
        if len(found) >= STREAM and not folded.indices[group] and group not in parents
    ]
    return max(shared, key=lambda g: len(places[g]), default=None)


def _words(places: list[tuple[Line, int]]) -> Iterator[str]:
    """Yield names of modules that write the units of a group: its place on a first axis."""
    for line, axis in sorted(places, key=lambda place: place[1]):
        del axis
        parts = [p for p in line.parts if not p.startswith("{")]
        named = [p for p in parts if p not in ENDINGS and not p.isdigit()]
        numbers = [p for p in parts if p.isdigit()]
        if named:
            yield "_".join(
                [named[-1], *numbers[-1:]] if parts[-2:-1] == numbers[-1:] else [named[-1]]
            )


def _new(word: str, taken: set[str]) -> str:
    """Return a word that is none of those taken, and take it."""
    clean = re.sub(r"\W", "_", word, flags=re.ASCII).strip("_")[:MAX_LENGTH]
    clean = clean if clean[:1].isalpha() else f"hidden_{clean}".strip("_")
    name, number = clean, 2
    while name.lower() in taken:
        name, number = f"{clean}_{number}", number + 1
    taken.add(name.lower())
    return name
