"""ONNX models that run with other weights, in float64 where onnxruntime can."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from rebasin_hub.errors import InputError
from rebasin_hub.formats.onnx.places import scopes
from rebasin_hub.infer.graph import Array
from rebasin_hub.infer.onnx_flat import CHOICE
from rebasin_hub.infer.onnx_session import open_session
from rebasin_hub.infer.onnx_wide import widened
from rebasin_hub.prove import TOLERANCE
from rebasin_hub.tensors import Header

__all__ = ["OnnxRunner", "make_runner"]

NARROW_TOLERANCE = 1e-4
"""The largest relative deviation that counts as rounding where a model runs in float32."""

STEP_TOLERANCE = 5e-3
"""The same where activations are quantized: one that rounds the other way moves by a whole step."""

TURN = "turn of the certificate"
"""The input that says for all choices between branches at once which of both is taken."""

ROUNDING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators that round what was computed in floating point."""

SATURATING = frozenset({"Softmax", "Sigmoid", "Tanh", "HardSigmoid"})
"""Last operators that hide a change where they saturate: what they read is compared as well."""


def make_runner(
    path: Path,
    *,
    model: ModelProto,
    header: Header,
    weights: Mapping[str, Array],
    renumbered: Mapping[str, Array],
    feeds: Mapping[str, Array],
    rng: np.random.Generator,
) -> OnnxRunner:
    """Turn weights into inputs, and the model into float64 where onnxruntime can run that.

    Raises:
        InputError: onnxruntime cannot run it.

    """
    open_model = _opened(model, renumbered)
    narrow = dict(feeds)
    try:
        session = open_session(path, widened(open_model))
        dtype: Any = np.float64
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in narrow.items()}
        runner = OnnxRunner(path, session, header, dict(weights), set(renumbered), wide, rng, dtype)
        runner.first_run()
    except InputError:
        session = open_session(path, open_model)
        return OnnxRunner(
            path,
            session,
            header,
            dict(weights),
            set(renumbered),
            narrow,
            rng,
            None,
            STEP_TOLERANCE if _rounds(model) else NARROW_TOLERANCE,
        )
    return runner


def _rounds(model: ModelProto) -> bool:
    return any(n.op_type in ROUNDING for scope in scopes(model.graph) for n in scope.graph.node)


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
    chosen = [
        node for scope in scopes(graph) for node in scope.graph.node if node.name.startswith(CHOICE)
    ]
    for node in chosen:
        node.input[0] = TURN
    if chosen:
        graph.input.append(helper.make_tensor_value_info(TURN, onnx.TensorProto.BOOL, []))
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
        # A branch that is not taken on such inputs may give anything.
        if not good or any(name not in good for name in found if not name.endswith(TURN)):
            raise InputError(f"{self.path}: gives outputs that are zero or not finite")
        return good

    def run(self, state: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with other tensors, with either branch of its choices.

        Raises:
            InputError: it cannot run.

        """
        if not any(value.name == TURN for value in self.session.get_inputs()):
            return self._run(state, {})
        first = self._run(state, {TURN: np.array(True)})
        second = self._run(state, {TURN: np.array(False)})
        return first | {f"{name}, other {TURN}": value for name, value in second.items()}

    def _run(
        self, state: Mapping[str, Array], turn: Mapping[str, Array]
    ) -> dict[str, NDArray[np.float64]]:
        feeds = {**self.feeds, **turn}
        for name in self.renumbered:
            array = state[name]
            wide = self.dtype is not None and array.dtype.kind == "f"
            feeds[name] = array.astype(self.dtype) if wide else array
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


def _disturbed(array: Array, rng: np.random.Generator) -> NDArray[Any]:
    if array.dtype.kind in "iu":
        # Zero points and weights that are quantized: other ones out of the same range.
        return rng.permutation(array.reshape(-1)).reshape(array.shape)
    values = array.astype(np.float64)
    scaled = values * rng.uniform(0.5, 1.5, array.shape)
    spread = float(values.std())
    if (values > 0).all():
        return scaled
    return scaled + rng.standard_normal(array.shape) * (0.1 * spread if spread else 0.1)
