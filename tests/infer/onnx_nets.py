"""Small ONNX models, and what is inferred from them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.onnx_source import from_onnx

NODE = helper.make_node


def weight(name, *shape, positive=False):
    rng = np.random.default_rng(len(name) + sum(shape))
    values = rng.uniform(0.5, 2, shape) if positive else rng.standard_normal(shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def integers(name, *shape, dtype=np.int8, low=-100, high=100):
    rng = np.random.default_rng(len(name) + sum(shape))
    return numpy_helper.from_array(rng.integers(low, high, shape).astype(dtype), name)


def array(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


def graph(nodes, shape, result, weights=(), **values):
    return helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        list(weights),
        **values,
    )


def save(path, made, *, functions=(), opset=21, domains=(), check=True):
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(made, opset_imports=opsets, functions=list(functions))
    model.ir_version = 10
    if check:
        onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def inferred(path, **shapes):
    """Return what is inferred and certified, and the sizes of the groups with their parents'."""
    source = from_onnx(path, shapes, seed=0)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert not found.certificate.removed
    assert not found.certificate.unnoticed
    groups = found.layout.groups
    return found, sorted(
        ((g.size, groups[g.parent].size if g.parent else None) for g in groups.values()), key=str
    )
