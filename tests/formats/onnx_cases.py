"""ONNX models made by the onnx package, for the tests of the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from format_cases import random_array
from onnx import TensorProto, helper, numpy_helper

from rebasin_hub.formats.onnx.tensor import STORED
from rebasin_hub.formats.raw import bytes_of

F = TensorProto.FLOAT
OPSET = [helper.make_opsetid("", 17)]


def value(name: str, shape: list[int | str], kind: int = F):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, weights, functions=()) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", ["n", 3])],
        [value("y", ["n", "m"])],
        weights,
    )
    opsets = [*OPSET, *(helper.make_opsetid(f.domain, 1) for f in functions)]
    made = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    made.producer_name = "tests"
    made.metadata_props.add(key="about", value="ü")
    return made.SerializeToString()


def tensor(name: str, array: np.ndarray, kind: int, *, raw: bool = True) -> TensorProto:
    """Return an initializer of any type, with its values as raw bytes or as numbers."""
    made = TensorProto(name=name, data_type=kind, dims=array.shape)
    dtype = STORED[kind]
    packed = np.frombuffer(bytes(bytes_of(array, dtype)), np.uint8)
    if raw:
        made.raw_data = packed.tobytes()
    elif dtype in {"F32", "C64"}:
        made.float_data.extend(packed.view(np.float32).tolist())
    elif dtype == "F64":
        made.double_data.extend(packed.view(np.float64).tolist())
    elif dtype == "I64":
        made.int64_data.extend(packed.view(np.int64).tolist())
    elif dtype in {"U32", "U64"}:
        made.uint64_data.extend(array.reshape(-1).tolist())
    else:
        width = {"I32": np.int32, "I16": np.int16, "I8": np.int8, "U16": np.uint16}
        wide = np.uint16 if dtype in {"F16", "BF16"} else np.uint8
        made.int32_data.extend(packed.view(width.get(dtype, wide)).tolist())
    return made


def mlp(seed: int = 0, widths=(3, 5, 2)) -> bytes:
    """Return a chain of two Gemms whose weights are initializers."""
    rng = np.random.default_rng(seed)
    arrays = {
        "fc1.weight": rng.normal(size=(widths[1], widths[0])),
        "fc1.bias": rng.normal(size=widths[1]),
        "fc2.weight": rng.normal(size=(widths[2], widths[1])),
        "fc2.bias": rng.normal(size=widths[2]),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "fc2.weight", "fc2.bias"], ["y"], transB=1),
    ]
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    return model(nodes, weights)


def external(path: Path, data: bytes, *, apart: bool = False, location: str | None = None) -> Path:
    """Save a model with its weights in one file beside it, or in one for each."""
    made = onnx.load_from_string(data)
    onnx.save(
        made,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=not apart,
        location=location or (None if apart else f"{path.name}.data"),
        size_threshold=0,
        convert_attribute=True,
    )
    return path


def branches() -> bytes:
    """Return a model of constants in a main graph, two branches, a loop within one, a function."""

    def constant(output: str, seed: int, shape=(3, 4)):
        array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        return helper.make_node("Constant", [], [output], value=numpy_helper.from_array(array))

    def branch(name: str, seed: int, *more):
        array = np.random.default_rng(seed + 9).normal(size=4).astype(np.float32)
        nodes = [
            constant("w", seed),
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            *more,
            helper.make_node("Add", ["xw", "b"], [f"{name}_out"]),
        ]
        weights = [numpy_helper.from_array(array, "b")]
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", ["n", 4])], weights)

    body = helper.make_graph(
        [
            constant("step", 5, (1, 4)),
            helper.make_node("Add", ["carried", "step"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [value("i", [], 7), value("going", [], 9), value("carried", ["n", 4])],
        [value("still", [], 9), value("next", ["n", 4])],
    )
    loop = helper.make_node("Loop", ["times", "", "xw"], ["looped"], body=body)
    function = helper.make_function(
        "mine", "Shift", ["a"], ["s"],
        [constant("by", 6, (1, 4)), helper.make_node("Add", ["a", "by"], ["s"])], OPSET,
    )  # fmt: skip
    nodes = [
        helper.make_node(
            "If", ["flag"], ["z"], name="choose",
            then_branch=branch("then", 1), else_branch=branch("else", 2, loop),
        ),
        helper.make_node(
            "If", ["flag"], ["z2"], then_branch=branch("t", 3), else_branch=branch("e", 4)
        ),
        helper.make_node("Add", ["z", "z2"], ["sum"]),
        helper.make_node("Shift", ["sum"], ["y"], domain="mine"),
    ]  # fmt: skip
    weights = [
        numpy_helper.from_array(np.array(False), "flag"),
        numpy_helper.from_array(np.array(2, np.int64), "times"),
    ]
    return model(nodes, weights, functions=[function])


def every_type() -> list[tuple[int, np.ndarray]]:
    return [(kind, random_array(dtype, (3, 4), kind)) for kind, dtype in STORED.items()]
