"""Simulated annealing: swaps of units, taken over by the Metropolis rule.

Entezari, Sedghi, Saukh and Neyshabur, "The role of permutation invariance in linear mode
connectivity of neural networks" (arXiv:2110.06296), section 4 and appendix.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.midpoint import Best, Line, finite, given, require
from rebasin_hub.align.state import State
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element, Index, SymmetryGroup

__all__ = ["AnnealSettings", "Swap", "Walk", "anneal", "metropolis", "temperature"]

NAME = "anneal"
REMEDY = "the models overflow between one another; anneal from another start"
MOVES = ("every", "one")
POINTS = 100
"""Steps of one walk that are reported, at most."""


@dataclass(frozen=True)
class AnnealSettings:
    """Settings of `anneal`.

    steps: moves that are tried, each at the cost of a forward pass of the samples.
    hot, cold: the temperature of the first and of the last step, in the unit of the loss: a move
        that makes it worse by as much is taken over once in e times. (In the paper temperatures are
        25,000 and 2.5, in the unit of an energy that counts mistakes.)
    moves: whether a move swaps two units in `every` permutation, as in the paper, or in `one`.
    samples: fixed ones that the loss is taken on.
    """

    steps: int = 2000
    hot: float = 1e-2
    cold: float = 1e-5
    moves: str = "every"
    samples: int = 1000

    def __post_init__(self) -> None:
        require(NAME, self, steps=0, hot=0, cold=0, samples=1)
        if not 0 < self.cold <= self.hot:
            raise InputError(
                f"{NAME}: it cools from hot={self.hot:g} to cold={self.cold:g}, expected both "
                "above 0 and the second no larger than the first"
            )
        if self.moves not in MOVES:
            raise InputError(f"{NAME}:moves is '{self.moves}', expected {' or '.join(MOVES)}")


def anneal(state: State, options: Options) -> Found:
    """Walk from the start by swaps of units, ever colder, and keep the best place of all walks.

    The energy is the loss at the midpoint of the reference and the renumbered model. There are
    `options.restarts` walks, each from the start, or from the identity without one.

    The law: the loss at the midpoint on the fixed samples is at most that at the start.

    Raises:
        NotFiniteError: the loss became NaN or infinite.

    """
    settings = options.settings
    if not isinstance(settings, AnnealSettings):
        settings = AnnealSettings()
    evidence, models = given(options, NAME)
    group = state.problem.group
    line = Line(evidence, models, samples=settings.samples)
    begin: Element = options.start if options.start is not None else group.identity()
    identity = line.loss(group.identity())
    best = Best(options.watch, begin, finite(line.loss(begin), NAME, 0, REMEDY))
    walks: list[tuple[float, tuple[float, ...]]] = []
    for restart in range(options.restarts):
        if walks and options.watch.over:
            break
        walk = Walk(line, group, begin, best.start, best)
        rng = np.random.default_rng((options.seed, restart))
        walks.append((_cool(walk, settings, options, rng, restart), tuple(walk.history)))
    still = sorted(set(group.factors) - line.move.factors)
    notes = (f"{', '.join(still)}: not seen by the loss, and kept as at the start.",)
    return Found(
        best.element,
        min(walks, key=lambda walk: walk[0])[1],
        tuple(lowest for lowest, _ in walks),
        converged=False,
        goal=best.goal(line.name, identity),
        notes=(*evidence.notes, *(notes if still else ())),
    )


def temperature(step: int, settings: AnnealSettings, spent: float = 0.0) -> float:
    """Return the temperature of a step: geometric from `hot` to `cold`.

    A walk cools by its steps, or by the share of its time that is spent where that is further on:
    a time limit should find it cold.
    """
    share = max(step / max(1, settings.steps - 1), spent)
    return float(settings.hot * (settings.cold / settings.hot) ** share)


def metropolis(rise: float, temperature: float, rng: np.random.Generator) -> bool:
    """Tell whether a move is taken over: always downhill, else with probability exp(−rise/T)."""
    return rise <= 0 or rng.random() < math.exp(-rise / temperature)


def _cool(
    walk: Walk,
    settings: AnnealSettings,
    options: Options,
    rng: np.random.Generator,
    restart: int,
) -> float:
    """Walk while it gets colder, and return the lowest energy on the way."""
    lowest = walk.energy
    every = max(1, settings.steps // POINTS)
    for step in range(settings.steps):
        if options.watch.over:
            break
        now = temperature(step, settings, options.watch.spent)
        walk.step(now, rng, one=settings.moves == "one", number=step)
        lowest = min(lowest, walk.energy)
        if (step + 1) % every == 0:
            walk.history.append(walk.energy)
            options.watch.report(step, walk.energy, restart=restart, unit="step", of=settings.steps)
    return lowest


class Walk:
    """Where a walk stands, and its energy there."""

    def __init__(
        self, line: Line, group: SymmetryGroup, begin: Element, energy: float, best: Best
    ) -> None:
        self.element: dict[str, Index] = {name: index.copy() for name, index in begin.items()}
        self.energy = energy
        self.history = [energy]
        self._line = line
        self._group = group
        self._best = best
        self._families = _movable(group, line.move.factors)

    def step(self, temperature: float, rng: np.random.Generator, *, one: bool, number: int) -> bool:
        """Try one move, and tell whether it was taken over."""
        if not self._families:
            return False
        families = self._families
        if one:
            families = [families[int(rng.integers(len(families)))]]
        swaps = [Swap.draw(self._group, factors, rng) for factors in families]
        for swap in swaps:
            swap.apply(self.element)
        energy = finite(self._line.loss(self.element), NAME, number, REMEDY)
        if metropolis(energy - self.energy, temperature, rng):
            self.energy = energy
            self._best.offer(self.element, energy)
            return True
        for swap in swaps:
            swap.apply(self.element)
        return False


@dataclass(frozen=True)
class Swap:
    """Two indices of a factor change places, with all that depends on them; its own inverse.

    `above` are the indices of the factor's ancestors below which they stand, and `members` the
    factor and those that depend on it.
    """

    members: tuple[str, ...]
    above: tuple[int, ...]
    pair: tuple[int, int]

    @classmethod
    def draw(cls, group: SymmetryGroup, factors: Sequence[str], rng: np.random.Generator) -> Swap:
        """Draw a swap of one of some factors: a factor, where it stands, and two indices."""
        name = factors[int(rng.integers(len(factors)))]
        *ancestors, size = group.shape(name)
        above = tuple(int(rng.integers(n)) for n in ancestors)
        first, second = (int(i) for i in rng.choice(size, size=2, replace=False))
        members = tuple(n for n in group.factors if name in group.lineages[n])
        return cls(members, above, (first, second))

    def apply(self, element: dict[str, Index]) -> None:
        """Change an element in place."""
        i, k = self.pair
        for name in self.members:
            rows = element[name][self.above] if self.above else element[name]
            rows[[i, k]] = rows[[k, i]]


def _movable(group: SymmetryGroup, factors: Collection[str]) -> list[list[str]]:
    """Return each family's factors that a loss sees and that have something to swap."""
    found = (
        [name for name in group.family(root) if name in factors and group.factors[name].size > 1]
        for root in group.roots
    )
    return [family for family in found if family]
