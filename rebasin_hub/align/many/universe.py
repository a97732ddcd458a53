"""All models at once into one numbering that is nobody's: cycle-consistent Frank-Wolfe.

Crisostomi et al., "C²M³: Cycle-Consistent Multi-Model Merging" (arXiv:2405.17897), section 4: the
map from p to q is written as the way into a common numbering and out of it again, which makes all
maps consistent, and the sum of ⟨model p, model q⟩ over all pairs is maximized over all of them
together. A renumbering of the common numbering changes nothing, so the first model is its origin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rebasin_hub.align.backend import Array, select
from rebasin_hub.align.family import Family, families
from rebasin_hub.align.frank_wolfe.line import Line
from rebasin_hub.align.frank_wolfe.relaxed import Relaxed, stuck_families
from rebasin_hub.align.frank_wolfe.search import FrankWolfeSettings, ascend, held_note
from rebasin_hub.align.many.merge_many import rounds
from rebasin_hub.align.many.reference import to_reference
from rebasin_hub.align.many.work import Work
from rebasin_hub.align.problem import Problem, read_problem
from rebasin_hub.align.watch import Watch
from rebasin_hub.permute import Element, Index

__all__ = ["Universe", "universe"]


def universe(work: Work) -> tuple[tuple[float, ...], bool]:
    """Ascend with all models together, then align each to the mean of the others by turns.

    Two ascents, from where `reference` ends and from the center of all numberings; the better one
    counts, if it is nearer together than the former. All models are held in memory, twice, in the
    type that products are made in.

    The law: `spread` never rises, from where `reference` ends on.
    """
    to_reference(work)
    start = nearest = work.spread()
    aligned = [dict(element) for element in work.elements]
    models = _Models.read(work)
    for restart, center in enumerate((False, True)):
        if work.watch.over:
            break
        before = work.elements
        work.elements = models.ascended(aligned, work.watch, restart=restart, center=center)
        now = work.spread()
        if now < nearest:
            nearest = now
        else:
            work.elements = before
    work.notes += held_note(models.stuck)
    polished, converged = rounds(work)
    return (start, nearest, *polished), converged


@dataclass(frozen=True, eq=False)
class _Models:
    """The blocks of every model, as it is numbered."""

    problem: Problem
    blocks: tuple[list[Array], ...]
    families: tuple[Family, ...]
    scale: float

    @classmethod
    def read(cls, work: Work) -> _Models:
        """Read all models onto the device, each beside the first one, whose blocks are the same."""
        backend = select(work.device)
        blocks: list[list[Array]] = []
        norms: list[float] = []
        for read in work.reads[1:]:
            problem, found = read_problem(work.binding, work.reads[0], read, backend)
            if not blocks:
                blocks, norms = [[term.a for term in problem.terms]], [problem.norm_a]
            blocks.append(found)
            norms.append(problem.norm_b)
        scale = math.fsum(a * b for a, b in itertools.combinations(norms, 2))
        return cls(problem, tuple(blocks), families(problem), scale)

    @property
    def stuck(self) -> tuple[Family, ...]:
        """The families that Frank-Wolfe cannot move softly."""
        return stuck_families(self.problem, self.families)

    def ascended(
        self, elements: Sequence[Element], watch: Watch, *, restart: int, center: bool
    ) -> list[dict[str, Index]]:
        """Ascend from elements or, but for the first model, from the center of all of them."""
        models = [
            Relaxed(self.problem, self.families, blocks, element)
            for blocks, element in zip(self.blocks, elements, strict=True)
        ]
        if center:
            for model in models[1:]:
                model.soft = model.space.center()
        together, settings = Universe(models), FrankWolfeSettings()
        ascend(
            together.advance,
            together.value(),
            iterations=settings.iterations,
            gain=settings.tolerance * self.scale,
            watch=watch,
            restart=restart,
        )
        return [model.nearest() for model in models]


class Universe:
    """Models in soft numberings, the first one fixed, that are to come close to one another.

    The objective is the sum of the inner products of all pairs. Where all numberings are hard, it
    is that of the squared distances but for the sign.
    """

    def __init__(self, models: Sequence[Relaxed]) -> None:
        self.models = tuple(models)
        self._backend = models[0].backend
        self._first = models[0].images()

    def value(self) -> float:
        """Return the relaxed objective."""
        terms = range(len(self._first))
        return math.fsum(self._pairs([[i] for i in self._of(number)])[0] for number in terms)

    def line(self, rows: Sequence[dict[str, Index]]) -> Line:
        """Return the objective on the way of all models but the first to their elements."""
        products = []
        for number, first in enumerate(self._first):
            fans = [m.fan(number, r) for m, r in zip(self.models[1:], rows, strict=True)]
            degree = len(fans[0]) - 1
            # What stays is a mixture as well: of itself, in each of the ways.
            fixed = [first * math.comb(degree, d) for d in range(degree + 1)]
            products.append(self._pairs([fixed, *fans]))
        return Line.of(products)

    def advance(self) -> float:
        """Make one iteration with all models and return the objective after it."""
        moving = self.models[1:]
        rows = [model.space.rows(model.vertex(rest)) for model, rest in self._rests()]
        line = self.line(rows)
        share = line.best()
        if share > 0:
            for model, goal in zip(moving, rows, strict=True):
                model.move(goal, share)
        gains = 0.0
        if self.models[0].stuck:
            gains = math.fsum(model.settle(rest) for model, rest in self._rests(newest=True))
        return line(share) + gains

    def _of(self, number: int) -> list[Array]:
        return [self._first[number], *(model.image(number) for model in self.models[1:])]

    def _rests(self, *, newest: bool = False) -> Iterator[tuple[Relaxed, list[Array]]]:
        """Yield each model but the first with the sum of the others.

        With `newest`, a model may be changed when it is yielded, and the next ones see that.
        """
        images = [self._first, *(model.images() for model in self.models[1:])]
        total = [sum(blocks[1:], blocks[0]) for blocks in zip(*images, strict=True)]
        for number, model in enumerate(self.models[1:], start=1):
            yield model, [whole - own for whole, own in zip(total, images[number], strict=True)]
            if newest:
                now = model.images()
                total = [t - o + n for t, o, n in zip(total, images[number], now, strict=True)]

    def _pairs(self, fans: Sequence[Sequence[Array]]) -> list[float]:
        """Return the mixtures of the sum over pairs of ⟨one, other⟩, from those of each model."""
        inner, count = self._backend.inner, len(fans[0])
        totals = [sum(level[1:], level[0]) for level in zip(*fans, strict=True)]
        sums = [0.0] * (2 * count - 1)
        for c, d in itertools.product(range(count), repeat=2):
            both = inner(totals[c], totals[d])
            sums[c + d] += (both - math.fsum(inner(fan[c], fan[d]) for fan in fans)) / 2
        return sums
