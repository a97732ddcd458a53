"""ONNX graphs as networks: the same losses as torch's, and what does not fit is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.tasks import Options, Subject
from rebasin_hub.tasks.network import IGNORED, TensorData, TorchNetwork, score_logits
from rebasin_hub.tasks.onnx import OnnxTask
from rebasin_hub.tasks.onnx.network import providers
from rebasin_hub.tasks.scoring import IGNORED as IGNORED_IN_NUMPY
from rebasin_hub.tasks.scoring import score_arrays
from rebasin_hub.tensors import TensorInfo, dtype_of

SAMPLES = 11
CLASSES = 3
BATCH = "n"


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module.eval()


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def subject(arrays, tied=None) -> Subject:
    header = {name: TensorInfo(dtype_of(x), x.shape) for name, x in arrays.items()}
    binding = SimpleNamespace(header=header, ignored={})
    return Subject(Path("model.safetensors"), binding, None, tied or {})


def model(nodes, initializers, shape, outputs=(("y", [BATCH, CLASSES]),), more=()):
    ports = {"x": shape, **dict.fromkeys(more, shape)}
    graph = helper.make_graph(
        nodes,
        "graph",
        *(
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, axes) for n, axes in some]
            for some in (ports.items(), outputs)
        ),
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def zeros(arrays):
    """The initializers of a graph, without the values that are expected to take their place."""
    return {name: np.zeros_like(array) for name, array in arrays.items()}


def mlp_model(arrays, batch=BATCH):
    nodes = [
        helper.make_node("Gemm", ["x", "0.weight", "0.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        # A transpose that onnxruntime folds into the weight before it runs.
        helper.make_node("Transpose", ["2.weight"], ["w"]),
        helper.make_node("MatMul", ["a", "w"], ["m"]),
        helper.make_node("Add", ["m", "2.bias"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"]),
    ]
    outputs = (("y", [batch, CLASSES]), ("p", [batch, CLASSES]), ("h", [batch, 8]))
    return model(nodes, arrays, [batch, 5], outputs)


def conv_model(arrays):
    names = [f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *names], ["b"]),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    kept = {name: x for name, x in arrays.items() if not name.endswith("tracked")}
    return model(nodes, kept, [BATCH, 1, 6, 6])


def inputs(*shape, samples=SAMPLES, seed=3):
    return np.random.default_rng(seed).normal(size=(samples, *shape)).astype(np.float32)


LABELS = np.arange(SAMPLES) % CLASSES


@pytest.fixture
def files(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(mlp_model(zeros(weights(mlp()))), "m.onnx")
    np.savez("x.npz", inputs=inputs(5), labels=LABELS)
    return tmp_path


def options(**changes) -> Options:
    changed = {"graph": "m.onnx", **changes.pop("settings", {})}
    return Options(**{"data": Path("x.npz"), "batch": 4, "settings": changed, **changes})


def torch_network(module: nn.Module, task: OnnxTask, split="test") -> TorchNetwork:
    samples = task.data[split]
    data = TensorData(
        samples.split,
        tuple(map(torch.from_numpy, samples.inputs.values())),
        torch.from_numpy(samples.targets),
    )
    return TorchNetwork(module, {split: data}, {n: n for n in module.state_dict()})


# The same as torch


def same(found, expected) -> None:
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5, atol=1e-5)
    assert (found.tempered is None) == (expected.tempered is None)
    if found.tempered is not None:
        np.testing.assert_allclose(found.tempered, expected.tempered, rtol=1e-5, atol=1e-5)
    assert found.errors.tolist() == expected.errors.tolist()
    assert found.counts.tolist() == expected.counts.tolist()


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_graph_scores_as_the_torch_network_does(files: Path, kind: str) -> None:
    build, shape, made = {
        "mlp": (mlp, (5,), mlp_model),
        "conv": (Conv, (1, 6, 6), conv_model),
    }[kind]
    modules = [randomized(build(), seed) for seed in range(2)]
    onnx.save(made(zeros(weights(modules[0]))), "m.onnx")
    np.savez("x.npz", inputs=inputs(*shape), labels=LABELS)
    task = OnnxTask(options())
    network = task.network(subject(weights(modules[0])), "cpu")
    expected = torch_network(modules[0], task)
    both = [[net.state(weights(m).__getitem__) for m in modules] for net in (network, expected)]
    told: list[int] = []
    for ours, theirs in zip(*both, strict=True):
        same(network.score([ours], "test", told.append)[0], expected.score([theirs], "test")[0])
    assert told == [4, 4, 3] * 2
    mixed = [
        net.mix(states, [0.3, 0.7]) for net, states in zip((network, expected), both, strict=True)
    ]
    same(network.score(mixed[:1], "test")[0], expected.score(mixed[1:], "test")[0])
    same(network.ensemble(both[0], "test"), expected.ensemble(both[1], "test"))
    assert network.notes == ()
    assert network.device_name == "cpu"


@settings(max_examples=40)
@given(
    st.integers(1, 5), st.integers(0, 3), st.integers(2, 6), st.integers(0, 99), st.integers(0, 4)
)
def test_numpy_and_torch_score_alike(samples, positions, classes, seed, scale) -> None:
    rng = np.random.default_rng(seed)
    shape = (samples, positions) if positions else (samples,)
    logits = (rng.normal(size=(*shape, classes)) * 10.0**scale).astype(np.float32)
    targets = rng.integers(0, classes, shape)
    targets[rng.random(shape) < 0.3] = IGNORED
    found = score_arrays(logits, targets)
    expected = score_logits(torch.from_numpy(logits), torch.from_numpy(targets))
    for name in ("losses", "errors", "counts", "tempered"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-6 * 10.0**scale
        )


def test_what_overflows_is_scored_without_an_error() -> None:
    logits = np.array([[np.inf, 0], [np.nan, 0], [0, -np.inf]], np.float32)
    targets = np.array([0, 1, 1])
    found = score_arrays(logits, targets)
    expected = score_logits(torch.from_numpy(logits), torch.from_numpy(targets))
    np.testing.assert_array_equal(found.losses, expected.losses)
    np.testing.assert_array_equal(found.errors, expected.errors)
    half = score_arrays(np.array([[300, 0]], np.float16), np.array([1]))
    assert half.losses == [300]
    assert IGNORED == IGNORED_IN_NUMPY


# States


def test_one_whole_state_is_given_back_bit_by_bit(files: Path) -> None:
    arrays = [weights(randomized(mlp(), seed)) for seed in range(3)]
    network = OnnxTask(options()).network(subject(arrays[0]), "cpu")
    states = [network.state(a.__getitem__) for a in arrays]
    for number, state in enumerate(states):
        mixed = network.mix(states, [float(number == n) for n in range(3)])
        assert all(np.array_equal(mixed[name], state[name]) for name in state)
    same_ones = network.mix([states[0]] * 3, [0.2, 0.3, 0.5])
    assert all(np.array_equal(same_ones[name], states[0][name]) for name in states[0])


def test_states_are_float32_or_wider_and_run_in_the_graphs_type(files: Path) -> None:
    arrays = weights(randomized(mlp()))
    stored = {
        "0.weight": arrays["0.weight"].astype(ml_dtypes.bfloat16),
        "0.bias": arrays["0.bias"].astype(np.float64),
        "2.weight": arrays["2.weight"].astype(np.float16),
        "2.bias": arrays["2.bias"],
    }
    network = OnnxTask(options()).network(subject(stored), "cpu")
    state = network.state(stored.__getitem__)
    assert [x.dtype.name for x in state.values()] == ["float32", "float64", "float32", "float32"]
    assert network.mix([state, state], [0.5, 0.5])["0.bias"].dtype == np.float64
    assert np.isfinite(network.score([state], "test")[0].loss)


def test_integers_and_weights_that_the_checkpoint_lacks(files: Path) -> None:
    arrays = weights(randomized(mlp()))
    nodes = [
        helper.make_node("Gather", ["x", "order"], ["g"], axis=1),
        *mlp_model(zeros(arrays)).graph.node[:5],
        helper.make_node("Mul", ["y", "scale"], ["z"]),
    ]
    nodes[1].input[0] = "g"
    scale = np.float32(2)
    held = {**zeros(arrays), "order": np.array([4, 3, 2, 1, 0]), "scale": scale}
    onnx.save(model(nodes, held, [BATCH, 5], [("z", [BATCH, CLASSES])]), "m.onnx")
    stored = {**arrays, "order": np.array([1, 0, 2, 3, 4])}
    network = OnnxTask(options()).network(subject(stored), "cpu")
    assert network.notes == (
        "The graph's own values are used for what the checkpoint does not have: scale.",
    )
    state = network.state(stored.__getitem__)
    other = {**state, "order": np.array([0, 1, 2, 3, 4])}
    assert network.mix([state, other], [0.1, 0.9])["order"].tolist() == [1, 0, 2, 3, 4]
    module = randomized(mlp())
    x = torch.from_numpy(inputs(5)[:, [1, 0, 2, 3, 4]])
    expected = score_logits(2 * module(x).detach(), torch.from_numpy(LABELS))
    same(network.score([state], "test")[0], expected)


def test_tied_weights_are_found_under_their_other_name(files: Path) -> None:
    arrays = weights(randomized(mlp()))
    stored = {name.replace("2.bias", "other"): x for name, x in arrays.items()}
    network = OnnxTask(options()).network(subject(stored, {"2.bias": "other"}), "cpu")
    assert network.names["2.bias"] == "other"


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_fixed_batch_is_filled_up(files: Path, batch: int) -> None:
    module = randomized(mlp())
    onnx.save(mlp_model(zeros(weights(module)), batch), "m.onnx")
    task = OnnxTask(options(batch=5))
    network = task.network(subject(weights(module)), "cpu")
    expected = torch_network(module, task)
    found = network.score([network.state(weights(module).__getitem__)], "test")[0]
    same(found, expected.score([expected.state(weights(module).__getitem__)], "test")[0])


def test_weights_that_are_inputs_too_as_of_old(files: Path) -> None:
    made = mlp_model(zeros(weights(mlp())))
    made.ir_version = 3
    for name, array in weights(mlp()).items():
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    onnx.save(made, "m.onnx")
    module = randomized(mlp())
    task = OnnxTask(options())
    network = task.network(subject(weights(module)), "cpu")
    expected = torch_network(module, task)
    found = network.score([network.state(weights(module).__getitem__)], "test")[0]
    same(found, expected.score([expected.state(weights(module).__getitem__)], "test")[0])


# Data


def test_splits_are_drawn_and_counted(files: Path) -> None:
    train = inputs(5, samples=7)
    np.savez(
        "x.npz", inputs_test=inputs(5), labels_test=LABELS, inputs_train=train, labels_train=[0] * 7
    )
    task = OnnxTask(options(limit=9, seed=1))
    assert {n: (s.count, s.available) for n, s in task.splits.items()} == {
        "test": (9, 11),
        "train": (7, 7),
    }
    assert list(task.splits) == ["test", "train"]
    again = OnnxTask(options(limit=9, seed=2)).splits
    assert again["train"] == task.splits["train"]
    assert again["test"].digest != task.splits["test"].digest
    rows = [inputs(5).tolist().index(row) for row in task.data["test"].inputs["x"].tolist()]
    assert rows == sorted(set(rows))
    assert task.data["test"].targets.tolist() == [LABELS[row] for row in rows]


def test_the_settings_of_a_result_are_recorded(files: Path) -> None:
    settings_ = OnnxTask(options()).settings
    assert (settings_["graph"], settings_["output"]) == ("m.onnx", "y")
    assert len(settings_["graph_digest"]) == 64


def test_several_inputs_have_an_array_each(files: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "z"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    made = model(nodes, {"w": np.zeros((5, 3), np.float32)}, [BATCH, 5], more=["z"])
    onnx.save(made, "m.onnx")
    np.savez("x.npz", x=inputs(5), other=inputs(5, seed=9), labels=LABELS)
    task = OnnxTask(options(settings={"inputs": {"z": "other"}}))
    arrays = {"w": np.eye(5, 3, dtype=np.float32)}
    network = task.network(subject(arrays), "cpu")
    found = network.score([network.state(arrays.__getitem__)], "test")[0]
    logits = (inputs(5) + inputs(5, seed=9))[:, :3]
    same(found, score_arrays(logits, LABELS))
    with pytest.raises(InputError, match=r"has the inputs x, z; the setting 'inputs' has to give"):
        OnnxTask(options(settings={"inputs": "x"}))
    with pytest.raises(InputError, match=r"has no input 'zz'; did you mean 'z'\?; it has x, z"):
        OnnxTask(options(settings={"inputs": {"zz": "x"}}))


BAD_DATA = {
    "labels missing": ({"inputs": inputs(5)}, r"array 'labels' is missing; the file holds inputs;"),
    "a name": ({"inputs": inputs(5), "label": LABELS}, r"did you mean 'label'\?"),
    "nothing": ({}, r"array 'inputs' is missing; the file holds nothing"),
    "both": (
        {"inputs": inputs(5), "labels": LABELS, "inputs_train": inputs(5), "labels_train": LABELS},
        "holds 'labels' and arrays with _test or _train behind",
    ),
    "half a split": ({"inputs_train": inputs(5)}, "array 'labels_train' is missing"),
    "fewer labels": ({"inputs": inputs(5), "labels": LABELS[:4]}, "as many samples .* targets, 4"),
    "no samples": ({"inputs": inputs(5)[:0], "labels": LABELS[:0]}, "test split has no samples"),
    "NaN": ({"inputs": inputs(5) * np.nan, "labels": LABELS}, "'x' holds NaN or infinity"),
    "a shape": (
        {"inputs": inputs(4), "labels": LABELS},
        r"'x' has the shape \[11, 4\], the graph takes \(samples, 5\)",
    ),
    "a rank": ({"inputs": inputs(1, 5), "labels": LABELS}, r"the graph takes \(samples, 5\)"),
    "a type": (
        {"inputs": np.ones((11, 5), np.uint8), "labels": LABELS},
        "'x' holds uint8, the graph takes float32",
    ),
    "fractions": ({"inputs": inputs(5), "labels": LABELS / 2}, r"'labels' of the test split is f"),
    "one-hot": ({"inputs": inputs(5), "labels": np.eye(11)[:, :3] > 0}, "is bool"),
    "objects": ({"inputs": np.array([None] * 11), "labels": LABELS}, "cannot be read as an .npz"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_cannot_be_used(files: Path, name: str) -> None:
    arrays, message = BAD_DATA[name]
    np.savez("x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        OnnxTask(options())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_data_that_is_damaged(files: Path, content: bytes) -> None:
    Path("x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz: cannot be read as an \.npz file"):
        OnnxTask(options())


def test_data_that_is_one_array_or_none(files: Path) -> None:
    np.save("one.npy", LABELS)
    with pytest.raises(InputError, match=r"one\.npy: is one array"):
        OnnxTask(options(data=Path("one.npy")))
    with pytest.raises(InputError, match="needs data"):
        OnnxTask(options(data=None))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 1, r"sample 2 has the label 3, the network 3 classes \(0 to 2\); 3 labels"),
        (LABELS - 1, "sample 0 has the label -1"),
        (np.stack([LABELS] * 2, 1), r"shape \[11, 3\]; expected \(samples, 2, classes\)"),
    ],
)
def test_labels_that_do_not_fit_are_told_before_anything_runs(files, labels, message) -> None:
    np.savez("x.npz", inputs=inputs(5), labels=labels)
    with pytest.raises(InputError, match=message):
        OnnxTask(options()).network(subject(weights(mlp())), "cpu")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"graf": "x"}, r"setting 'graf': is no setting of --task onnx; did you mean 'graph'\?"),
        ({"graph": 3}, "setting 'graph': expected text, found the number 3"),
        ({"inputs": 3}, "setting 'inputs': expected text or keys and values, found the number 3"),
        ({"output": "q"}, r"has no output 'q'; it has y, p, h"),
    ],
)
def test_settings_that_cannot_be_used(files: Path, settings_, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxTask(options(settings=settings_))


def test_a_graph_has_to_be_named(files: Path) -> None:
    with pytest.raises(InputError, match="--task onnx: setting 'graph': is missing"):
        OnnxTask(Options(data=Path("x.npz")))


# Graphs


def test_files_that_are_no_graph(files: Path) -> None:
    for content in (b"", b"\x00\x01 no model"):
        Path("bad.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.onnx: is no ONNX model \("):
            OnnxTask(options(settings={"graph": "bad.onnx"}))
    with pytest.raises(InputError, match=r"none\.onnx: cannot be read: No such file"):
        OnnxTask(options(settings={"graph": "none.onnx"}))


def test_a_checkpoint_that_is_not_in_the_graph(files: Path) -> None:
    arrays = weights(randomized(mlp()))
    made = mlp_model(zeros(arrays))
    made.graph.initializer[0].name = "onnx::MatMul_12"
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((5, 8), np.float32), "onnx::MatMul_12")
    )
    made.graph.node[0].input[1] = "onnx::MatMul_12"
    del made.graph.node[0].attribute[:]
    onnx.save(made, "m.onnx")
    with pytest.raises(IncompatibleError) as caught:
        OnnxTask(options()).network(subject(arrays), "cpu")
    assert "0.weight: is no initializer of the graph, which has 'onnx::MatMul_12' [5, 8]; " in str(
        caught.value
    )
    task = OnnxTask(options())
    with pytest.raises(IncompatibleError, match=r"0\.bias: has the shape \[7\], the graph's"):
        task.network(subject({**arrays, "0.bias": np.zeros(7, np.float32)}), "cpu")


def test_outputs_that_are_no_logits(files: Path) -> None:
    checkpoint = subject(weights(mlp()))
    with pytest.raises(InputError, match="'p' seems to hold probabilities; expected logits"):
        OnnxTask(options(settings={"output": "p"})).network(checkpoint, "cpu")
    made = mlp_model(zeros(weights(mlp())))
    made.graph.node.append(helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0))
    made.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))
    onnx.save(made, "m.onnx")
    with pytest.raises(InputError, match=r"'sum' has the shape \[\] for 1 samples"):
        OnnxTask(options(settings={"output": "sum"})).network(checkpoint, "cpu")


def test_a_graph_that_onnxruntime_cannot_run(files: Path) -> None:
    made = mlp_model(zeros(weights(mlp())))
    made.graph.node[1].domain = "somebody"
    made.opset_import.append(helper.make_opsetid("somebody", 1))
    onnx.save(made, "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx: onnxruntime cannot run it: "):
        OnnxTask(options()).network(subject(weights(mlp())), "cpu")


def external(arrays, *, location="w.bin"):
    made = mlp_model(arrays)
    onnx.save(made, "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    made = onnx.load("m.onnx", load_external_data=False)
    for tensor in made.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    Path("m.onnx").write_bytes(made.SerializeToString())


def test_external_data_is_read_where_the_checkpoint_lacks_it(files: Path) -> None:
    arrays = weights(randomized(mlp()))
    external(arrays)
    stored = {name: x for name, x in arrays.items() if name != "2.weight"}
    task = OnnxTask(options())
    network = task.network(subject(stored), "cpu")
    expected = torch_network(randomized(mlp()), task)
    found = network.score([network.state(stored.__getitem__)], "test")[0]
    same(found, expected.score([expected.state(arrays.__getitem__)], "test")[0])
    # What is replaced need not even be there.
    Path("w.bin").unlink()
    assert OnnxTask(options()).network(subject(arrays), "cpu").names.keys() == arrays.keys()
    with pytest.raises(InputError, match=r"'2\.weight' cannot be read from w\.bin"):
        OnnxTask(options()).network(subject(stored), "cpu")


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "link.bin", "a/../../w.bin", ""])
def test_external_data_stays_in_the_models_folder(files: Path, location: str, monkeypatch) -> None:
    folder = files / "inner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    external(zeros(weights(mlp())), location=location)
    (folder / "w.bin").rename(files / "w.bin")
    (folder / "link.bin").symlink_to(files / "w.bin")
    task = OnnxTask(options(data=files / "x.npz"))
    with pytest.raises(InputError, match="is not in the model's folder"):
        task.network(subject({"0.bias": np.zeros(8, np.float32)}), "cpu")


def test_where_it_runs(monkeypatch) -> None:
    import onnxruntime

    cpu = ("CPUExecutionProvider", {})
    assert providers("cpu") == [cpu]
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    assert providers("cpu") == providers("mps") == [cpu]
    for device, number in {"auto": "0", "cuda": "0", "cuda:3": "3"}.items():
        assert providers(device)[0][1]["device_id"] == number
        assert providers(device)[1] == cpu


def test_a_device_that_is_not_there_is_told(files: Path) -> None:
    network = OnnxTask(options()).network(subject(weights(mlp())), "cuda")
    assert network.notes[-1:] == (
        "The graph was run on the CPU: this onnxruntime cannot use 'cuda'.",
    )
    assert network.device_name == "cpu"


def test_onnx_is_measured_without_torch(files: Path) -> None:
    program = (
        "import sys, json; sys.modules['torch'] = None\n"
        "from pathlib import Path; from rebasin_hub.tasks import Options, find_task\n"
        "task = find_task('m.onnx', Options(data=Path('x.npz')))\n"
        "print(task.name, task.splits['test'].count)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "onnx 11\n", done.stderr
