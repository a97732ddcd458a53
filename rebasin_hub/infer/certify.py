"""The certificate of an inferred spec: random elements of each group, tried on a running model.

A model with random weights, gains, biases and running statistics runs before and after random
elements of each group. What it computes may change by rounding alone. For every group one of its
tensors is left out in turn as well, which must be noticed: a check that cannot fail proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding, bind
from rebasin_hub.infer.flow import Flow
from rebasin_hub.infer.fold import fold
from rebasin_hub.infer.layout import Layout, find_layout
from rebasin_hub.infer.text import Written, write_spec
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import Header

__all__ = ["Certificate", "Inferred", "Progress", "Runner", "Trial", "infer_spec"]

NOTICED = 1e-6
"""The smallest relative deviation that counts as a change; ten tolerances if that is more."""

CONTROLS = 4
"""Tensors that are left out at most, until one is noticed."""

ROUNDS = 4
"""How often what failed is taken out and the rest is tried again."""

State: TypeAlias = Mapping[str, NDArray[np.generic]]
Progress: TypeAlias = Callable[[str, int, int], None]


class Runner(Protocol):
    """A model that can be run with other tensors.

    `tolerance` is the largest relative deviation that rounding explains.
    """

    @property
    def tolerance(self) -> float:
        """The largest relative deviation of an output that counts as rounding."""
        ...

    @property
    def header(self) -> Header:
        """Names, types and shapes of the tensors."""
        ...

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the tensors."""
        ...

    def randomize(self, kept: Collection[str]) -> None:
        """Overwrite every floating-point tensor but some with random values."""
        ...

    def first_run(self) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with its own tensors."""
        ...

    def run(self, state: State) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with other tensors."""
        ...


@dataclass(frozen=True)
class Trial:
    """What random elements of one declaration did.

    `deviation` is the largest relative deviation of an output; `control` the one that was seen when
    the renumbering was left out on one tensor.
    """

    name: str
    deviation: float
    control: float


@dataclass(frozen=True)
class Certificate:
    """What was tried.

    Args:
        trials: one for each declaration.
        together: the deviation of random elements of the whole group.
        tolerance: what counts as rounding.
        removed: declarations that were taken out, each with its deviation.

    """

    trials: tuple[Trial, ...]
    together: float
    tolerance: float
    removed: Mapping[str, float]

    @property
    def unnoticed(self) -> tuple[str, ...]:
        """The declarations of which no mistake would have been noticed."""
        return tuple(t.name for t in self.trials if t.control <= noticed(self.tolerance))


@dataclass(frozen=True)
class Inferred:
    """A spec, what it was made of, and its certificate where one was asked for."""

    layout: Layout
    written: Written
    certificate: Certificate | None


def infer_spec(
    flow: Flow,
    name: str,
    source: str,
    runner: Runner | None = None,
    *,
    seed: int = 0,
    trials: int = 2,
    progress: Progress | None = None,
) -> Inferred:
    """Write a spec of what the rules found; with a model that runs, certify it.

    Groups that change what the model computes are taken out, and the rest is tried anew. The law:
    the spec that is returned with a certificate keeps what the model computes, up to rounding.

    Args:
        flow: after all rules have run.
        name: the spec's name.
        source: where the graph came from, for people.
        runner: runs the model; None for no certificate.
        seed: of the elements.
        trials: elements tried for each declaration, and for the whole group.
        progress: told of each declaration.

    Raises:
        InputError: a tensor's name cannot stand in a spec, or the model cannot run.

    """
    layout = find_layout(flow)
    written = write_spec(layout, fold(layout), name, source)
    if runner is None:
        return Inferred(layout, written, None)
    runner.randomize(kept=())
    before = runner.first_run()
    rng = np.random.default_rng(seed)
    removed: dict[str, float] = {}
    for _ in range(ROUNDS):
        binding = bind(parse_spec(written.text), runner.header)
        tester = _Tester(runner, binding, before, rng, trials)
        result, failed = tester.certificate(progress)
        if not failed:
            break
        removed |= failed
        atoms = written.factor_of()
        layout = find_layout(flow, frozenset(atoms[factor] for factor in failed))
        written = write_spec(layout, fold(layout), name, source)
    certificate = Certificate(*result, runner.tolerance, removed)
    return Inferred(layout, written, certificate)


@dataclass(eq=False)
class _Tester:
    runner: Runner
    binding: Binding
    before: Mapping[str, NDArray[np.float64]]
    rng: np.random.Generator
    trials: int

    def __post_init__(self) -> None:
        self.state = self.runner.state()

    def certificate(
        self, progress: Progress | None
    ) -> tuple[tuple[tuple[Trial, ...], float], dict[str, float]]:
        """Try every declaration, and return the factors that failed."""
        group = self.binding.group
        declared: dict[str, list[str]] = {}
        for factor in group.factors:
            declared.setdefault(factor.partition("[")[0], []).append(factor)
        found: list[Trial] = []
        failed: dict[str, float] = {}
        for done, (name, factors) in enumerate(declared.items()):
            if progress is not None:
                progress("certifying", done, len(declared))
            trial = self.trial(name, factors)
            found.append(trial)
            if not trial.deviation <= self.runner.tolerance:
                failed |= self.culprits(factors)
        together = 0.0
        if not failed and declared:
            together = self.deviation_of(list(group.factors))
            if not together <= self.runner.tolerance:
                failed = dict.fromkeys(group.factors, together)
        if progress is not None:
            progress("certifying", len(declared), len(declared))
        return (tuple(found), together), failed

    def trial(self, name: str, factors: list[str]) -> Trial:
        return Trial(name, self.deviation_of(factors), self.control(factors))

    def culprits(self, factors: list[str]) -> dict[str, float]:
        """Return those of some factors that fail alone; all, if none does."""
        alone = {factor: self.deviation_of([factor]) for factor in factors}
        failed = {f: d for f, d in alone.items() if not d <= self.runner.tolerance}
        return failed or alone

    def deviation_of(self, factors: list[str]) -> float:
        elements = (self.binding.group.moving(factors, self.rng) for _ in range(self.trials))
        return float(np.max([self.deviation(self.renumbered(e)) for e in elements]))

    def control(self, factors: list[str]) -> float:
        """Return the largest deviation with the renumbering left out on one tensor."""
        element = self.binding.group.moving(factors, self.rng)
        state = self.renumbered(element)
        moved = [
            name
            for name, array in state.items()
            if array is not self.state[name] and not np.array_equal(array, self.state[name])
        ]
        # Matrices first: the bias of a key, for one, makes no difference to a softmax.
        moved.sort(key=lambda name: -self.state[name].ndim)
        largest = 0.0
        for name in moved[:CONTROLS]:
            largest = max(largest, self.deviation({**state, name: self.state[name]}))
            if largest > noticed(self.runner.tolerance):
                break
        return largest

    def renumbered(self, element: Element) -> State:
        read = rearranged(self.binding, element, self.state.__getitem__)
        return {name: read(name) for name in self.state}

    def deviation(self, state: State) -> float:
        """Return the largest deviation of an output, relative to the output's largest value."""
        after = self.runner.run(state)
        return float(
            np.max(
                [
                    np.max(np.abs(after[key] - value)) / np.max(np.abs(value))
                    for key, value in self.before.items()
                ]
            )
        )


def noticed(tolerance: float) -> float:
    """Return the deviation above which a change counts as noticed."""
    return max(NOTICED, 10 * tolerance)
