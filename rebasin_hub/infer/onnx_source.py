"""ONNX models that run: with other weights, in float64 where onnxruntime can, every value seen."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.infer.graph import Array, Graph
from rebasin_hub.infer.onnx_graph import graph_of
from rebasin_hub.infer.onnx_wide import widened
from rebasin_hub.prove import TOLERANCE
from rebasin_hub.tensors import Header

__all__ = ["OnnxRunner", "OnnxSource", "from_onnx"]

NARROW_TOLERANCE = 1e-4
"""The largest relative deviation that counts as rounding where a model runs in float32."""

MOST_BYTES = 1 << 31
"""A model that is held as one protobuf message is smaller."""

SATURATING = frozenset({"Softmax", "Sigmoid", "Tanh", "HardSigmoid"})
"""Last operators that hide a change where they saturate: what they read is compared as well."""

GUESSES = ((2, 16), (1, 16), (1, 64), (1, 224), (1, 1), (1, 512), (1, 48))
"""What open axes are taken for, in this order, until the model runs: the first axis, and others."""


@dataclass(frozen=True)
class OnnxSource:
    """A graph, and what runs it."""

    graph: Graph
    runner: OnnxRunner | None
    notes: tuple[str, ...] = ()


def from_onnx(path: Path, shapes: Mapping[str, tuple[int, ...]], *, seed: int) -> OnnxSource:
    """Read an ONNX model, run it once, and translate its graph.

    Args:
        path: the model; data in other files is read as the checkpoint format does.
        shapes: of inputs whose axes are open.
        seed: of inputs and weights.

    Raises:
        FormatError: it is damaged, or leads out of its directory.
        InputError: it does not run, or the shapes do not fit.

    """
    with OnnxCheckpoint(path) as checkpoint:
        header = checkpoint.header
        if sum(info.nbytes for info in header.values()) >= MOST_BYTES:
            raise InputError(f"{path}: weights of over 2 GiB cannot be run for inference")
        weights = {name: checkpoint.read(name) for name in header}
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as an ONNX model: {error}") from error
    graph = model.graph
    place = {tensor.name: tensor for tensor in graph.initializer}
    for name, array in weights.items():
        if name in place:
            place[name].CopyFrom(numpy_helper.from_array(array, name))
    unknown = set(shapes) - {i.name for i in graph.input}
    if unknown:
        names = ", ".join(i.name for i in graph.input if i.name not in place)
        raise InputError(f"{path}: has no input '{min(unknown)}'; its inputs are {names}")
    rng = np.random.default_rng(seed)
    feeds, seen = _first_run(path, model, shapes, rng)
    translated = graph_of(model, header, {**weights, **feeds, **seen}, path.name)
    renumbered = {n: weights[n] for n, s in translated.stored.items() if s.floating}
    runner = _runner(
        path,
        model=model,
        header=header,
        weights=weights,
        renumbered=renumbered,
        feeds=feeds,
        rng=rng,
    )
    return OnnxSource(translated, runner)


def _first_run(
    path: Path,
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    rng: np.random.Generator,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run the model with all values as outputs, on the first guess of its inputs that it takes."""
    probe = ModelProto()
    probe.CopyFrom(model)
    known = {o.name for o in probe.graph.output}
    for node in probe.graph.node:
        for name in node.output:
            if name and name not in known:
                probe.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    session = _session(path, probe)
    names = [output.name for output in session.get_outputs()]
    problem = "it has no inputs that could be guessed"
    for feeds in _guesses(model, shapes, rng):
        try:
            values = session.run(names, feeds)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises anything
            problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
            continue
        found = zip(names, values, strict=True)
        return feeds, {n: v for n, v in found if isinstance(v, np.ndarray)}
    raise InputError(
        f"{path}: does not run on inputs that were guessed ({problem}); give --inputs NAME=SHAPE"
    )


def _session(path: Path, model: ModelProto) -> Any:  # noqa: ANN401 - onnxruntime has no types
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{path}: onnxruntime cannot run it: {reason}") from error


def _guesses(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator
) -> Iterator[dict[str, Array]]:
    """Yield inputs of likely shapes and values."""
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initial]
    for (first, others), whole in itertools.product(GUESSES, (10, 2, 16_000)):
        yield {
            i.name: _values(
                i.type.tensor_type.elem_type, _shape(i, shapes, first, others), whole, rng
            )
            for i in inputs
        }


def _shape(
    value: onnx.ValueInfoProto, shapes: Mapping[str, tuple[int, ...]], first: int, others: int
) -> tuple[int, ...]:
    if value.name in shapes:
        return shapes[value.name]
    dims = value.type.tensor_type.shape.dim
    return tuple(
        d.dim_value if d.dim_value > 0 else (others if number else first)
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


def _runner(
    path: Path,
    *,
    model: ModelProto,
    header: Header,
    weights: Mapping[str, Array],
    renumbered: Mapping[str, Array],
    feeds: Mapping[str, Array],
    rng: np.random.Generator,
) -> OnnxRunner:
    """Turn weights into inputs, and the model into float64 where onnxruntime can run that."""
    open_model = _opened(model, renumbered)
    narrow = dict(feeds)
    try:
        session = _session(path, widened(open_model))
        dtype: Any = np.float64
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in narrow.items()}
        runner = OnnxRunner(path, session, header, dict(weights), set(renumbered), wide, rng, dtype)
        runner.first_run()
    except InputError:
        session = _session(path, open_model)
        return OnnxRunner(
            path,
            session,
            header,
            dict(weights),
            set(renumbered),
            narrow,
            rng,
            None,
            NARROW_TOLERANCE,
        )
    return runner


def _opened(model: ModelProto, renumbered: Mapping[str, Array]) -> ModelProto:
    """Return a copy of a model that takes some of its weights as inputs."""
    opened = ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    kept = [t for t in graph.initializer if t.name not in renumbered]
    nodes = [
        n
        for n in graph.node
        if not (n.op_type == "Constant" and any(o in renumbered for o in n.output))
    ]
    already = {i.name for i in graph.input}
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    for name, array in renumbered.items():
        if name not in already:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    ends = {name: node for node in nodes if node.op_type in SATURATING for name in node.output}
    for output in list(graph.output):
        if output.name in ends:
            graph.output.append(onnx.ValueInfoProto(name=ends[output.name].input[0]))
    # An older model lists its weights among its inputs anyway; ir_version 4 no longer asks for it.
    opened.ir_version = max(opened.ir_version, 4)
    return opened


@dataclass(eq=False)
class OnnxRunner:
    """Runs an ONNX model with other weights."""

    path: Path
    session: Any
    header: Header
    weights: dict[str, Array]
    renumbered: set[str]
    feeds: Mapping[str, Array]
    rng: np.random.Generator
    dtype: Any
    tolerance: float = field(default=TOLERANCE)

    def state(self) -> dict[str, Array]:
        """Return the tensors."""
        return {name: np.asarray(array) for name, array in self.weights.items()}

    def randomize(self, kept: Collection[str]) -> None:
        """Disturb every weight, keeping its scale, and its sign where all are positive.

        Trained weights hide fewer mistakes than fresh ones, and some constants have to stay near
        what they are for the model to give finite numbers.
        """
        for name in sorted(self.renumbered - set(kept)):
            array = self.weights[name]
            self.weights[name] = _disturbed(array, self.rng).astype(array.dtype)

    def first_run(self) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with its own tensors.

        Raises:
            InputError: it cannot run, or gives nothing that can be compared.

        """
        found = self.run(self.weights)
        good = {n: a for n, a in found.items() if a.size and np.isfinite(a).all() and a.any()}
        if not good or len(good) < len(found):
            raise InputError(f"{self.path}: gives outputs that are zero or not finite")
        return good

    def run(self, state: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with other tensors.

        Raises:
            InputError: it cannot run.

        """
        feeds = dict(self.feeds)
        for name in self.renumbered:
            array = state[name]
            feeds[name] = array.astype(self.dtype) if self.dtype is not None else array
        names = [output.name for output in self.session.get_outputs()]
        try:
            values = self.session.run(names, feeds)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"{self.path}: onnxruntime cannot run it: {reason}") from error
        return {
            name: value.astype(np.float64)
            for name, value in zip(names, values, strict=True)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }


def _disturbed(array: Array, rng: np.random.Generator) -> NDArray[np.float64]:
    values = array.astype(np.float64)
    scaled = values * rng.uniform(0.5, 1.5, array.shape)
    spread = float(values.std())
    if (values > 0).all():
        return scaled
    return scaled + rng.standard_normal(array.shape) * (0.1 * spread if spread else 0.1)
