"""ONNX files: what goes in and out of a graph, and its weights as something to be replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.formats.onnx import find_file

__all__ = ["Graph", "Port", "Weight", "first_line", "hollow", "read_graph"]

MAX_BYTES = 2**31 - 1
NOWHERE = "given-in-memory"
STRUCTURAL = (np.dtype(np.int64), np.dtype(np.bool_))
"""Types in which a graph holds axes, shapes and settings."""
CHOOSING = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"})
"""Operators whose second input chooses elements."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; an axis of any length is None, and so is an unknown shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Weight:
    """An initializer: a constant that is stored in the graph, or in a file beside it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    onnx_type: int
    structural: bool = False
    """Whether it holds axes, shapes or settings, without which no session can be made."""


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX model; `model` is its ModelProto, of which external data has not been read."""

    path: Path
    model: Any
    weights: Mapping[str, Weight]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    digest: str
    """SHA-256 of the file."""

    def skeleton(self, names: Iterable[str]) -> bytes:
        """Return the model, serialized, without the values of some weights.

        Such weights are given to a session in memory (`add_external_initializers`): so it takes
        those of any checkpoint, whatever their size, and the graph is serialized once. onnxruntime
        has another way to replace weights, `add_initializer`; but that one comes after constants
        are folded, and leaves the old values in use where a weight is transposed first.

        Raises:
            InputError: a weight that is kept cannot be read, or those that are kept are too large.

        """
        replaced = set(names)
        model = type(self.model)()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in replaced:
                hollow(tensor)
            else:
                _fill(self.path, tensor)
        try:
            return bytes(model.SerializeToString())
        except Exception as problem:
            raise InputError(
                f"{self.path}: weights that the checkpoint does not replace are larger than 2 GiB, "
                "which is not supported"
            ) from problem


def read_graph(path: Path) -> Graph:
    """Read a graph.

    Args:
        path: an .onnx file; external data lies in its folder or below.

    Raises:
        InputError: the file is no ONNX model, or is too large.
        MissingExtraError: onnx or onnxruntime is not installed.

    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - looked for here, before any data is read
    except ModuleNotFoundError:
        raise MissingExtraError("--task onnx", "onnx") from None
    from rebasin_hub.formats.onnx.places import hoisted

    data = _bytes(path)
    try:
        model = hoisted(onnx.ModelProto.FromString(data))
        _lift_constants(model)
        chosen = _positions(model)
        weights = {tensor.name: _weight(tensor, chosen) for tensor in model.graph.initializer}
    except Exception as problem:
        raise InputError(f"{path}: is no ONNX model ({first_line(problem)})") from problem
    if not model.graph.output:
        raise InputError(f"{path}: is no ONNX model (it has no outputs)")
    _make_constant(model)
    return Graph(
        path,
        model,
        weights,
        tuple(map(_port, model.graph.input)),
        tuple(map(_port, model.graph.output)),
        hashlib.sha256(data).hexdigest(),
    )


def _lift_constants(model: Any) -> None:  # noqa: ANN401 - a ModelProto
    """Turn Constant nodes into initializers: as tensors of a checkpoint both are weights."""
    import onnx

    kept = []
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if node.op_type != "Constant" or node.domain not in {"", "ai.onnx"} or value is None:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        model.graph.initializer.add().CopyFrom(value)
        model.graph.initializer[-1].name = node.output[0]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _make_constant(model: Any) -> None:  # noqa: ANN401 - a ModelProto
    """Make every weight a constant: before version 4 of the format all were inputs as well."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def first_line(problem: Exception) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: is larger than 2 GiB, which protobuf cannot read; store its weights as "
                "external data"
            )
        return path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from problem


def _positions(model: Any) -> set[str]:  # noqa: ANN401 - a ModelProto
    """Return the values that choose elements, and do nothing else."""
    names = {name for node in model.graph.node for name in node.input}
    others = {
        name
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if node.op_type not in CHOOSING or place != 1
    }
    return names - others


def _weight(tensor: Any, chosen: Container[str]) -> Weight:  # noqa: ANN401 - a TensorProto
    from onnx import helper

    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    structural = dtype in STRUCTURAL and tensor.name not in chosen
    return Weight(dtype, tuple(tensor.dims), tensor.data_type, structural)


def _fill(path: Path, tensor: Any) -> None:  # noqa: ANN401 - a TensorProto
    """Bring values that lie in a file of the model's folder into the model."""
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    tensor.raw_data = _outside(path, tensor)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _outside(path: Path, tensor: Any) -> bytes:  # noqa: ANN401 - a TensorProto
    """Read values that lie in a file of the model's folder, and nothing from anywhere else."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    try:
        start, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        with find_file(path, tensor.name, place).open("rb") as file:
            file.seek(start)
            data = file.read(length)
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{path}: '{tensor.name}' cannot be read from {place} ({first_line(problem)})"
        ) from problem
    if length >= 0 and len(data) != length:
        raise InputError(f"{path}: '{tensor.name}' cannot be read from {place} (it ends too soon)")
    return data


def hollow(tensor: Any) -> None:  # noqa: ANN401 - a TensorProto
    """Take the values out of an initializer, so that a session takes them from memory."""
    import onnx

    kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    kept.data_location = onnx.TensorProto.EXTERNAL
    kept.external_data.add(key="location", value=NOWHERE)
    tensor.CopyFrom(kept)


def _port(value: Any) -> Port:  # noqa: ANN401 - a ValueInfoProto
    from onnx import helper

    kind = value.type.tensor_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = np.dtype(object)
    if not kind.HasField("shape"):
        return Port(value.name, dtype, None)
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Port(value.name, dtype, shape)
