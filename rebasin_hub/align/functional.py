"""Functional matching: units are partners if putting one for the other changes little.

He, Zhou and Thiele, "Multi-Task Zipping via Layer-wise Neuron Sharing" (NeurIPS 2018), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rebasin_hub.align.activation import SHOWN
from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family, View, families, operand
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.metric import Layer, Metrics, layers_of
from rebasin_hub.align.moments import evidence_in
from rebasin_hub.align.nested import solve_family
from rebasin_hub.align.result import Goal
from rebasin_hub.align.similarity import Operand
from rebasin_hub.align.starts import outward
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import match_weights, update
from rebasin_hub.errors import InputError

__all__ = ["Functional", "match_functional"]


@dataclass(frozen=True)
class Functional:
    """Settings of functional matching.

    samples: how many are looked at, at most.
    ridge: is added to the second moment of each input, as a share of their mean. With few samples
        or narrow layers much is needed; a large one leaves the plain distance of the weights.
    """

    samples: int = 5000
    ridge: float = 1.0


def match_functional(state: State, options: Options) -> Found:
    """Find the element for which merging matched units loses least of what they compute.

    The cost of matching unit i of A with unit j of B is ½ Δᵀ (H_A⁻¹ + H_B⁻¹)⁻¹ Δ: Δ is the
    difference of their incoming weights and biases, H the second moment of their layer's inputs,
    B's numbered as they are by now. From the network's inputs outward, layer by layer, the
    incoming weights of a permutation decide on it; sweeps go on until nothing changes. Of a
    convolution each position of the kernel counts as inputs of its own.

    Costs of different elements cannot be compared, as inputs that are mismatched make them small.
    So the goal is the mean over the layers of how far matched units are apart on the inputs of
    both models, from 0 to about 1, and the element where it was least is returned.

    Permutations that no such layer computes are matched by their weights alone.

    The law: the goal is no higher than at the start.
    """
    settings: Functional = options.settings
    if not settings.ridge >= 0:
        raise InputError(f"functional:ridge is {settings.ridge}; expected 0 or more")
    evidence, models = evidence_in(options)
    features = evidence.features(
        models.read_a, models.read_b, samples=settings.samples, seed=options.seed, within=True
    )
    layers = layers_of(state.problem, features)
    if not layers:
        found = match_weights(state, options)
        note = "No layer's inputs could be looked at: the weights decide everywhere."
        return Found(
            found.element,
            found.history,
            found.restarts,
            found.converged,
            notes=(*found.notes, note),
        )
    search = _Search(
        state, layers, Metrics(state.problem.group, settings.ridge, state.problem.backend)
    )
    return search.run(options)


class _Search:
    """A sequence of sweeps, of which the best point is kept."""

    def __init__(self, state: State, layers: Sequence[Layer], metrics: Metrics) -> None:
        self.state = state
        self.layers = {layer.weight: layer for layer in layers}
        self.metrics = metrics
        self.norms = [self._norm(layer) for layer in layers]
        self.families = families(state.problem)
        self.views = {
            family.root: [view for view in family.views if self._computes(view)]
            for family in self.families
        }

    def _computes(self, view: View) -> bool:
        """Tell whether a view moves the units that a layer computes, and no inputs of it."""
        layer = self.layers.get(view.term)
        return layer is not None and set(view.active) <= set(layer.outputs)

    def run(self, options: Options) -> Found:
        """Sweep until nothing changes."""
        state, watch = self.state, options.watch
        identity = self.difference()
        if options.start is not None:
            state.jump(options.start)
        history = [self.difference()]
        best, least = dict(state.element), history[0]
        watch.keep(best)
        if options.start is None:
            outward(state, self.families)
        converged = False
        recent = [dict(state.element)]
        for sweep in range(options.max_sweeps):
            if watch.over:
                break
            self._sweep(first=sweep == 0 and options.start is None)
            history.append(self.difference())
            watch.report(sweep, history[-1])
            if history[-1] < least:
                best, least = dict(state.element), history[-1]
                watch.keep(best)
            # A sweep back to where the one before started would only repeat both.
            if any(state.problem.group.equal(state.element, old) for old in recent):
                converged = True
                break
            recent = [*recent[-1:], dict(state.element)]
        goal = Goal("functional difference of matched units", identity, history[0], least)
        return Found(best, tuple(history), (least,), converged, goal, self._notes())

    def difference(self) -> float:
        """Return the mean over the layers of how far matched units are apart.

        Of each layer it is the mean square of the difference of what matched units compute from
        the same inputs, those of either model, as a share of the mean squares of both: 0 where all
        are equal, and about 1 where they have nothing in common.
        """
        shares = [
            self._apart(layer) / norm if norm else 0.0
            for layer, norm in zip(self.layers.values(), self.norms, strict=True)
        ]
        return math.fsum(shares) / len(shares)

    def _apart(self, layer: Layer) -> float:
        (weight_a, bias_a), (weight_b, bias_b) = self._blocks(layer)
        metric = self.metrics.at(layer, self.state.element).apart
        bias = None if bias_a is None else bias_a - bias_b
        return metric.norm(layer, weight_a - weight_b, bias)

    def _norm(self, layer: Layer) -> float:
        metrics = self.metrics.ends(layer, self.state.element)
        pairs = zip(metrics, self._blocks(layer), strict=True)
        return sum(metric.norm(layer, *blocks) for metric, blocks in pairs)

    def _blocks(
        self, layer: Layer
    ) -> tuple[tuple[Array, Array | None], tuple[Array, Array | None]]:
        """Return weight and bias of A, and of B as it is numbered now."""
        terms, b, bias = self.state.problem.terms, self.state.b, layer.bias
        return (
            (terms[layer.weight].a, None if bias is None else terms[bias].a),
            (b[layer.weight], None if bias is None else b[bias]),
        )

    def _sweep(self, *, first: bool) -> None:
        """Decide on each family once, next on the one most of whose layers' inputs are decided.

        In the first sweep other layers do not count, as their inputs cannot be compared yet.
        """
        decided: set[str] = set()
        left = list(self.families)
        while left:
            usable = [self._usable(family, decided) for family in left]
            number = max(range(len(left)), key=lambda n: len(usable[n]))
            family = left.pop(number)
            self._decide(family, usable[number] if first else self.views[family.root])
            decided.update(family.group.factors)

    def _usable(self, family: Family, decided: Collection[str]) -> list[View]:
        """Return the views whose layers' inputs are numbered alike in both models by now."""
        views = self.views[family.root]
        return [view for view in views if self.layers[view.term].permutations <= set(decided)]

    def _decide(self, family: Family, views: Sequence[View]) -> None:
        if not self.views[family.root]:
            update(self.state, family)
        elif views:
            operands = [operand for view in views for operand in self._operands(view)]
            step = solve_family(self.state.problem.backend, family.group, operands)
            self.state.step(family, step)

    def _operands(self, view: View) -> Iterator[Operand]:
        """Yield what a layer's weight and bias say of its units: ⟨M · A, B⟩."""
        layer = self.layers[view.term]
        metric = self.metrics.at(layer, self.state.element).lost
        by_weight, by_bias = metric.applied(layer, *self._blocks(layer)[0])
        yield self._operand(by_weight, view)
        if layer.bias is not None:
            active = tuple(layer.outputs.index(n) for n in view.active)
            yield self._operand(by_bias, View(layer.bias, view.factors, active))

    def _operand(self, a: Array, view: View) -> Operand:
        backend = self.state.problem.backend
        b = operand(backend, self.state.b[view.term], view)
        return Operand(view, operand(backend, a, view), b)

    def _notes(self) -> tuple[str, ...]:
        names = [family.root for family in self.families if not self.views[family.root]]
        if not names:
            return ()
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return (
            f"No layer with known inputs computes {', '.join(names[:SHOWN])}{more}: the weights "
            "decide there.",
        )
