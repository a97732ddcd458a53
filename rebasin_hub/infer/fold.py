"""Fold tensors whose names differ by a number, and whose axes are alike, into templates.

Numbers are taken from the outside to the inside: `layers.3.experts.1.up` is folded over `layers`
first, and what is left of one layer over `experts`. Groups that stand on the tensors of one number
alone become indexed. Numbers whose tensors are different from those of the others keep their lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from rebasin_hub.infer.labels import Expression, Factor, Labels
from rebasin_hub.infer.layout import Group, Layout
from rebasin_hub.infer.step import Axes

__all__ = ["Folded", "Line", "fold"]

NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Line:
    """One line of a spec: the parts of its name between dots, and what stands on its axes."""

    parts: tuple[str, ...]
    axes: Axes
    statistic: bool

    @property
    def name(self) -> str:
        """The template."""
        return ".".join(self.parts)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the name."""
        return tuple(p[1:-1] for p in self.parts if p.startswith("{"))


@dataclass(frozen=True)
class Folded:
    """The lines of a spec, and for each group that is left the groups that it stands for.

    Args:
        lines: in the order of the checkpoint.
        indices: for each group left the variables that index it.
        members: for each group left the groups that it stands for, by the values of its indices.

    """

    lines: tuple[Line, ...]
    indices: Mapping[int, tuple[str, ...]]
    members: Mapping[int, Mapping[tuple[int, ...], int]]


def fold(layout: Layout) -> Folded:
    """Write a layout with as few lines as names with numbers allow."""
    folder = _Folder(layout)
    while folder.step():
        pass
    return Folded(
        tuple(folder.lines),
        {g: tuple(v) for g, v in folder.indices.items()},
        folder.members,
    )


@dataclass(eq=False)
class _Folder:
    layout: Layout
    lines: list[Line] = field(default_factory=list)
    indices: dict[int, list[str]] = field(default_factory=dict)
    members: dict[int, dict[tuple[int, ...], int]] = field(default_factory=dict)
    done: set[tuple[str, ...]] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.labels: Labels = self.layout.labels
        self.groups: Mapping[int, Group] = self.layout.groups
        self.indices = {group: [] for group in self.groups}
        self.members = {group: {(): group} for group in self.groups}
        self.lines = [
            Line(tuple(name.split(".")), axes, name in self.layout.statistics)
            for name, axes in self.layout.axes.items()
        ]

    def step(self) -> bool:
        """Fold over the outermost number that was not looked at; tell whether there was one."""
        slots = [
            line.parts[:at]
            for line in self.lines
            for at, part in enumerate(line.parts)
            if NUMBER.fullmatch(part) and line.parts[:at] not in self.done
        ]
        if not slots:
            return False
        slot = min(slots, key=len)
        self.done.add(slot)
        self.fold_over(slot)
        return True

    def fold_over(self, slot: tuple[str, ...]) -> None:
        depth = len(slot)
        of_number: dict[int, list[Line]] = {}
        outside: set[int] = set()
        for line in self.lines:
            if self.numbered(line, slot):
                of_number.setdefault(int(line.parts[depth]), []).append(line)
            else:
                outside |= set(self.groups_of(line))
        local = self.local_groups(of_number, outside)
        described = {
            number: _Description(self, local, number).of(lines, depth)
            for number, lines in of_number.items()
        }
        common, count = Counter(text for text, _ in described.values()).most_common(1)[0]
        alike = {n: order for n, (text, order) in described.items() if text == common}
        if count > 1 and not self.crosses(slot, of_number[min(alike)]):
            self.replace(slot, of_number, alike)

    def numbered(self, line: Line, slot: tuple[str, ...]) -> bool:
        """Tell whether a name goes on with a number behind some parts."""
        depth = len(slot)
        return (
            len(line.parts) > depth
            and line.parts[:depth] == slot
            and NUMBER.fullmatch(line.parts[depth]) is not None
        )

    def groups_of(self, line: Line) -> Iterator[int]:
        for axis in line.axes:
            yield from (atom for atom in self.labels.atoms(axis) if atom in self.groups)

    def local_groups(self, of_number: dict[int, list[Line]], outside: set[int]) -> dict[int, int]:
        """Return the groups that stand on tensors of one number alone, each with the number."""
        found: dict[int, int] = {}
        shared = set(outside)
        for number, lines in of_number.items():
            for group in {g for line in lines for g in self.groups_of(line)}:
                if found.setdefault(group, number) != number:
                    shared.add(group)
        return {group: number for group, number in found.items() if group not in shared}

    def crosses(self, slot: tuple[str, ...], lines: list[Line]) -> bool:
        """Tell whether a name could fit a template over a number and another that says no less.

        `head.{head}.0` and `head.5.{n}` both fit `head.5.0`; the numbers of one keep their lines.
        """
        if not any(map(NUMBER.fullmatch, slot)):
            return False
        others: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for line in self.lines:
            if line.variables:
                others.setdefault(_skeleton(line.parts), []).append(line.parts)
        return any(
            _cross(template, other)
            for line in lines
            for template in [(*slot, "{}", *line.parts[len(slot) + 1 :])]
            for other in others.get(_skeleton(template), ())
        )

    def replace(
        self,
        slot: tuple[str, ...],
        of_number: dict[int, list[Line]],
        alike: dict[int, list[int]],
    ) -> None:
        """Put one template in the place of the lines of all numbers that are alike."""
        depth, variable = len(slot), self.new_variable(slot)
        first = min(alike)
        for group, *others in zip(*(alike[n] for n in sorted(alike)), strict=True):
            self.indices[group].append(variable)
            old = [self.members.pop(g) for g in (group, *others)]
            self.members[group] = {
                (*index, number): member
                for number, members in zip(sorted(alike), old, strict=True)
                for index, member in members.items()
            }
            for other in others:
                del self.indices[other]
        gone = {line.parts for n in alike if n != first for line in of_number[n]}
        templates = {line.parts for line in of_number[first]}
        self.lines = [
            Line((*slot, f"{{{variable}}}", *line.parts[depth + 1 :]), line.axes, line.statistic)
            if line.parts in templates
            else line
            for line in self.lines
            if line.parts not in gone
        ]

    def new_variable(self, slot: tuple[str, ...]) -> str:
        """Return a name for the numbers behind some parts: `layers` are counted by `layer`."""
        words = [re.sub(r"\W", "_", p).rstrip("0123456789") for p in slot if p[:1] != "{"]
        last = words[-1] if words else "n"
        word = {"h": "layer", "": "n"}.get(last, last.removesuffix("s") or last)
        word = word if word[0].isalpha() else f"n{word}"
        name, number = word, 2
        while name in self.variables:
            name, number = f"{word}_{number}", number + 1
        self.variables.add(name)
        return name


def _skeleton(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name without its numbers and variables."""
    return tuple("" if p.startswith("{") or NUMBER.fullmatch(p) else p for p in parts)


def _cross(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether a name fits both of two templates, each of which says a number of its own."""
    differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    variable = [(a.startswith("{"), b.startswith("{")) for a, b in differing]
    return (False, False) not in variable and {(True, False), (False, True)} <= set(variable)


@dataclass(eq=False)
class _Description:
    """What stands on the tensors of one number, in words that are the same for equal structure."""

    folder: _Folder
    local: Mapping[int, int]
    number: int
    order: list[int] = field(default_factory=list)

    def of(self, lines: list[Line], depth: int) -> tuple[Hashable, list[int]]:
        """Return the description, and the local groups in the order of their appearance."""
        described = tuple(
            (line.parts[depth + 1 :], line.statistic, tuple(map(self.axis, line.axes)))
            for line in sorted(lines, key=lambda line: line.parts[depth + 1 :])
        )
        return (described, tuple(map(self.group, self.order))), self.order

    def axis(self, expression: Expression) -> Hashable:
        return tuple(tuple(map(self.factor, term)) for term in expression)

    def factor(self, factor: Factor) -> Hashable:
        if not isinstance(factor, int):
            return self.axis(factor)
        if factor not in self.folder.groups:
            return "fixed", self.folder.labels.sizes[factor]
        return self.named(factor)

    def named(self, group: int) -> Hashable:
        if self.local.get(group) != self.number:
            return "shared", group
        if group not in self.order:
            self.order.append(group)
        return "own", self.order.index(group)

    def group(self, group: int) -> Hashable:
        found = self.folder.groups[group]
        parent = None if found.parent is None else self.named(found.parent)
        return found.size, parent, tuple(self.folder.indices[group])
