"""Straight-through estimator: lower the loss at the midpoint by gradients that pass the matching.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv:2209.04836), section 3.3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.family import families
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.midpoint import Best, Line, finite, given, require
from rebasin_hub.align.problem import Problem, Term
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import descend, match_weights
from rebasin_hub.permute import Element, Index

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Free", "StraightThroughSettings", "straight_through"]

NAME = "straight-through"


@dataclass(frozen=True)
class StraightThroughSettings:
    """Settings of `straight_through`.

    rate, momentum: of gradient descent on the free weights.
    lean: how far the free weights begin from the model towards the reference. 1 is the reference
        itself, as in the paper: the projection then begins with weight matching. With 0 they begin
        as the model under the start, which takes many steps or a large rate to leave.
    steps: of gradient descent; each costs a forward and a backward pass and a projection.
    batch: samples of one step.
    sweeps: of coordinate descent in one projection, which starts from the last one's result.
    samples: fixed ones that elements are compared on.
    every: after how many steps a new element is compared.
    """

    rate: float = 1e-2
    momentum: float = 0.9
    lean: float = 1.0
    steps: int = 500
    batch: int = 256
    sweeps: int = 1
    samples: int = 2000
    every: int = 10

    def __post_init__(self) -> None:
        require(
            NAME, self, rate=0, momentum=0, lean=0, steps=0, batch=1, sweeps=1, samples=1, every=1
        )


def straight_through(state: State, options: Options) -> Found:
    """Lower the loss at the midpoint of the reference and the renumbered model.

    Free weights are projected onto the renumberings of the model, by weight matching. The loss is
    taken at the midpoint of the reference and that projection; its gradient goes to the free
    weights as if there was no projection. The first projection descends from the start, or, without
    one, from what weight matching finds.

    The law: the loss at the midpoint on the fixed samples is at most that at the start.

    Raises:
        NotFiniteError: the loss became NaN or infinite.

    """
    settings = options.settings
    if not isinstance(settings, StraightThroughSettings):
        settings = StraightThroughSettings()
    evidence, models = given(options, NAME)
    line = Line(evidence, models, samples=settings.samples)
    begin: Element = (
        options.start if options.start is not None else (match_weights(state, options).element)
    )
    remedy = f"choose a smaller rate than {settings.rate:g}, as in {NAME}:rate=0.001"
    identity = line.loss(state.problem.group.identity())
    best = Best(options.watch, begin, finite(line.loss(begin), NAME, 0, remedy))
    history = [best.start]
    free = Free(line, state, begin, settings, options.seed)
    batches = evidence.minibatches(settings.batch, options.seed)
    seen: Element = best.element
    for step in range(settings.steps):
        if options.watch.over:
            break
        finite(free.square(), NAME, step, remedy, "square of the free weights")
        element = free.project()
        loss = free.descend(element, next(batches))
        finite(loss, NAME, step, remedy)
        last = step == settings.steps - 1
        if (step % settings.every == 0 or last) and not _equal(element, seen):
            value = finite(line.loss(element), NAME, step, remedy)
            best.offer(element, value)
            history.append(value)
            seen = {name: index.copy() for name, index in element.items()}
        options.watch.report(step, loss, unit="step", of=settings.steps)
    return Found(
        best.element,
        tuple(history),
        (best.value,),
        converged=False,
        goal=best.goal(line.name, identity),
        notes=tuple(evidence.notes),
    )


def _equal(p: Element, q: Element) -> bool:
    return all(np.array_equal(p[name], q[name]) for name in p)


class Free:
    """Weights that follow the gradient, and the renumbering that comes nearest to them."""

    def __init__(
        self,
        line: Line,
        state: State,
        begin: Element,
        settings: StraightThroughSettings,
        seed: int,
    ) -> None:
        state.jump(begin)
        kept = [
            number
            for number, term in enumerate(state.problem.terms)
            if all(str(name) in line.a for name in term.block.tensor.names.flat)
        ]
        self._line = line
        self._settings = settings
        self._problem = dataclasses.replace(
            state.problem, terms=tuple(state.problem.terms[n] for n in kept), constant=0.0
        )
        self._b = [state.b[n] for n in kept]
        self._norms = [math.sqrt(state.problem.backend.inner(x, x)) for x in self._b]
        self._element: dict[str, Index] = {name: index.copy() for name, index in begin.items()}
        self._families = families(self._problem)
        self._rng = np.random.default_rng(seed)
        moved = line.move(begin)
        names = {str(n) for term in self._problem.terms for n in term.block.tensor.names.flat}
        self.weights = {
            name: moved[name].lerp(line.a[name], settings.lean) for name in sorted(names)
        }
        self._velocity: dict[str, Tensor] = {}

    def square(self) -> float:
        """Return the sum of the squares of the free weights."""
        return sum(float((x.abs() ** 2).sum()) for x in self.weights.values())

    def project(self) -> dict[str, Index]:
        """Match the model to the free weights, beginning where the last projection ended."""
        projection = State(_towards(self._problem, self.weights, self._norms), self._b)
        projection.element = self._element
        descend(projection, self._families, self._rng, max_sweeps=self._settings.sweeps)
        self._b, self._element = projection.b, projection.element
        return self._element

    def descend(self, element: Element, batch: object) -> float:
        """Make one step of gradient descent, and return the loss before it."""
        import torch

        point = self._line.at(self._line.move(element))
        leaves = {name: point[name].requires_grad_() for name in self.weights}
        loss = self._line.evidence.loss(point, batch)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True
        )
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is None:
                continue
            # The midpoint has half of the projection, and so half of its gradient.
            velocity = self._velocity.get(name)
            half = gradient / 2
            self._velocity[name] = (
                half if velocity is None else velocity.mul_(self._settings.momentum).add_(half)
            )
            self.weights[name].sub_(self._velocity[name], alpha=self._settings.rate)
        return float(loss.detach())


def _towards(problem: Problem, free: Mapping[str, Tensor], norms: list[float]) -> Problem:
    """Return the problem whose reference is a set of free weights."""
    terms: list[Term] = []
    passed: dict[int, int] = {}
    for term, norm in zip(problem.terms, norms, strict=True):
        # The blocks of a complex tensor come twice: of its real and of its imaginary parts.
        again = passed.get(id(term.block), 0)
        passed[id(term.block)] = again + 1
        a = _block_of(problem.backend, term, free, imaginary=again > 0)
        square = problem.backend.inner(a, a)
        terms.append(Term(term.block, a, math.sqrt(square) * norm))
    return dataclasses.replace(problem, terms=tuple(terms))


def _block_of(
    backend: Backend, term: Term, free: Mapping[str, Tensor], *, imaginary: bool
) -> Array:
    """Cut a term's block out of free weights, as the problem's library and type have it."""
    import torch

    from rebasin_hub.align.moved import cut

    names = term.block.tensor.names
    tensors = [free[str(name)] for name in names.flat]
    whole = (
        torch.stack(tensors).reshape(*names.shape, *tensors[0].shape) if names.ndim else tensors[0]
    )
    if whole.is_complex():
        whole = whole.imag if imaginary else whole.real
    block = cut(term.block, whole)
    if backend.device is None:
        return block.cpu().numpy().astype(term.a.dtype, copy=False)
    return block.to(device=term.a.device, dtype=term.a.dtype)
