"""Operators that put elements at numbered places, and that read at computed ones or in windows."""

from __future__ import annotations

from rebasin_hub.infer.labels import Expression
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["scatter"]

PLACED = "elements are put at numbered places of it"
SPACE = "neighbours in space count"


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(step: Step) -> None:
    """Put elements at numbers along one axis, others at each place of the other axes."""
    source, numbers, *put = step.node.given
    shape = step.shape(source)
    along = step.axis(step.attribute("dim", 0), len(shape))
    shapes = [step.shape(name) for name in (numbers, *put)]
    whole: list[Expression] = []
    for axis, size in enumerate(shape):
        same = axis != along and all(other[axis] == size for other in shapes)
        whole.append(step.index(size) if same else step.fixed(size, PLACED))
    for name, own in zip((numbers, *put), shapes, strict=True):
        step.bind(
            name,
            [
                whole[axis] if n == shape[axis] and axis != along else step.fixed(n, PLACED)
                for axis, n in enumerate(own)
            ],
        )
    step.bind(source, whole)
    step.bind(step.node.outputs[0], whole)


@rule("aten.index_put", "aten._unsafe_index_put")
def index_put(step: Step) -> None:
    """Put elements at places that are numbered along several axes at once, or that a mask shows."""
    source, *numbers, put = step.node.inputs
    shape = step.shape(source)
    chosen = [axis for axis, name in enumerate(numbers) if name]
    ranks = [len(step.shape(numbers[axis])) for axis in chosen]
    if len(chosen) > 1 and max(ranks) > 1:
        raise UnsupportedError("has numbers of several axes")
    # A mask stands on as many axes as it has; that it is one, its shape does not tell.
    last = max(chosen[-1], chosen[0] + ranks[0] - 1)
    whole = [
        step.fixed(n, PLACED) if chosen[0] <= axis <= last else step.index(n)
        for axis, n in enumerate(shape)
    ]
    for axis in chosen:
        step.fix(numbers[axis], PLACED)
    behind = whole[last + 1 :]
    if chosen[0] > 0:
        whole[: chosen[0]] = [step.fixed(n, PLACED) for n in shape[: chosen[0]]]
    own = step.shape(put)
    before = [step.fixed(n, PLACED) for n in own[: max(0, len(own) - len(behind))]]
    step.bind(source, whole)
    step.broadcast(put, [*before, *behind])
    step.bind(step.node.outputs[0], whole)


@rule("aten.masked_scatter")
def masked_scatter(step: Step) -> None:
    """Put rows one after the other where a mask says so, if the mask is the same for whole rows."""
    source, mask, put = step.node.inputs[:3]
    shape, rows = step.shape(source), step.shape(put)
    repeated = _repeated(step, mask)
    if not repeated or len(rows) < 1 or rows[-1] != shape[-1]:
        raise UnsupportedError("puts elements one after the other where a mask says so")
    width = step.index(shape[-1])
    places = [step.fixed(n, PLACED) for n in shape[:-1]]
    step.fix(mask, PLACED, range(len(step.shape(mask)) - 1))
    step.bind(source, [*places, width])
    step.bind(put, [*(step.fixed(n, PLACED) for n in rows[:-1]), width])
    step.bind(step.node.outputs[0], [*places, width])


COPIES = frozenset({"aten.clone", "aten._to_copy", "aten.alias", "aten.contiguous"})


def _repeated(step: Step, value: str | None) -> bool:
    """Tell whether a value was repeated along its last axis, and so is the same all along it."""
    makers = {name: node for node in step.graph.nodes for name in node.outputs if name}
    if step.shape(value)[-1:] == (1,):
        return True
    while value is not None and (node := makers.get(value)) is not None:
        before, after = step.shape(node.inputs[0]), step.shape(value)
        if node.op == "aten.expand" and after[-1] > 1 and (not before or before[-1] == 1):
            return True
        if node.op not in COPIES | {"aten.expand"}:
            return False
        value = node.inputs[0]
    return False


@rule("aten.grid_sampler_2d", "aten.grid_sampler_3d")
def sample(step: Step) -> None:
    """Read each channel between its elements in space, where a grid says."""
    source, grid = step.node.inputs[:2]
    batch, channels = step.indices(step.shape(source)[:2])
    step.bind(source, [batch, channels, *(step.fixed(n, SPACE) for n in step.shape(source)[2:])])
    step.bind(grid, [batch, *(step.fixed(n, SPACE) for n in step.shape(grid)[1:])])
    out = step.node.outputs[0]
    step.bind(out, [batch, channels, *(step.fixed(n, SPACE) for n in step.shape(out)[2:])])


@rule("aten.unfold")
def windows(step: Step) -> None:
    """Lay windows of one axis along a new last one."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    before, after = step.shape(source), step.shape(target)
    along = step.axis(step.attribute("dimension"), len(before))
    what = "is read in windows"
    whole = step.indices(before)
    part = list(whole)
    whole[along], part[along] = step.fixed(before[along], what), step.fixed(after[along], what)
    step.bind(source, whole)
    step.bind(target, [*part, step.fixed(after[-1], what)])
