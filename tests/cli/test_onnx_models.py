"""ONNX files without any spec: every command infers one from the graph."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rebasin_hub.errors import IncompatibleError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.pipeline.models import AUTOMATIC, open_model, require_averages  # noqa: E402

NODE = helper.make_node
HIDDEN, CLASSES = 24, 10
INFERRED = "it was inferred from the graph of"


def arrays(seed, hidden=HIDDEN):
    rng = np.random.default_rng(seed)
    shapes = {"onnx::MatMul_7": (64, hidden), "in.bias": (hidden,), "r": (hidden, hidden)}
    shapes |= {"onnx::MatMul_9": (hidden, CLASSES), "out.bias": (CLASSES,)}
    return {
        n: (rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32) for n, s in shapes.items()
    }


def save(path, weights, *, activation="Relu", twice=True):
    """Write a network with a residual connection; its shape is an initializer as well."""
    steps = [
        NODE("Reshape", ["image", "flat"], ["x"]),
        NODE("MatMul", ["x", "onnx::MatMul_7"], ["h0"]),
        NODE("Add", ["h0", "in.bias"], ["h1"]),
        NODE(activation, ["h1"], ["h2"]),
        NODE("MatMul", ["h2", "r"], ["h3"]),
        NODE("Add", ["h3", "h2"] if twice else ["h3", "h3"], ["h4"]),
        NODE("MatMul", ["h4", "onnx::MatMul_9"], ["l"]),
        NODE("Add", ["l", "out.bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        steps,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [
            numpy_helper.from_array(np.array([-1, 64]), "flat"),
            *(numpy_helper.from_array(a, n) for n, a in weights.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def renumbered(weights, seed=5):
    order = np.random.default_rng(seed).permutation(HIDDEN)
    return {
        "onnx::MatMul_7": weights["onnx::MatMul_7"][:, order],
        "in.bias": weights["in.bias"][order],
        "r": weights["r"][order][:, order],
        "onnx::MatMul_9": weights["onnx::MatMul_9"][order],
        "out.bias": weights["out.bias"],
    }


def computed(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((3, 8, 8)).astype(np.float32)
    return session.run(None, {"image": x})[0]


@pytest.fixture
def files(tmp_path):
    save(tmp_path / "a.onnx", arrays(0))
    save(tmp_path / "same.onnx", renumbered(arrays(0)))
    save(tmp_path / "b.onnx", arrays(1))
    return tmp_path


def test_a_renumbered_copy_has_the_same_digest(run, files):
    first, second, other = (
        run("digest", f"{n}.onnx", "--json").json()[0] for n in ("a", "same", "b")
    )
    assert first["canonical"] == second["canonical"] != other["canonical"]
    assert first["spec"] == second["spec"] == other["spec"]
    assert INFERRED in first["notes"][0]
    assert "the same model, renumbered" in run("verify", "a.onnx", "same.onnx").out


def test_canonicalize_keeps_the_function(run, files):
    done = run("canonicalize", "same.onnx", "--reference", "a.onnx", "-o", "out.onnx")
    assert INFERRED in done.out.replace("\n", " ")
    with open_checkpoint(files / "out.onnx") as found, open_checkpoint(files / "a.onnx") as wanted:
        for name in wanted.header:
            np.testing.assert_array_equal(found.read(name), wanted.read(name))
    run("canonicalize", "b.onnx")
    after = computed(files / "b.canonical.onnx")
    np.testing.assert_allclose(after, computed(files / "b.onnx"), rtol=0, atol=1e-5)


def test_align_and_merge(run, files):
    found = run("align", "same.onnx", "a.onnx", "-o", "p.safetensors", "--json").json()
    assert found["alignment"]["cosine"] == pytest.approx(1)
    assert sum(found["moved"].values()) > HIDDEN / 2
    assert INFERRED in found["notes"][0]
    run("apply", "p.safetensors", "same.onnx", "-o", "back.onnx")
    assert (files / "back.onnx").read_bytes() == (files / "a.onnx").read_bytes()
    run("merge", "a.onnx", "same.onnx", "-o", "m.onnx")
    np.testing.assert_allclose(
        computed(files / "m.onnx"), computed(files / "a.onnx"), rtol=0, atol=1e-5
    )


def test_another_graph_of_the_same_tensors(run, files):
    save(files / "tanh.onnx", arrays(1), activation="Tanh")
    save(files / "plain.onnx", arrays(1), twice=False)
    done = run("verify", "a.onnx", "tanh.onnx", code=1)
    assert "different graphs: Relu that gives 'h2' against Tanh that gives 'h2'" in done.err
    done = run("align", "a.onnx", "plain.onnx", "-o", "p.safetensors", code=1)
    assert "different graphs: Add that gives 'h4' says something else there" in done.err
    # What the user says of them counts more.
    run("spec", "infer", "a.onnx", "-o", "own.yaml")
    run("verify", "a.onnx", "tanh.onnx", "--spec", "own.yaml", code=None)
    assert "different graphs" not in run("verify", "b.onnx", "a.onnx", code=None).err


def test_a_graph_in_which_nothing_can_move(run, files):
    graph = helper.make_graph(
        [NODE("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.ones((5, 3), np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=opset), files / "one.onnx")
    done = run("canonicalize", "one.onnx", code=1)
    assert "nothing in this graph can be renumbered" in done.err
    assert "reaches an input: x" in done.err
    assert not (files / "one.canonical.onnx").exists()


def test_a_graph_that_does_not_run(run, files):
    weights = arrays(0)
    weights["r"] = np.ones((3, 3), np.float32)
    save_path = files / "bad.onnx"
    save(save_path, weights)
    done = run("digest", "bad.onnx", code=1)
    assert "None could be inferred from the graph" in done.err


def test_quantized_weights_are_no_numbers_to_average(files):
    scale = numpy_helper.from_array(np.full(6, 0.02, np.float32), "scale")
    graph = helper.make_graph(
        [
            NODE("DequantizeLinear", ["w", "scale"], ["v"]),
            NODE("MatMul", ["x", "v"], ["h"]),
            NODE("MatMul", ["h", "u"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(np.arange(30, dtype=np.int8).reshape(5, 6), "w"),
            numpy_helper.from_array(np.ones((6, 3), np.float32), "u"),
            scale,
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=opset), files / "q.onnx")
    with open_model(files / "q.onnx", AUTOMATIC) as model:
        assert model.inferred
        with pytest.raises(IncompatibleError, match="'w' holds quantized weights"):
            require_averages(model)
    with open_model(files / "a.onnx", AUTOMATIC) as model:
        require_averages(model)


def learned(seed):
    """Train a network on images of digits, far enough to tell them apart."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    images = torch.tensor(digits.images / 8 - 1, dtype=torch.float32).flatten(1)
    labels = torch.tensor(digits.target)
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in arrays(seed).items()}
    optimizer = torch.optim.Adam(weights.values(), 3e-3)
    order = torch.Generator().manual_seed(seed)
    for _ in range(15):
        for batch in torch.randperm(1297, generator=order).split(64):
            h = torch.relu(images[batch] @ weights["onnx::MatMul_7"] + weights["in.bias"])
            h = h + h @ weights["r"]
            logits = h @ weights["onnx::MatMul_9"] + weights["out.bias"]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
    return {n: w.detach().numpy() for n, w in weights.items()}


def test_two_networks_that_were_trained_apart(run, files):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    for seed, name in enumerate("cd"):
        save(files / f"{name}.onnx", learned(seed))
    images = (digits.images[1297:] / 8 - 1).astype(np.float32)
    np.savez(files / "digits.npz", inputs=images, labels=digits.target[1297:])
    done = run(
        *("barrier", "c.onnx", "d.onnx", "--task", "c.onnx", "--data", "digits.npz"),
        *("-o", "measured", "--samples", "50", "--json"),
    )
    record = done.json()
    loss = {
        (c["numbering"], c["treatment"]): c["loss"][len(c["loss"]) // 2] for c in record["curves"]
    }
    assert loss["aligned", "as is"] < 0.8 * loss["naive", "as is"]
    assert any(INFERRED in note for note in record["notes"])
