"""Say in a few sentences how models are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rebasin_hub.record.connect import (
    Connectivity,
    ConnectRecord,
    StepCurve,
    StepNumbering,
    StrategySummary,
    TrajectoryRecord,
)
from rebasin_hub.record.model import Figure, Treatment

__all__ = ["verdict_of_models", "verdict_of_steps"]

CHANGE = 0.1
"""Share of a barrier that another treatment has to take away to be spoken of."""


def verdict_of_models(record: ConnectRecord) -> str:
    """Return what a person should take from a record: of the first split, as is before all."""
    split = next(iter(record.task.splits))
    summaries = {(s.strategy, s.treatment): s for s in record.summaries if s.split == split}
    told = {c.treatment: c for c in record.connectivity if c.split == split}
    first = told["as is"]
    parts = [
        _weak(first, summaries["naive", "as is"], summaries["pairwise", "as is"], split),
        _strong(record, first, summaries[first.strategy, "as is"] if first.strategy else None),
    ]
    best = min(told, key=lambda t: _value(summaries["pairwise", t].mean))
    before, after = (_value(summaries["pairwise", t].mean) for t in ("as is", best))
    if best != "as is" and after < (1 - CHANGE) * before:
        parts.append(_treated(told[best], best, summaries["pairwise", best]))
    return " ".join(part for part in parts if part)


def _weak(
    found: Connectivity, naive: StrategySummary, pairwise: StrategySummary, split: str
) -> str:
    change = (
        f"mean loss barrier on '{split}' {_shown(naive.mean.value)} → {_shown(pairwise.mean.value)}"
    )
    if found.weak:
        return (
            f"Weakly connected: a permutation of its own leaves no pair a barrier to speak of "
            f"({change})."
        )
    pair = " and ".join(pairwise.pair)
    return (
        f"Not weakly connected: with a permutation of its own for each pair a barrier of "
        f"{_shown(pairwise.largest)} is left between {pair} ({change})."
    )


def _strong(record: ConnectRecord, found: Connectivity, joint: StrategySummary | None) -> str:
    if joint is None:
        return "Strong connectivity was not tried."
    way = "through the reference" if joint.strategy == "reference" else "by the universe"
    if len(record.models) == 2:  # noqa: PLR2004
        return "With two models, strong connectivity is the same."
    mean = f"mean loss barrier {_shown(joint.mean.value)}"
    if found.strong:
        return (
            f"Strongly connected: one permutation for each model, {way}, leaves none in any pair "
            f"({mean})."
        )
    gap = "" if found.gap is None else f"; {_gap(found.gap)}"
    pair = " and ".join(joint.pair)
    return (
        f"Not strongly connected: with one permutation for each model, {way}, "
        f"{_shown(joint.largest)} is left between {pair} ({mean}{gap})."
    )


def _gap(gap: Figure) -> str:
    shown = f"{_shown(gap.value)} more than with a permutation for each pair"
    if gap.low is None or gap.high is None:
        return shown
    chance = ", which may be chance" if gap.low <= 0 <= gap.high else ""
    return f"{shown} [{_shown(gap.low)}, {_shown(gap.high)}]{chance}"


def _treated(found: Connectivity, name: Treatment, pairwise: StrategySummary) -> str:
    weak = "weakly connected" if found.weak else "not weakly connected"
    strong = {True: " and strongly connected", False: " and not strongly connected", None: ""}
    return (
        f"With '{name}' the pairs' mean loss barrier is {_shown(pairwise.mean.value)}: {weak}"
        f"{strong[found.strong]}."
    )


def verdict_of_steps(record: TrajectoryRecord, negligible: Sequence[bool]) -> str:
    """Return what a person should take from a record: of the first split, as is.

    Args:
        record: of trajectories.
        negligible: whether the last step's permutation leaves each step no barrier to speak of.

    """
    split = next(iter(record.task.splits))
    curves = {
        (c.step, c.numbering): c
        for c in record.curves
        if c.split == split and c.treatment == "as is"
    }
    count = len(record.steps)
    if all(negligible):
        parts = [
            f"Simultaneously connected: the permutation of the last step leaves no barrier to "
            f"speak of at any of {count} steps on '{split}'."
        ]
    else:
        parts = [
            f"Not simultaneously connected: with the permutation of the last step "
            f"{count - sum(negligible)} of {count} steps keep a loss barrier on '{split}'."
        ]
    parts.append(_largest(curves, count))
    masks = record.steps[-1].masks
    if masks is not None:
        parts.append(
            f"At the last step {100 * masks.sparsity_a:.1f} % and {100 * masks.sparsity_b:.1f} % "
            f"of the weights are pruned, {100 * masks.merged['last']:.1f} % of the mean; the masks "
            f"overlap by {100 * masks.overlap['naive']:.1f} % → {100 * masks.overlap['last']:.1f} "
            "%."
        )
    return " ".join(parts)


def _largest(curves: Mapping[tuple[int, StepNumbering], StepCurve], count: int) -> str:
    """Name the step at which the last step's permutation leaves the most."""
    worst = max(range(count), key=lambda step: _barrier(curves[step, "last"]))
    names: tuple[tuple[StepNumbering, str], ...] = (
        ("naive", "naive"),
        ("last", "by the last permutation"),
        ("own", "by its own"),
    )
    parts = [
        f"{name} {_shown(curves[worst, numbering].entezari.loss.value)}"
        for numbering, name in names
        if (worst, numbering) in curves
    ]
    return f"It is largest at step {worst}: {', '.join(parts)}."


def _barrier(curve: StepCurve) -> float:
    return _value(curve.entezari.loss)


def _value(figure: Figure) -> float:
    return float("inf") if figure.value is None else figure.value


def _shown(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.3g}"
