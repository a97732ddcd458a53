"""The result of inference: groups, what stands on the axes of stored tensors, what is fixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rebasin_hub.infer.flow import Flow
from rebasin_hub.infer.labels import Labels, Reason
from rebasin_hub.infer.nested import find_parents
from rebasin_hub.infer.step import Axes

__all__ = ["Fixed", "Group", "Layout", "find_layout"]

FEWEST = 2
"""Matrix axes on which a permutation stands at least; on one alone it would be seen outside."""

ALONE = Reason("stands on one axis alone, or on vectors only", "")
UNREAD = Reason("the graph does not read this tensor", "")


@dataclass(frozen=True)
class Group:
    """One permutation: its size, and the group that it depends on."""

    size: int
    parent: int | None = None


@dataclass(frozen=True)
class Fixed:
    """A part of an axis that stays: `size` indices of it, and why."""

    tensor: str
    axis: int
    size: int
    reason: Reason


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything that was found about a graph.

    Args:
        groups: by the number of their atom.
        axes: for every stored tensor what stands on its axes, in normal form; atoms that are no
            group stay.
        statistics: the stored tensors that are running statistics.
        fixed: what stays, with the reason.
        flow: what the rules found of all values.

    """

    groups: Mapping[int, Group]
    axes: Mapping[str, Axes]
    statistics: frozenset[str]
    fixed: tuple[Fixed, ...]
    flow: Flow

    @property
    def labels(self) -> Labels:
        """The atoms."""
        return self.flow.labels

    @cached_property
    def share(self) -> float:
        """The share of floating-point elements that lie on a renumbered axis."""
        stored = self.flow.graph.stored
        total = moved = 0
        for name, axes in self.axes.items():
            tensor = stored[name]
            if tensor.floating:
                size = 1
                for n in tensor.shape:
                    size *= n
                total += size
                moved += size * any(a in self.groups for e in axes for a in self.labels.atoms(e))
        return moved / total if total else 0.0


def find_layout(flow: Flow, failed: frozenset[int] = frozenset()) -> Layout:
    """Sum up what the rules found.

    Args:
        flow: after all rules have run.
        failed: atoms that must not be renumbered, since a certificate said so.

    """
    labels, stored = flow.labels, flow.graph.stored
    for atom in failed:
        labels.fix(((atom,),), Reason("renumbering it changed what the model computes", ""))
    axes = {
        name: tuple(
            map(labels.normal, flow.axes_of(tensor.value))
            if tensor.value is not None
            else (labels.atom(n, UNREAD) for n in tensor.shape)
        )
        for name, tensor in stored.items()
    }
    statistics = frozenset(name for name, tensor in stored.items() if tensor.statistic)
    free = _free(labels, axes, statistics)
    parents = find_parents(labels, flow.records, list(axes.values()), free)
    groups = {atom: Group(labels.sizes[atom], parents.get(atom)) for atom in sorted(free)}
    return Layout(groups, axes, statistics, tuple(_fixed(labels, axes, groups)), flow)


def _free(labels: Labels, axes: Mapping[str, Axes], statistics: frozenset[str]) -> frozenset[int]:
    """Return the atoms that stand on enough axes, and are not fixed."""
    places: dict[int, int] = {}
    for name, expressions in axes.items():
        counts = len(expressions) > 1 and name not in statistics
        for atom in itertools.chain.from_iterable(map(labels.atoms, expressions)):
            places[atom] = places.get(atom, 0) + counts
    return frozenset(
        atom for atom, count in places.items() if count >= FEWEST and labels.reasons[atom] is None
    )


def _fixed(
    labels: Labels, axes: Mapping[str, Axes], groups: Mapping[int, Group]
) -> Iterator[Fixed]:
    for name, expressions in axes.items():
        for axis, expression in enumerate(expressions):
            for atom in dict.fromkeys(labels.atoms(expression)):
                if atom not in groups:
                    reason = labels.reasons[atom] or ALONE
                    yield Fixed(name, axis, labels.sizes[atom], reason)
