"""Sinkhorn re-basin: gradient descent on soft permutations, hard ones at the end.

Peña, Medeiros, Dubail, Aminbeidokhti, Granger and Pedersoli, "Re-basin via implicit Sinkhorn
differentiation" (arXiv:2212.12042).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rebasin_hub.align.family import Family, families
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.midpoint import HALF, Best, Line, finite, given, require
from rebasin_hub.align.scores import SoftScores
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import descend
from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.permute import Element, SymmetryGroup

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["SinkhornSettings", "sinkhorn"]

NAME = "sinkhorn"
LOSSES = ("weights", "midpoint", "path")
PATH = (0.25, 0.5, 0.75)
"""Where elements are compared on the path."""

Matrices: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class SinkhornSettings:
    """Settings of `sinkhorn`.

    loss: `weights` is the objective of weight matching under soft permutations; `midpoint` is the
        network's loss half-way, `path` at a new random share of the model in each step.
    rate: of Adam, on the scores.
    temperature: that scores are divided by: one step changes log-weights by about rate/temperature.
    share: of each unit that begins at its place in the start, where one is given; without one, soft
        permutations begin as the mean of all permutations.
    steps: of Adam.
    iterations: of Sinkhorn's scaling.
    polish: whether coordinate descent on the weights follows, where the loss is theirs.
    batch, samples: of one step; and the fixed ones that elements are compared on.
    every: after how many steps hard permutations are made and compared.
    """

    loss: str = "weights"
    rate: float = 0.05
    temperature: float = 0.5
    share: float = 0.5
    steps: int = 300
    iterations: int = 20
    polish: bool = True
    batch: int = 256
    samples: int = 2000
    every: int = 10

    def __post_init__(self) -> None:
        require(NAME, self, rate=0, share=0, steps=0, iterations=1, batch=1, samples=1, every=1)
        require(NAME, self, temperature=1e-6)
        if not self.share < 1:
            raise InputError(f"{NAME}:share is {self.share}, expected less than 1")
        if self.loss not in LOSSES:
            raise InputError(f"{NAME}:loss is '{self.loss}', expected one of {', '.join(LOSSES)}")


def sinkhorn(state: State, options: Options) -> Found:
    """Descend on soft permutations, and round them to hard ones by linear assignment.

    Soft permutations are relative to the start, or to the identity without one. Permutations that
    depend on others, and those that others depend on, stay as at the start until coordinate descent
    on the weights takes them along.

    The law: the objective (`loss=weights`), or the network's loss on the fixed samples, is no worse
    than at the start.

    Raises:
        InputError: a loss of the network without evidence.
        MissingExtraError: torch is not installed.
        NotFiniteError: the loss became NaN or infinite.

    """
    settings = options.settings
    if not isinstance(settings, SinkhornSettings):
        settings = SinkhornSettings()
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError(f"method '{NAME}'", "torch") from None
    group = state.problem.group
    begin: Element = options.start if options.start is not None else group.identity()
    if settings.loss == "weights":
        return _on_weights(state, options, settings, begin)
    return _on_the_line(state, options, settings, begin)


def _on_weights(
    state: State, options: Options, settings: SinkhornSettings, begin: Element
) -> Found:
    from rebasin_hub.align.soft import similarity

    state.jump(begin)
    scale = math.fsum(term.scale for term in state.problem.terms) or 1.0
    best = Best(options.watch, begin, -state.objective)
    members = families(state.problem)
    names = [family.root for family in members if len(family.group.factors) == 1]
    soft = _scores(state.problem.group, names, options, settings, _device(state))
    loss = similarity(state, scale)

    def compare(element: Element, _: int) -> float:
        state.jump(element)
        best.offer(element, -state.objective)
        return state.objective

    last = _search(
        soft, begin, settings, options, loss=lambda matrices: -loss(matrices), compare=compare
    )
    rest = members if settings.polish else _others(members, names)
    converged = _descended(
        state, rest, best, last.element, options, value=lambda _: -state.objective
    )
    return Found(
        best.element,
        (-best.start, *last.values, -best.value),
        (-best.value,),
        converged,
        notes=_left(_others(members, names)),
    )


def _on_the_line(
    state: State, options: Options, settings: SinkhornSettings, begin: Element
) -> Found:
    from rebasin_hub.align.soft import SoftMover

    evidence, models = given(options, f"{NAME}:loss={settings.loss}")
    remedy = f"choose a smaller rate than {settings.rate:g}"
    shares = HALF if settings.loss == "midpoint" else PATH
    line = Line(evidence, models, samples=settings.samples, shares=shares)
    group = state.problem.group
    identity = line.loss(group.identity())
    best = Best(options.watch, begin, finite(line.loss(begin), NAME, 0, remedy))
    names = [n for n in group.roots if n in line.move.factors and not group.children[n]]
    device = next(iter(line.a.values())).device
    soft = _scores(group, names, options, settings, device)
    move = SoftMover(models.binding, line.move(begin), names)
    batches = evidence.minibatches(settings.batch, options.seed)
    rng = np.random.default_rng(options.seed)

    def loss(matrices: Matrices) -> Tensor:
        share = 0.5 if settings.loss == "midpoint" else float(rng.random())
        return evidence.loss(line.at(move(matrices), share), next(batches))

    def compare(element: Element, step: int) -> float:
        value = finite(line.loss(element), NAME, step, remedy)
        best.offer(element, value)
        return value

    last = _search(soft, begin, settings, options, loss=loss, compare=compare)
    rest = _others(families(state.problem), names)
    _descended(
        state,
        rest,
        best,
        last.element,
        options,
        value=lambda p: finite(line.loss(p), NAME, settings.steps, remedy),
    )
    return Found(
        best.element,
        (best.start, *last.values, best.value),
        (best.value,),
        converged=False,
        goal=best.goal(line.name, identity),
        notes=(*evidence.notes, *_left(rest)),
    )


def _descended(
    state: State,
    members: Sequence[Family],
    best: Best,
    last: Element,
    options: Options,
    *,
    value: Callable[[Element], float],
) -> bool:
    """Offer what coordinate descent over some families makes of the best and the last element.

    The last one may be below the best one before, and still in a better basin. Tells whether the
    best one that came of it cannot be improved.
    """
    converged = False
    for number, element in enumerate((best.element, last) if members else ()):
        if options.watch.over:
            return False
        state.jump(element)
        rng = np.random.default_rng((options.seed, number))
        found = descend(state, members, rng, max_sweeps=options.max_sweeps)
        if best.offer(found.element, value(found.element)) or number == 0:
            converged = found.converged
    return converged


def _others(members: Sequence[Family], names: Sequence[str]) -> list[Family]:
    return [family for family in members if family.root not in names]


@dataclass(frozen=True, eq=False)
class _Last:
    element: Element
    values: tuple[float, ...]


def _search(
    soft: SoftScores,
    begin: Element,
    settings: SinkhornSettings,
    options: Options,
    *,
    loss: Callable[[Matrices], Tensor],
    compare: Callable[[Element, int], float],
) -> _Last:
    """Make the loss of the soft permutations small; compare hard ones on the way and at the end."""
    import torch

    remedy = f"choose a smaller rate than {settings.rate:g}"
    values: list[float] = []
    element, waiting = begin, False
    if not soft.scores:
        return _Last(begin, ())
    optimizer = torch.optim.Adam(soft.scores, lr=settings.rate)
    for step in range(settings.steps + 1):
        over = step == settings.steps or options.watch.over
        if waiting and (over or step % settings.every == 0):
            element, waiting = soft.element(begin), False
            values.append(compare(element, step))
            options.watch.report(step - 1, values[-1], unit="step", of=settings.steps)
        if over:
            break
        optimizer.zero_grad()
        value = loss(soft.matrices())
        finite(float(value.detach()), NAME, step, remedy)
        torch.autograd.backward(value)
        optimizer.step()
        waiting = True
    return _Last(element, tuple(values))


def _scores(
    group: SymmetryGroup,
    names: Sequence[str],
    options: Options,
    settings: SinkhornSettings,
    device: torch.device | str,
) -> SoftScores:
    return SoftScores(
        group,
        names,
        # Without a start nothing is known of the place of any unit.
        share=settings.share if options.start is not None else 0.0,
        temperature=settings.temperature,
        iterations=settings.iterations,
        device=device,
    )


def _device(state: State) -> str:
    return state.problem.backend.device or "cpu"


def _left(families: Sequence[Family]) -> tuple[str, ...]:
    left = [name for family in families for name in family.group.factors]
    if not left:
        return ()
    return (
        f"{', '.join(left)}: depend on one another; they are not relaxed but left to weight "
        "matching.",
    )
