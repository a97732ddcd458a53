"""Ties that refinement leaves: try each choice, and take the one with the smallest bytes.

Individualization and refinement, as in McKay's nauty: one tied unit is set apart and the colours
are refined again, until every unit is told apart (a leaf). Every choice among tied units gives a
leaf; the smallest certificate over all leaves does not depend on the numbering. Two leaves of one
certificate show a symmetry of the weights, and branches that a symmetry exchanges are tried once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.canonical.energy import Energy
from rebasin_hub.canonical.entries import bits_of
from rebasin_hub.canonical.order import Run, element_of, orders_of, runs
from rebasin_hub.canonical.refine import Bits, Colours, Refiner, inherit, mix, salt
from rebasin_hub.canonical.twins import twin_runs
from rebasin_hub.permute import Element, Index
from rebasin_hub.rearrange import Read, gather, plan

__all__ = ["Search"]

Unit = tuple[int, ...]
Leaves = dict[bytes, dict[str, Index]]
"""Certificate to one element that gives it."""


@dataclass(eq=False)
class Search:
    """The search below one colouring; `exact` turns False when it had to stop early.

    `binding` holds only the tensors that tied units touch; `budget` is the number of colourings
    that may be refined before what is left is taken as stored.
    """

    binding: Binding
    read: Read
    refiner: Refiner
    energies: Mapping[str, Energy]
    budget: int
    exact: bool = True
    symmetries: list[Element] = field(default_factory=list)

    def best(self, colours: Colours) -> dict[str, Index]:
        """Return the element with the smallest certificate below refined colours."""
        colours = self._settle(colours)
        if self._cell(colours) is None:
            return self._sorted(colours)  # nothing to choose from, so no certificate is needed
        leaves = self._leaves(colours)
        return leaves[min(leaves)]

    def _leaves(self, colours: Colours) -> Leaves:
        """Return the leaves below a settled colouring, one for each certificate found."""
        cell = self._cell(colours)
        if cell is None:
            return self._leaf(colours)
        if self.budget <= 0:
            self.exact = False
            return self._leaf(colours)
        name, units = cell
        leaves: Leaves = {}
        tried: list[Unit] = []
        for unit in units:
            if tried and self.budget <= 0:
                self.exact = False
                break
            if self._known(colours, name, tried, unit):
                continue
            child = self._set_apart(colours, name, unit, len(units))
            if not (tried and self._leads_to(leaves, child)):
                leaves |= self._leaves(child)
            tried.append(unit)
        return leaves

    def _leads_to(self, leaves: Leaves, colours: Colours) -> bool:
        """Tell whether the first leaf below a settled colouring is known: that is a symmetry."""
        while self.budget > 0 and (cell := self._cell(colours)) is not None:
            name, units = cell
            colours = self._set_apart(colours, name, units[0], len(units))
        ((certificate, element),) = self._leaf(colours).items()
        if certificate not in leaves:
            return False
        group = self.binding.group
        self.symmetries.append(group.compose(group.invert(leaves[certificate]), element))
        return True

    def _settle(self, colours: Colours) -> Colours:
        """Tell interchangeable units apart in stored order, which changes no byte of any leaf."""
        orders = orders_of(self.energies, colours)
        found = list(runs(colours, orders))
        twins = twin_runs(self.binding, self.read, orders, found) if found else []
        if not twins:
            return colours
        settled: dict[str, Bits] = {name: own.copy() for name, own in colours.items()}
        for run in twins:
            row = settled[run.permutation][run.parent]
            units = orders[run.permutation][run.parent][run.start : run.stop]
            row[units] = mix(row[units] + np.arange(units.size, dtype=np.uint64))
        return inherit(self.binding.group, settled)

    def _cell(self, colours: Colours) -> tuple[str, list[Unit]] | None:
        """Choose the units to try: of the first permutation with ties the smallest class."""
        orders = orders_of(self.energies, colours)
        found = list(runs(colours, orders))
        if not found:
            return None
        name = found[0].permutation

        def rank(run: Run) -> tuple[int, int]:
            first = orders[name][run.parent][run.start]
            return run.stop - run.start, int(colours[name][run.parent][first])

        run = min((run for run in found if run.permutation == name), key=rank)
        units = orders[name][run.parent][run.start : run.stop]
        return name, [(*run.parent, int(unit)) for unit in units]

    def _set_apart(self, colours: Colours, name: str, unit: Unit, size: int) -> Colours:
        """Give one unit of a class of `size` a colour of its own, refine and settle."""
        self.budget -= 1
        group = self.binding.group
        apart = {**colours, name: colours[name].copy()}
        apart[name][unit] = mix(apart[name][unit][None] + salt("apart", size))[0]
        return self._settle(self.refiner.refine(apart, set(group.family(name))))

    def _known(self, colours: Colours, name: str, tried: list[Unit], unit: Unit) -> bool:
        """Tell whether known symmetries of this colouring lead from a tried unit to this one."""
        symmetries = [s for s in self.symmetries if self._keeps(s, colours)]
        reached, waiting = set(tried), list(tried)
        while waiting:
            here = waiting.pop()
            for symmetry in symmetries:
                there = self._image(symmetry, name, here)
                if there not in reached:
                    reached.add(there)
                    waiting.append(there)
        return unit in reached

    def _keeps(self, symmetry: Element, colours: Colours) -> bool:
        group = self.binding.group
        return all(
            np.array_equal(own[group.sources(symmetry, name)], own) for name, own in colours.items()
        )

    def _image(self, symmetry: Element, name: str, unit: Unit) -> Unit:
        lineage = self.binding.group.lineages[name]
        return tuple(int(symmetry[one][unit[:depth]]) for depth, one in enumerate(lineage, 1))

    def _leaf(self, colours: Colours) -> Leaves:
        element = self._sorted(colours)
        certificate = hashlib.sha256()
        for step in plan(self.binding, element).values():
            renumbered = np.ascontiguousarray(gather(step.index, self.read(step.source)))
            certificate.update(bits_of(renumbered).data)
        return {certificate.digest(): element}

    def _sorted(self, colours: Colours) -> dict[str, Index]:
        """Return the element that sorts by colour (what is still tied, in stored order)."""
        return element_of(self.binding.group, orders_of(self.energies, colours))
