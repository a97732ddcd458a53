"""How much a change of a layer's weights changes what it computes on its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend, select
from rebasin_hub.align.evidence import Features
from rebasin_hub.align.moments import numbering_block
from rebasin_hub.align.problem import Problem, renumbered
from rebasin_hub.bind.axes import Atom, Block
from rebasin_hub.permute import Element, Index, SymmetryGroup

__all__ = ["Layer", "Merging", "Metric", "Metrics", "layers_of", "order_of", "parallel_sum"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A block of a weight that multiplies features.

    weight: the term's number.
    bias: the number of the term that is added to the same outputs, if there is one.
    outputs: the block's atoms that number them.
    inputs: those that number the features.
    others: those that count neither, such as the positions of a kernel.
    parts: how many groups of features are summed to one output: positions of the kernel, and parts
        of an axis that is a sum.
    """

    weight: int
    bias: int | None
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    others: tuple[int, ...]
    parts: int
    features: Features

    @property
    def permutations(self) -> frozenset[str]:
        """The permutations of the inputs."""
        return frozenset(self.features.axis.permutations)


def layers_of(problem: Problem, features: Sequence[Features]) -> list[Layer]:
    """Return every block that multiplies features whose covariances are known, once."""
    terms: dict[str, list[int]] = {}
    for number, term in enumerate(problem.terms):
        if not term.block.tensor.name_atoms:
            terms.setdefault(str(term.block.tensor.names[()]), []).append(number)
    layers: dict[int, Layer] = {}
    for place in features:
        if place.within_a is None or place.within_b is None or len(place.axis.segments) > 1:
            continue
        for name, axis in place.readers:
            biases = terms.get(_bias_name(name), [])
            for number in terms.get(name, ()):
                layer = _layer(problem, number, axis, biases, place)
                if layer is not None:
                    layers.setdefault(number, layer)
    return list(layers.values())


def _layer(
    problem: Problem, number: int, axis: int, biases: Sequence[int], place: Features
) -> Layer | None:
    """Return the layer of a block whose inputs stand on an axis; None if they are of others."""
    block = problem.terms[number].block
    inputs = _inputs(block, axis, place.axis.segments[0].atoms)
    if inputs is None:
        return None
    out = 1 if axis == 0 else 0  # a weight has these two axes first, then its kernel's
    outputs = tuple(n for n, at in enumerate(block.places) if at == out)
    others = tuple(n for n in range(len(block.atoms)) if n not in {*inputs, *outputs})
    parts = math.prod(block.atoms[n].size for n in others) * len(block.tensor.axes[axis].segments)
    bias = _bias(problem, biases, block, out)
    return Layer(number, bias, outputs, inputs, others, parts, place)


def _inputs(block: Block, axis: int, atoms: tuple[Atom, ...]) -> tuple[int, ...] | None:
    """Return a block's atoms on an axis that are a place's; None where they are of another one."""
    own = [n for n, at in enumerate(block.places) if at == axis]
    if any(atom.permutation for atom in atoms):
        own = [n for n in own if block.atoms[n].permutation is not None]
    wanted = [(atom.permutation, atom.size) for atom in atoms]
    if [(block.atoms[n].permutation, block.atoms[n].size) for n in own] != wanted:
        return None
    return tuple(own)


def _bias_name(name: str) -> str:
    head, dot, last = name.rpartition(".")
    return head + dot + last.replace("weight", "bias")


def _bias(problem: Problem, numbers: Sequence[int], block: Block, axis: int) -> int | None:
    """Return the term of the bias that is added to a block's outputs."""
    outputs = block.segments[axis]
    for number in numbers:
        other = problem.terms[number].block
        if len(other.segments) == 1:
            own = other.segments[0]
            if own.atoms == outputs.atoms and np.array_equal(own.positions, outputs.positions):
                return number
    return None


@dataclass(frozen=True, eq=False)
class Metric:
    """The quadratic form M of differences of a unit's incoming weights, and of its bias.

    weights: (n, n). mixed: (n,), between weights and bias. bias: a number.
    """

    backend: Backend
    weights: Array
    mixed: Array
    bias: float

    def applied(
        self, layer: Layer, weight: Array, bias: Array | None
    ) -> tuple[Array, Array | None]:
        """Return M times a layer's weight and bias, in their own shapes."""
        xp = self.backend.xp
        order = (*layer.outputs, *layer.others, *layer.inputs)
        sizes = [weight.shape[n] for n in order]
        width = self.weights.shape[0]
        outputs = math.prod(weight.shape[n] for n in layer.outputs)
        rows = xp.reshape(xp.permute_dims(weight, order), (outputs, -1, width))
        wide = xp.astype(rows, self.weights.dtype)
        product = wide @ self.weights
        added = None
        if bias is not None:
            # Each part of the inputs has an equal share of the bias, as an input that is 1.
            share = 1 / math.sqrt(layer.parts)
            wide_bias = xp.astype(xp.reshape(bias, (outputs,)), self.weights.dtype)
            product = product + (share * wide_bias)[:, None, None] * self.mixed
            of_weights = share * xp.sum(wide @ self.mixed, axis=-1)
            added = xp.reshape(of_weights + self.bias * wide_bias, bias.shape)
            added = xp.astype(added, bias.dtype)
        back = tuple(int(n) for n in np.argsort(order))
        product = xp.permute_dims(xp.reshape(product, tuple(sizes)), back)
        return xp.astype(product, weight.dtype), added

    def norm(self, layer: Layer, weight: Array, bias: Array | None) -> float:
        """Return the sum of Δᵀ M Δ over a layer's units, for Δ their weights with their biases."""
        by_weight, by_bias = self.applied(layer, weight, bias)
        total = self.backend.inner(by_weight, weight)
        return total if bias is None else total + self.backend.inner(by_bias, bias)


@dataclass(frozen=True, eq=False)
class Merging:
    """Two metrics of one layer, whose inputs are numbered alike in both models.

    lost: (H_A⁻¹ + H_B⁻¹)⁻¹, of what is lost if two units are merged into the best single one.
    apart: (H_A + H_B) / 2, of how far two units are apart on the inputs of both models.
    """

    lost: Metric
    apart: Metric


class Metrics:
    """The metrics of all layers at any element; those that are asked for again are kept.

    Args:
        group: of the binding.
        ridge: see `Functional`.
        backend: of the layers' blocks.

    """

    def __init__(self, group: SymmetryGroup, ridge: float, backend: Backend) -> None:
        self._group, self._ridge, self._backend = group, ridge, backend
        self._known: dict[tuple[Features, bool], tuple[bytes, Merging]] = {}

    def at(self, layer: Layer, element: Element) -> Merging:
        """Return the metrics of a layer with B's inputs numbered by an element."""
        place, bias = layer.features, layer.bias is not None
        order = order_of(self._group, place, element)
        known = self._known.get((place, bias))
        if known is None or known[0] != order.tobytes():
            a, b = self._moments(place, order, bias=bias)
            made = parallel_sum(_ridged(a, self._ridge, bias), _ridged(b, self._ridge, bias))
            merging = Merging(self._metric(made, bias=bias), self._metric((a + b) / 2, bias=bias))
            known = self._known[place, bias] = (order.tobytes(), merging)
        return known[1]

    def ends(self, layer: Layer, element: Element) -> tuple[Metric, Metric]:
        """Return H_A and H_B, numbered by an element, as metrics."""
        bias = layer.bias is not None
        order = order_of(self._group, layer.features, element)
        a, b = self._moments(layer.features, order, bias=bias)
        return self._metric(a, bias=bias), self._metric(b, bias=bias)

    def _metric(self, form: NDArray[np.float64], *, bias: bool) -> Metric:
        n, widest = len(form) - bias, self._backend.widest
        weights, mixed = (
            self._backend.asarray(np.ascontiguousarray(part, dtype=widest))
            for part in (form[:n, :n], form[:n, n] if bias else np.zeros(n))
        )
        return Metric(self._backend, weights, mixed, float(form[n, n]) if bias else 0.0)

    def _moments(
        self, place: Features, order: Index, *, bias: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the second moments of A's and of B's inputs, the bias being an input of 1."""
        assert place.within_a is not None  # `layers_of` saw to it
        assert place.within_b is not None
        return (
            _second(place.within_a, place.mean_a, bias=bias),
            _second(place.within_b[np.ix_(order, order)], place.mean_b[order], bias=bias),
        )


def _second(
    within: NDArray[np.float64], mean: NDArray[np.float64], *, bias: bool
) -> NDArray[np.float64]:
    moments = np.asarray(within + np.outer(mean, mean))
    if not bias:
        return moments
    return np.block([[moments, mean[:, None]], [mean[None, :], np.ones((1, 1))]])


def _ridged(moments: NDArray[np.float64], ridge: float, bias: bool) -> NDArray[np.float64]:
    """Add a share of the mean moment to all inputs but the bias."""
    damped, n = moments.copy(), len(moments) - bias
    at = np.arange(n)
    damped[at, at] += ridge * moments[at, at].mean()
    return damped


def order_of(group: SymmetryGroup, place: Features, element: Element) -> Index:
    """Return for each feature of A the one of B that an element puts in its place."""
    atoms = place.axis.segments[0].atoms
    block = numbering_block(group, atoms)
    old = np.arange(place.axis.length).reshape(1, *(atom.size for atom in atoms))
    return np.asarray(renumbered(select("cpu"), block, old, element)).reshape(-1)


def parallel_sum(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parallel sum (A⁻¹ + B⁻¹)⁻¹ of two matrices, as A (A + B)⁻¹ B.

    That form also holds for matrices that have no inverse, with a pseudo-inverse (Anderson and
    Duffin, "Series and parallel addition of matrices", 1969).
    """
    total = a @ np.linalg.pinv(a + b, hermitian=True) @ b
    return np.asarray((total + total.T) / 2)
