"""Treat a point of the line before it is measured: new statistics, or REPAIR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rebasin_hub.errors import InputError
from rebasin_hub.pipeline.barrier.request import TREATMENTS
from rebasin_hub.record.model import Treatment
from rebasin_hub.tasks import Network, State

__all__ = ["Treat", "Treatments", "treatments_of"]

Treat: TypeAlias = Callable[[Sequence[State], Sequence[float]], State]
"""From the ends of a line (or the corners of a plane) and their weights to the state to measure."""


@dataclass(frozen=True)
class Treatments:
    """The treatments that are measured, what each does, and why others are missing.

    `as is` is always among them. `calibrated` has no function of its own: it is made from the
    scores of `as is`.
    """

    names: tuple[Treatment, ...]
    run: Mapping[Treatment, Treat]
    notes: tuple[str, ...]


def treatments_of(
    network: Network, wanted: tuple[str, ...] | None, *, samples: int, seed: int
) -> Treatments:
    """Return the treatments that a network allows.

    Args:
        network: what is measured.
        wanted: only these; None for all that there are.
        samples: how many samples statistics are measured on.
        seed: of their choice.

    Raises:
        InputError: a treatment that was asked for cannot be had, with the reason.

    """
    missing: dict[Treatment, str] = {}
    found: dict[Treatment, Treat] = {"as is": network.mix}
    if not network.calibrates:
        missing["calibrated"] = "the task's loss is not one of logits"
    notes = _add_repairs(network, found, missing, samples=samples, seed=seed)
    for name in wanted or ():
        if name in missing:
            raise InputError(f"the treatment '{name}' cannot be measured: {missing[name]}")
    asked = TREATMENTS if wanted is None else ("as is", *wanted)
    names = tuple(name for name in TREATMENTS if name in asked and name not in missing)
    run = {name: treat for name, treat in found.items() if name in names}
    if wanted is None:
        notes += [f"there is no column '{name}': {reason}" for name, reason in missing.items()]
    return Treatments(names, run, tuple(notes))


def _add_repairs(
    network: Network,
    found: dict[Treatment, Treat],
    missing: dict[Treatment, str],
    *,
    samples: int,
    seed: int,
) -> list[str]:
    """Add the treatments that look into the network, or why there are none; return notes."""
    if not network.inspectable:
        reason = "the layers of the network cannot be looked into"
        missing |= {"recomputed": reason, "repair": reason}
        return []
    from rebasin_hub.pipeline.barrier.repairs import Repairs

    repairs = Repairs(network, samples, seed)
    if repairs.has_statistics:
        found["recomputed"] = repairs.recompute
    else:
        missing["recomputed"] = "no layer keeps running statistics"
    if repairs.has_channels:
        found["repair"] = repairs.repair
    else:
        missing["repair"] = "no layer's channels can be corrected"
    return repairs.notes
