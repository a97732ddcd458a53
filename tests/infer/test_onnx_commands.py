"""What the commands make of ONNX files: loops, and specs that fit by names."""

import builtins

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from loop_nets import recurrent  # noqa: E402
from onnx_nets import NODE, graph, save, weight  # noqa: E402

from rebasin_hub.bind import bind  # noqa: E402
from rebasin_hub.errors import DetectionError, IncompatibleError  # noqa: E402
from rebasin_hub.formats import open_checkpoint, save_like  # noqa: E402
from rebasin_hub.infer.compare import beyond  # noqa: E402
from rebasin_hub.pipeline.canonicalize import canonicalize  # noqa: E402
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_like, open_model  # noqa: E402
from rebasin_hub.specfile import parse_spec  # noqa: E402
from rebasin_hub.tasks import Options  # noqa: E402
from rebasin_hub.tasks.find import find_task  # noqa: E402


def computed(path, shape):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return session.run(None, {"x": x})[0]


def test_weights_inside_a_loop_are_renumbered_where_they_are(tmp_path):
    path = recurrent(tmp_path)
    done = canonicalize(path)
    with open_checkpoint(path) as old, open_checkpoint(done.output) as new:
        inside = [name for name in old.header if name.startswith("run/body/")]
        assert len(inside) == 4
        for name in inside:
            before, after = old.read(name), new.read(name)
            assert not np.array_equal(before, after)
            assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
    before, after = computed(path, (7, 2, 4)), computed(done.output, (7, 2, 4))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    again = canonicalize(done.output, tmp_path / "again.onnx")
    assert again.digest == done.digest


def test_the_task_puts_weights_into_loops(tmp_path):
    """The graph of one file is run with the weights of another one, and gives what that gives."""
    a, b = recurrent(tmp_path, name="a.onnx"), tmp_path / "b.onnx"
    rng = np.random.default_rng(0)
    with open_checkpoint(a) as opened:
        save_like(opened, b, lambda name: rng.permuted(opened.read(name)))
    data = tmp_path / "data.npz"
    inputs = rng.standard_normal((7, 2, 4)).astype(np.float32)
    np.savez(data, inputs=inputs, labels=rng.integers(0, 3, (7, 2)))
    task = find_task(str(a), Options(data=data))
    with open_model(b, AUTOMATIC) as model:
        network = task.network(model.subject, "cpu")
        assert "run/body/R" in network.names
        session = network.session(network.state(model.read))
    (samples,) = {id(s): s for s in network.data.values()}.values()
    session_of_file = onnxruntime.InferenceSession(str(b), providers=["CPUExecutionProvider"])
    (expected,) = session_of_file.run(None, {"x": samples.inputs["x"]})
    np.testing.assert_allclose(session.logits(samples, 7), expected, rtol=0, atol=1e-6)


PERCEPTRON = {"fc1.weight": (6, 4), "fc1.bias": (6,), "fc2.weight": (3, 6), "fc2.bias": (3,)}


def perceptron(path, *between, last="h"):
    """Write a network whose weights are called and shaped as those of the spec 'mlp'."""
    made = graph(
        [
            NODE("Gemm", ["x", "fc1.weight", "fc1.bias"], ["g"], transB=1),
            NODE("Relu", ["g"], ["h"]),
            *between,
            NODE("Gemm", [last, "fc2.weight", "fc2.bias"], ["y"], transB=1),
        ],
        [2, 4],
        [2, 3],
        [weight(name, *shape) for name, shape in PERCEPTRON.items()],
    )
    return save(path, made)


TRIANGLE = NODE("Trilu", ["h"], ["s"])
"""Keeps what lies above the diagonal: the order of units counts."""


def test_a_spec_that_fits_goes_first_where_the_graph_bears_it_out(tmp_path):
    path = perceptron(tmp_path / "a.onnx")
    with open_model(path, AUTOMATIC) as model:
        assert model.binding.spec.name == "mlp"
        assert any("and the graph allows what it renumbers" in n for n in model.checkpoint.notes)
    assert canonicalize(path).plan.spec == "mlp"


def test_the_graph_goes_before_a_spec_that_fits_by_names_alone(tmp_path):
    """Units are added to themselves in other places, so that only some of them can move."""
    path = perceptron(tmp_path / "a.onnx", TRIANGLE, last="s")
    with pytest.raises(DetectionError, match="nothing in this graph can be renumbered"):
        open_model(path, AUTOMATIC).__enter__()
    with open_model(path, Choice("mlp")) as model:
        assert model.binding.spec.name == "mlp"


def test_what_the_graph_leaves_of_a_spec_that_fits_by_names_is_told(tmp_path):
    made = graph(
        [
            NODE("Gemm", ["x", "fc1.weight", "fc1.bias"], ["g"], transB=1),
            NODE("Trilu", ["g"], ["h"]),
            NODE("Gemm", ["h", "fc2.weight", "fc2.bias"], ["k"], transB=1),
            NODE("Relu", ["k"], ["l"]),
            NODE("Gemm", ["l", "fc3.weight", "fc3.bias"], ["y"], transB=1),
        ],
        [2, 4],
        [2, 3],
        [
            *(
                weight(f"fc{n}.weight", a, b)
                for n, (a, b) in enumerate(((6, 4), (5, 6), (3, 5)), 1)
            ),
            *(weight(f"fc{n}.bias", a) for n, a in enumerate((6, 5, 3), 1)),
        ],
    )
    path = save(tmp_path / "a.onnx", made)
    with open_model(path, AUTOMATIC) as model:
        assert model.binding.spec.name.startswith("onnx-")
        assert [f.size for f in model.binding.group.factors.values()] == [5]
        (note,) = model.checkpoint.notes
    assert "those of the spec 'mlp', but the graph does not allow its 'hidden'" in note
    assert "--spec mlp takes it all the same" in note
    with open_model(path, Choice("mlp")) as model:
        assert [f.size for f in model.binding.group.factors.values()] == [6, 5]


def test_a_written_spec_holds_for_other_graphs_that_allow_it(tmp_path):
    one = perceptron(tmp_path / "a.onnx")
    two = perceptron(tmp_path / "b.onnx", NODE("Tanh", ["h"], ["t"]), last="t")
    other = perceptron(tmp_path / "c.onnx", TRIANGLE, last="s")
    with open_model(one, AUTOMATIC) as model:
        with open_like(two, model) as like:
            assert like.binding.spec.name == "mlp"
        with pytest.raises(IncompatibleError, match="different graphs"):
            open_like(other, model).__enter__()


def test_without_onnx_a_spec_that_fits_is_taken_and_said_to_be_untried(tmp_path, monkeypatch):
    path = perceptron(tmp_path / "a.onnx")
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("rebasin_hub.infer.onnx"):
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with open_model(path, AUTOMATIC) as model:
        assert model.binding.spec.name == "mlp"
        assert any("was not compared with the graph" in note for note in model.checkpoint.notes)


def spec(permutations, a, b):
    lines = "".join(f"  {line}\n" for line in permutations)
    return parse_spec(f"spec: 1\nname: n\npermutations:\n{lines}tensors:\n  a: {a}\n  b: {b}\n")


@pytest.mark.parametrize(
    ("permutations", "a", "b", "expected"),
    [
        (["h:", "k:"], "(h + k) 3", "2 (h + k)", ()),
        (["all:"], "all 3", "2 all", ("all",)),
        # Both halves trade places alike: a part of what the other one allows.
        (["h:"], "(h + h) 3", "2 (h + h)", ()),
        (["h:", "k:"], "(h + k) 3", "2 (k + h)", ("h", "k")),
    ],
)
def test_what_one_spec_renumbers_beyond_another(tmp_path, permutations, a, b, expected):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.zeros((8, 3), np.float32), b=np.zeros((2, 8), np.float32))
    with open_checkpoint(path) as opened:
        larger = bind(spec(["p:", "q:"], "(p + q) 3", "2 (p + q)"), opened.header, sizes={"p": 4})
        sizes = {"h": 4} if "k:" in permutations else {}
        found = bind(spec(permutations, a, b), opened.header, sizes=sizes)
    assert beyond(found, larger) == expected
