"""Sessions of onnxruntime, also for models whose weights do not fit into a message of protobuf.

A session copies the values that are in its model's message, and also those that it is given in
memory. What lies in a file it maps, and takes no memory of its own for. So large values are left
out of messages, of which there are several copies anyway, and those in files of their own are left
where they lie.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rebasin_hub.errors import InputError
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.formats.onnx.external import Extent
from rebasin_hub.infer.graph import Array
from rebasin_hub.tasks.onnx.graph import hollow
from rebasin_hub.tensors import DTYPES

__all__ = ["NOTHING", "Apart", "open_session"]

LARGE = 1 << 20
"""Bytes of values that are left out of a message; smaller ones may be axes and shapes."""

MOST_BYTES = (1 << 31) - (1 << 24)
"""A model that is handed over as one message holds fewer bytes of weights."""

NO_SHAPE = 1 << 10
"""The same as `LARGE` where the message would be too large otherwise."""


@dataclass(frozen=True)
class Apart:
    """The large values of a model, which its message lacks.

    Args:
        folder: where the files of `mapped` are.
        mapped: the initializers whose values a session finds in files.
        arrays: those whose values it is given.

    """

    folder: Path | None = None
    mapped: Mapping[str, Extent] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: OnnxCheckpoint, initial: Collection[str]) -> Apart:
        """Return the large values among a checkpoint's tensors with some names.

        Those in files are mapped here as well; those inside of the model are read.
        """
        large = {
            name: info
            for name, info in checkpoint.header.items()
            if name in initial and info.nbytes >= LARGE and DTYPES[info.dtype].bits >= 8  # noqa: PLR2004
        }
        outside = {n: e for n, e in checkpoint.extents.items() if n in large}
        sizes: Counter[Path] = Counter()
        for extent in outside.values():
            sizes[extent.file.parent] += extent.end - extent.start
        # A session looks into one folder, and expects numbers where they can stand in memory.
        folder = max(sizes, key=sizes.__getitem__, default=None)
        mapped = {
            name: extent
            for name, extent in outside.items()
            if extent.file.parent == folder and not extent.start % _width(large[name].dtype)
        }
        arrays = {name: checkpoint.read(name) for name in large if name not in mapped}
        return cls(folder if mapped else None, mapped, arrays)

    def __bool__(self) -> bool:
        return bool(self.mapped or self.arrays)

    def __contains__(self, name: str) -> bool:
        return name in self.mapped or name in self.arrays

    def taken_out(self, model: ModelProto) -> ModelProto:
        """Return a model without these values; the one that is given loses them as well."""
        for tensor in model.graph.initializer:
            if tensor.name not in self:
                continue
            hollow(tensor)
            if (extent := self.mapped.get(tensor.name)) is not None:
                del tensor.external_data[:]
                places = {"location": extent.file.name, "offset": extent.start,
                          "length": extent.end - extent.start}  # fmt: skip
                for key, value in places.items():
                    tensor.external_data.add(key=key, value=str(value))
        # A message keeps the memory of what was taken out of it for as long as it lives.
        bare = ModelProto()
        bare.CopyFrom(model)
        return bare


NOTHING = Apart()
"""All values are in the message."""


def _width(dtype: str) -> int:
    return DTYPES[dtype].numpy.itemsize


def open_session(path: Path, model: ModelProto, apart: Apart = NOTHING) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return a session that runs a model as it is written.

    Args:
        path: what messages call it.
        model: the model.
        apart: the values that its message lacks.

    Raises:
        InputError: onnxruntime cannot run it.

    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if apart.folder is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(apart.folder))
        # It would copy matrices into an order of its own.
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        model, given = _within_limit(model)
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        given |= {n: _shared(a, kinds[n]) for n, a in apart.arrays.items() if n in kinds}
        options.add_external_initializers(list(given), list(given.values()))
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{path}: onnxruntime cannot run it: {reason}") from error
    session.given = given  # it may read them where they lie
    return session


def _within_limit(model: ModelProto) -> tuple[ModelProto, dict[str, Any]]:
    """Take the large weights out of a model that is too large for one message of protobuf."""
    inside = [t for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL]
    sizes = {tensor.name: _nbytes(tensor) for tensor in inside}
    if sum(sizes.values()) <= MOST_BYTES:
        return model, {}
    bare, given = ModelProto(), {}
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if sizes.get(tensor.name, 0) >= NO_SHAPE:
            given[tensor.name] = _shared(numpy_helper.to_array(tensor), tensor.data_type)
            hollow(tensor)
    return bare, given


def _shared(array: Array, kind: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)


def _nbytes(tensor: TensorProto) -> int:
    width: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims)) * width
