"""ONNX models as sources of graphs: read, run once on inputs that are guessed, every value seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from rebasin_hub.errors import InputError
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.formats.onnx.places import hoisted, load_model
from rebasin_hub.infer.graph import Array, Graph
from rebasin_hub.infer.onnx_flat import (
    CHOICE,
    MOST_NESTED,
    Branches,
    conditions,
    inlined,
    known_values,
    unbranched,
    unbranched_bodies,
)
from rebasin_hub.infer.onnx_graph import graph_of, weights_of
from rebasin_hub.infer.onnx_probe import Place, Probe, Seen
from rebasin_hub.infer.onnx_runner import OnnxRunner, make_runner
from rebasin_hub.infer.onnx_session import Apart
from rebasin_hub.infer.onnx_turns import Turned, turned
from rebasin_hub.tensors import Header

__all__ = ["OnnxSource", "from_onnx", "guesses", "read_onnx"]

GUESSES = ((2, 16), (1, 16), (1, 64), (1, 224), (1, 1), (1, 512), (1, 48))
"""What open axes are taken for, in this order, until the model runs: the first axis, and others."""

IN_THE_MIDDLE = 3
"""The fewest axes of an input whose second one may count samples, as in the state of an LSTM."""


@dataclass(frozen=True)
class OnnxSource:
    """A graph, and what runs it."""

    graph: Graph
    runner: OnnxRunner | None
    notes: tuple[str, ...] = ()


def from_onnx(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, seed: int, certified: bool = True
) -> OnnxSource:
    """Read an ONNX model, run it once, and translate its graph.

    Args:
        path: the model; data in other files is read as the checkpoint format does.
        shapes: of inputs whose axes are open.
        seed: of inputs and weights.
        certified: whether it will be run with other weights.

    Raises:
        FormatError: it is damaged, or leads out of its directory.
        InputError: it does not run, or the shapes do not fit.

    """
    model, header, weights, apart = read_onnx(path)
    place = Place(path, header, apart)
    initial = {tensor.name for tensor in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in initial]
    if unknown := set(shapes) - set(names):
        raise InputError(
            f"{path}: has no input '{min(unknown)}'; its inputs are {', '.join(names)}"
        )
    rng = np.random.default_rng(seed)
    model = inlined(model, str(path))
    feeds, seen = _first_run(place, model, shapes, rng)
    model, seen = _flat(place, model, feeds, seen)
    model, inside = _turned(place, model, feeds)
    values = {**weights, **feeds, **seen.values, **inside.seen}
    shapes_seen = {**seen.shapes, **inside.shapes}
    translated = graph_of(inside.model, header, values, path.name, shapes_seen)
    if not certified:
        return OnnxSource(translated, None)
    renumbered = {n: weights[n] for n, s in translated.stored.items() if s.floating}
    _put_in(model, {n: a for n, a in weights.items() if n in apart and n not in renumbered})
    runner = make_runner(
        path,
        model=model,
        header=header,
        weights=weights,
        renumbered=renumbered,
        feeds=feeds,
        rng=rng,
    )
    return OnnxSource(translated, runner)


def read_onnx(path: Path) -> tuple[ModelProto, Header, dict[str, Array], Apart]:
    """Read a model whose subgraphs hold no tensors, and its tensors.

    Large values are not in its message; those that lie beside the model are mapped, not read.

    Raises:
        FormatError: it is damaged, or leads out of its directory.

    """
    with OnnxCheckpoint(path) as checkpoint:
        header = checkpoint.header
        model = hoisted(load_model(path), header)
        initial = {tensor.name for tensor in model.graph.initializer}
        apart = Apart.of(checkpoint, initial)
        model = apart.taken_out(model)
        small = {name: checkpoint.read(name) for name in header if name not in apart}
    _put_in(model, small)
    mapped = {name: extent.mapped(header[name]) for name, extent in apart.mapped.items()}
    values = {**small, **apart.arrays, **mapped}
    return model, header, {name: values[name] for name in header}, apart


def _put_in(model: ModelProto, values: Mapping[str, Array]) -> None:
    """Put values into the message of a model, in the place of what its initializers hold."""
    for tensor in model.graph.initializer:
        if (array := values.get(tensor.name)) is not None:
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _flat(
    place: Place, model: ModelProto, feeds: Mapping[str, Array], seen: Seen
) -> tuple[ModelProto, Seen]:
    """Take a model's branches out of its Ifs as far as that can be done, and run it again."""
    for _ in range(MOST_NESTED):
        found = conditions(model.graph)
        if not found:
            return model, seen
        known = known_values(model.graph.node, _given(model, place.header))
        truths = {name: seen.values.get(c) for name, c in found.items() if c in known}
        taken = {
            name: bool(truth.reshape(-1)[0])
            for name, truth in truths.items()
            if truth is not None and truth.size == 1
        }
        branches = Branches(taken, frozenset(found) - set(taken))
        for tried in (branches, Branches(taken)):
            flat = unbranched(model, tried)
            if (again := _again(place, flat, feeds)) is not None:
                break
        else:
            return model, seen
        unchanged = conditions(flat.graph).keys() == found.keys()
        model, seen = flat, again
        if unchanged:
            return model, seen
    return model, seen


def _turned(
    place: Place, model: ModelProto, feeds: Mapping[str, Array]
) -> tuple[ModelProto, Turned]:
    """Look into a model's loops, with both branches of the Ifs in them where that can be done."""

    def run(watched: ModelProto) -> dict[str, Array] | None:
        seen = _again(place, watched, feeds)
        return None if seen is None else seen.values

    given = _given(model, place.header)
    inside = turned(model, given, run)
    if not inside.shapes:
        return model, inside
    both = unbranched_bodies(model)
    if both != model:
        found = turned(both, given, run)
        if len(found.shapes) > len(inside.shapes) and found.even:
            return both, found
    return model, inside


def _given(model: ModelProto, header: Header) -> frozenset[str]:
    """Return the initializers that are part of the program, and no weights."""
    initial = {tensor.name for tensor in model.graph.initializer}
    return frozenset(initial - weights_of(model.graph, header))


def _again(place: Place, model: ModelProto, feeds: Mapping[str, Array]) -> Seen | None:
    """Run a model with branches side by side; None if it does not run, or their results differ."""
    try:
        seen = Probe(place, model).run(feeds)
    except Exception:  # noqa: BLE001 - the branch that is not taken may not run on these inputs
        return None
    for node in model.graph.node:
        if node.op_type == "Where" and node.name.startswith(CHOICE):
            three = {seen.shape(name) for name in (*node.input[1:], *node.output)}
            if len(three - {None}) > 1:
                return None
    return seen


def _first_run(
    place: Place,
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    rng: np.random.Generator,
) -> tuple[dict[str, Array], Seen]:
    """Run the model with all values as outputs, on the first guess of its inputs that it takes."""
    probe = Probe(place, model)
    problem = "it has no inputs that could be guessed"
    for feeds in guesses(model, shapes, rng):
        try:
            return feeds, probe.run(feeds)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises anything
            problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raise InputError(
        f"{place.path}: does not run on inputs that were guessed ({problem}); give --inputs "
        "NAME=SHAPE"
    )


def guesses(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator
) -> Iterator[dict[str, Array]]:
    """Yield inputs of likely shapes and values."""
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initial]
    counting = _counting_samples(inputs)
    for (first, others), whole in itertools.product(GUESSES, (10, 2, 16_000)):
        yield {
            i.name: _values(
                i.type.tensor_type.elem_type,
                shapes.get(i.name) or _shape(i, counting, first, others),
                whole,
                rng,
            )
            for i in inputs
        }


def _counting_samples(inputs: Iterable[onnx.ValueInfoProto]) -> frozenset[str]:
    """Return what the first axes are called, which count samples."""
    dims = [i.type.tensor_type.shape.dim for i in inputs]
    return frozenset(d[0].dim_param for d in dims if d and d[0].dim_param)


def _shape(
    value: onnx.ValueInfoProto, counting: frozenset[str], first: int, others: int
) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    middle = 1 if len(dims) >= IN_THE_MIDDLE and dims[0].dim_value else 0
    return tuple(
        d.dim_value
        if d.dim_value > 0
        else (first if d.dim_param in counting or number in {0, middle} else others)
        for number, d in enumerate(dims)
    )


def _values(kind: int, shape: tuple[int, ...], whole: int, rng: np.random.Generator) -> Array:
    """Return random numbers, small whole numbers below a bound, or truth."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    # Without axes it is a setting, such as a sampling rate, rather than a choice.
    return (
        rng.integers(1, min(whole, 10), shape).astype(dtype) if shape else np.full((), whole, dtype)
    )
