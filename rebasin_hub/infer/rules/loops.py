"""What goes into the body of a loop, and what comes out of it.

A front end that looks into loops puts the body between two operators, `Enter` and `Leave`, once for
all turns. What a turn hands to the next one stands under the same indices before, in and after the
body: they stay renumbered only if the body maps them to themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from rebasin_hub.infer.labels import Expression
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["DOMAIN", "ENTER", "LEAVE"]

DOMAIN = "rebasin_hub.loop"
ENTER, LEAVE = "Enter", "Leave"
TURNS = "its turns have an order"


@rule(f"{DOMAIN}.{ENTER}")
def enter(step: Step) -> None:
    """Hand the first states and one part of each scanned value to the body.

    Inputs are the states, then the values that are scanned; outputs the same inside the body.
    """
    states = step.attribute("states")
    inside, outside = step.node.outputs, step.node.inputs
    for before, state in zip(outside[:states], inside[:states], strict=True):
        _same(step, before, state)
    axes = step.attribute("axes", ())
    for whole, part, axis in zip(outside[states:], inside[states:], axes, strict=True):
        _stacked(step, whole, part, axis)


@rule(f"{DOMAIN}.{LEAVE}")
def leave(step: Step) -> None:
    """Hand states to the next turn and out of the loop, and lay what was seen side by side.

    Inputs are the states inside before a turn, those after it, and the parts that each turn gives;
    outputs the last states, and the parts of all turns.
    """
    states = step.attribute("states")
    given, outside = step.node.inputs, step.node.outputs
    for before, after, last in zip(
        given[:states], given[states : 2 * states], outside[:states], strict=True
    ):
        _same(step, before, after, last)
    axes = step.attribute("axes", ())
    for part, whole, axis in zip(given[2 * states :], outside[states:], axes, strict=True):
        _stacked(step, whole, part, axis)


def _same(step: Step, *values: str | None) -> None:
    """Bind values that are one another's successors to one set of indices."""
    indices = step.indices(step.shape(values[0]))
    for value in values:
        step.bind(value, indices)


def _stacked(step: Step, whole: str | None, part: str | None, axis: int) -> None:
    """Bind a value to the parts of it that the turns see, one after another along an axis."""
    if not whole:
        return
    if not part:
        raise UnsupportedError("a part of it is not known")
    shape = step.shape(whole)
    axis = step.axis(axis, len(shape))
    indices: Sequence[Expression] = step.indices(step.shape(part))
    step.bind(part, indices)
    step.bind(whole, [*indices[:axis], step.fixed(shape[axis], TURNS), *indices[axis:]])
