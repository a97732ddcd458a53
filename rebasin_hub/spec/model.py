"""What a spec means: the permutations of an architecture and the axes that they renumber."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rebasin_hub.spec.layout import Layout
    from rebasin_hub.spec.pattern import Axis, Pattern, Word
    from rebasin_hub.spec.template import Template

__all__ = ["Ignore", "Line", "Permutation", "Spec"]


@dataclass(frozen=True)
class Permutation:
    """One declaration under `permutations`.

    Args:
        name: the word that stands for it in patterns.
        indices: the name variables that tell its instances apart.
        within: the permutation that it depends on, one instance for each of that one's indices.
        parts: words that stand for its consecutive parts, equal in size unless sizes are given.
        begin: what `name[<i]` stands for at the first index of a chain.
        end: the fixed word that the last instance of a chain is.

    """

    name: str
    indices: tuple[str, ...] = ()
    within: str | None = None
    parts: tuple[str, ...] = ()
    begin: Axis | None = None
    end: str | None = None
    group: Literal["permutation"] = "permutation"


@dataclass(frozen=True)
class Line:
    """One tensor line: which names it describes and what stands on each axis.

    A `statistic` follows the permutations but does not count in weight matching (running means).
    """

    template: Template
    pattern: Pattern
    optional: bool = False
    statistic: bool = False
    key: str = ""
    """The key as written in the file, for messages."""

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.pattern)


@dataclass(frozen=True)
class Ignore:
    """Tensors that hold nothing to renumber, and why."""

    template: Template
    reason: str
    key: str = ""


@dataclass(frozen=True)
class Spec:
    """An architecture's symmetries.

    `sizes` maps words to their source: an integer, an expression over config.json's keys, or None
    (solved from the shapes). `match` and `examples` are data for detection and for proofs,
    `layouts` for conversion.
    """

    name: str
    permutations: Mapping[str, Permutation]
    lines: tuple[Line, ...]
    ignores: tuple[Ignore, ...] = ()
    sizes: Mapping[str, int | str | None] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    description: str = ""
    source: str = ""
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    @cached_property
    def part_of(self) -> Mapping[str, str]:
        """The permutation that each declared part belongs to."""
        return {part: p.name for p in self.permutations.values() for part in p.parts}

    def permutation_of(self, word: Word) -> Permutation | None:
        """Return the permutation that a word stands for, as a whole or in part."""
        whole = word.name if word.name in self.permutations else self.part_of.get(word.name, "")
        return self.permutations.get(whole)

    def variables_renumbered(self, line: Line) -> tuple[str, ...]:
        """Return the name variables of a line that are permutations themselves."""
        return tuple(v for v in line.template.variables if v in self.permutations)
