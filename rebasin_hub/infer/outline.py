"""What two graphs have in common that compute the same function of other weights."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

__all__ = ["Outline"]


@dataclass(frozen=True)
class Outline:
    """Everything of a graph but the values of its weights, part by part.

    `parts` holds for each what people call it, and all that it says. Names of nodes, texts for
    people, and what the graph says of shapes inside it do not count.
    """

    parts: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of the parts, in hexadecimal: equal for two files of one graph."""
        found = hashlib.sha256()
        for place, content in self.parts:
            found.update(f"{place}:{len(content)}:".encode())
            found.update(content)
        return found.hexdigest()

    def difference(self, other: Outline) -> str | None:
        """Return what the first difference to another graph is; None where there is none."""
        for mine, theirs in itertools.zip_longest(self.parts, other.parts):
            if mine == theirs:
                continue
            if mine is None or theirs is None:
                place, which = (theirs or mine)[0], "second" if mine is None else "first"
                return f"{place} is in the {which} alone"
            if mine[0] != theirs[0]:
                return f"{mine[0]} against {theirs[0]}"
            return f"{mine[0]} says something else there"
        return None
