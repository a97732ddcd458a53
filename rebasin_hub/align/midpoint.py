"""The loss between a reference and a renumbered model, which several methods make small.

This module can be imported without torch; what it does needs an `Evidence`, which does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rebasin_hub.align.evidence import Evidence
from rebasin_hub.align.method import Models, Options
from rebasin_hub.align.result import Goal
from rebasin_hub.align.watch import Watch
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.permute import Element, Index

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HALF", "Best", "Line", "finite", "given", "require"]

HALF = (0.5,)
"""The midpoint: half of each model."""


class Line:
    """The line between the reference and the model, whatever element the model is under.

    Args:
        evidence: the network with its data.
        models: both models as they are stored.
        samples: how many of the evidence's fixed samples losses are compared on.
        shares: of the model, at the points where losses are compared; the midpoint by default.

    """

    def __init__(
        self, evidence: Evidence, models: Models, *, samples: int, shares: Sequence[float] = HALF
    ) -> None:
        from rebasin_hub.align.moved import Mover

        self.evidence = evidence
        self.a = evidence.tensors(models.read_a)
        self.move = Mover(models.binding, evidence.tensors(models.read_b))
        self.shares = tuple(shares)
        self._batches = evidence.fixed(samples)

    def loss(self, element: Element) -> float:
        """Return the mean loss over the fixed samples and the shares, with the model under p.

        May be NaN or infinite; see `finite`.
        """
        import torch

        b = self.move(element)
        total, count = 0.0, 0
        with torch.no_grad():
            for share in self.shares:
                point = self.at(b, share)
                for batch in self._batches:
                    total += len(batch) * float(self.evidence.loss(point, batch))
                    count += len(batch)
        return total / count

    def at(self, b: Mapping[str, Tensor], share: float = 0.5) -> dict[str, Tensor]:
        """Return the point with a share of the model; integers are the reference's."""
        return {name: a.lerp(b[name], share) if _inexact(a) else a for name, a in self.a.items()}

    @property
    def name(self) -> str:
        """What `loss` is, for people."""
        where = "midpoint" if self.shares == HALF else f"path (mean of {len(self.shares)} points)"
        return f"{self.evidence.loss_name} at the {where}"


def _inexact(array: Tensor) -> bool:
    return array.is_floating_point() or array.is_complex()


class Best:
    """The element of the smallest value so far, which the watch is told of.

    The law: `value` never rises, and is at most that of the start.
    """

    def __init__(self, watch: Watch, element: Element, value: float) -> None:
        self._watch = watch
        self.start = value
        self._take(element, value)

    def offer(self, element: Element, value: float) -> bool:
        """Take an element over if it is better, and tell whether it is."""
        if not value < self.value:
            return False
        self._take(element, value)
        return True

    def _take(self, element: Element, value: float) -> None:
        self.value = value
        self.element: dict[str, Index] = {name: index.copy() for name, index in element.items()}
        self._watch.keep(self.element)

    def goal(self, name: str, identity: float) -> Goal:
        """Return the goal that this best has reached."""
        return Goal(name, identity, self.start, self.value)


def given(options: Options, method: str) -> tuple[Evidence, Models]:
    """Return the network with its data, and both models.

    Raises:
        InputError: there are none.

    """
    if options.evidence is None or options.models is None:
        raise InputError(
            f"method '{method}' looks at what the network computes, and there is no data; name a "
            "task, as in --task mnist --data DIR"
        )
    return options.evidence, options.models


def finite(value: float, method: str, step: int, remedy: str, what: str = "loss") -> float:
    """Return a loss, or another number of a search.

    Raises:
        NotFiniteError: it is NaN or infinite.

    """
    if math.isfinite(value):
        return value
    raise NotFiniteError(
        f"method '{method}': the {what} is {value} at step {step}, expected a finite number; "
        f"{remedy}"
    )


def require(method: str, settings: object, **least: float) -> None:
    """Refuse settings that are below their least value, or not finite.

    Raises:
        InputError: naming the setting.

    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= bound):
            raise InputError(f"{method}:{name} is {value}, expected {bound} or more")
