"""Frank-Wolfe matching: all permutations of a model move together over soft numberings.

The objective of weight matching, relaxed to the convex hull of the group: the best element for its
gradient (one assignment for each family) gives the direction, and the exact maximum along the
segment, where the objective is a polynomial, the step. The element that is nearest to where this
ends is polished by coordinate descent.

Crisostomi et al., "C²M³: Cycle-Consistent Multi-Model Merging" (arXiv:2405.17897), section 3, for
two models; Frank and Wolfe (1956).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family, families
from rebasin_hub.align.frank_wolfe.line import Line
from rebasin_hub.align.frank_wolfe.relaxed import Relaxed
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.starts import outward
from rebasin_hub.align.state import State
from rebasin_hub.align.watch import Watch
from rebasin_hub.align.weight import Descent, descend
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element, Index

__all__ = ["FrankWolfeSettings", "Pair", "ascend", "frank_wolfe", "held_note"]

STARTS = ("match", "center", "identity", "random")


@dataclass(frozen=True)
class FrankWolfeSettings:
    """Settings.

    iterations: at most so many from each start.
    tolerance: an iteration that gains less than this share of both models' norms is the last one.
    starts: where to begin, in order, joined by `+`: `match` (unit by unit, by features that need
        no numbering), `center` (every unit read from all), `identity`, `random` (a mixture of
        elements). As many as there are restarts, the last one again and again; `--start` comes
        before all.
    polish: whether coordinate descent follows.
    """

    iterations: int = 200
    tolerance: float = 1e-5
    starts: str = "center+match+identity+random"
    polish: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: a number is out of range, or a start is unknown.

        """
        if self.iterations < 0 or self.tolerance < 0:
            raise InputError("frank-wolfe: iterations and tolerance must be 0 or more")
        for name in self.starts.split("+"):
            if name not in STARTS:
                known = ", ".join(STARTS)
                raise InputError(f"frank-wolfe:starts: '{name}' is none of {known}; choose some")


class Pair:
    """A model in a soft numbering, and the reference that it is to come close to."""

    def __init__(self, model: Relaxed, targets: Sequence[Array], constant: float = 0.0) -> None:
        self.model = model
        self._targets = [model.cast(target) for target in targets]
        self._constant = constant

    @property
    def value(self) -> float:
        """The relaxed objective."""
        images = enumerate(self._targets)
        inner = self.model.backend.inner
        return math.fsum(
            (self._constant, *(inner(target, self.model.image(n)) for n, target in images))
        )

    def line(self, rows: dict[str, Index]) -> Line:
        """Return the objective on the way to an element."""
        inner = self.model.backend.inner
        return Line.of(
            [
                [inner(target, mixture) for mixture in self.model.fan(number, rows)]
                for number, target in enumerate(self._targets)
            ],
            self._constant,
        )

    def advance(self) -> float:
        """Make one iteration and return the objective after it."""
        rows = self.model.space.rows(self.model.vertex(self._targets))
        line = self.line(rows)
        share = line.best()
        if share > 0:
            self.model.move(rows, share)
        return line(share) + self.model.settle(self._targets)


def ascend(
    advance: Callable[[], float],
    value: float,
    *,
    iterations: int,
    gain: float,
    watch: Watch,
    restart: int = 0,
) -> tuple[tuple[float, ...], bool]:
    """Advance until an iteration gains no more than `gain`; see `Pair.advance`.

    Returns the objective at first, which is `value`, and after each iteration, and whether it came
    to an end by itself. The law: it never falls, but for rounding.
    """
    history = [value]
    while len(history) <= iterations and not watch.over:
        history.append(advance())
        watch.report(len(history) - 2, history[-1], restart=restart, unit="iteration")
        if history[-1] - history[-2] <= gain:
            return tuple(history), True
    return tuple(history), False


def frank_wolfe(state: State, options: Options) -> Found:
    """Ascend from several soft numberings, and keep the best of the elements that they lead to.

    The law: the objective is at least that at `options.start`, or at the identity without one.
    `history` holds the relaxed objective, which never falls, then that of the polish's sweeps.
    """
    settings = (
        options.settings
        if isinstance(options.settings, FrankWolfeSettings)
        else FrankWolfeSettings()
    )
    search = _Search(state, options, settings, families(state.problem), list(state.b))
    start = dict(options.start or state.problem.group.identity())
    state.jump(start)
    best = Descent(start, (state.objective,), converged=False)
    ends: list[Descent] = []
    for restart, name in zip(range(options.restarts), _names(settings, options), strict=False):
        if ends and options.watch.over:
            break
        ends.append(search.ascended(name, restart))
        if ends[-1].history[-1] > best.history[-1]:
            best = ends[-1]
            options.watch.keep(best.element)
    kept = all(end.converged for end in ends)  # where no ascent left the start
    return Found(
        best.element,
        best.history,
        tuple(end.history[-1] for end in ends),
        converged=best.converged if best in ends else kept,
        notes=held_note(search.stuck),
    )


@dataclass(eq=False)
class _Search:
    """What all ascents have in common; `blocks` are those of the model as it is numbered."""

    state: State
    options: Options
    settings: FrankWolfeSettings
    families: tuple[Family, ...]
    blocks: list[Array]
    stuck: tuple[Family, ...] = ()

    def ascended(self, name: str, restart: int) -> Descent:
        """Ascend from one start, go to the nearest element, and polish it."""
        state, options, problem = self.state, self.options, self.state.problem
        rng = np.random.default_rng((options.seed, restart))
        model = Relaxed(problem, self.families, self.blocks, self._begin(name))
        self.stuck = model.stuck
        if name == "center":
            model.soft = model.space.center()
        elif name == "random":
            model.soft = model.space.random(rng)
        pair = Pair(model, [term.a for term in problem.terms], problem.constant)
        values, converged = ascend(
            pair.advance,
            pair.value,
            iterations=self.settings.iterations,
            gain=self.settings.tolerance * problem.norm_a * problem.norm_b,
            watch=options.watch,
            restart=restart,
        )
        state.jump(model.nearest())
        if not self.settings.polish:
            return Descent(dict(state.element), (*values, state.objective), converged)
        polished = descend(
            state,
            self.families,
            rng,
            max_sweeps=options.max_sweeps,
            watch=options.watch,
            restart=restart,
        )
        return Descent(
            polished.element, (*values, *polished.history), converged and polished.converged
        )

    def _begin(self, name: str) -> Element:
        """Return the element to begin at; that of what is held where the others begin softly."""
        identity = self.state.problem.group.identity()
        if name == "match":
            self.state.jump(identity)
            return outward(self.state, self.families)
        if name == "start" and self.options.start is not None:
            return self.options.start
        return identity if name == "identity" else self.options.start or identity


def held_note(stuck: Sequence[Family]) -> tuple[str, ...]:
    """Say which permutations did not take part in the soft numberings."""
    if not stuck:
        return ()
    names = [name for family in stuck for name in family.group.factors]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004
    return (
        f"{shown}: permutations that depend on the same one cross on a tensor, so these moved "
        "between the iterations, one family after the other, and not with the others",
    )


def _names(settings: FrankWolfeSettings, options: Options) -> Iterator[str]:
    """Yield where to begin, without end."""
    names = settings.starts.split("+")
    if options.start is not None:
        yield "start"
    yield from names
    while True:
        yield names[-1]
