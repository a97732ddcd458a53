"""`rebasin-hub spec infer`, as a user runs it."""

import json

import pytest

from rebasin_hub.specfile import load_spec

pytest.importorskip("torch")

NET = """
import torch
from torch import nn

def build():
    layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.LayerNorm(7), nn.Linear(7, 3))
    return layers, torch.ones(2, 5)

def wrong():
    return 3, 4

class Odd(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def odd():
    return Odd(), torch.ones(2, 5)
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_a_python_file(run, net):
    done = run("spec", "infer", "net.py:build", "-o", "net.yaml")
    assert "certified" in done.out
    assert "reaches an output" in done.out
    spec = load_spec(net / "net.yaml")
    assert len(spec.permutations) == 1
    again = (net / "net.yaml").read_bytes()
    refused = run("spec", "infer", "net.py:build", "-o", "net.yaml", code=1)
    assert "exists already" in refused.err
    run("spec", "infer", "net.py:build", "-o", "net.yaml", "--force")
    assert (net / "net.yaml").read_bytes() == again


def test_json(run, net):
    found = run("spec", "infer", "net.py:build", "--json").json()
    (group,) = found["groups"]
    assert (group["size"], group["instances"], group["tensors"]) == (7, 1, 5)
    assert group["deviation"] < 1e-12
    assert group["control"] > 1e-3
    assert found["certified"]
    assert found["removed"] == {}
    assert found["share"] == pytest.approx((35 + 7 + 14 + 21) / (35 + 7 + 14 + 21 + 3))


def test_without_a_certificate(run, net):
    done = run("spec", "infer", "net.py:build", "--no-certificate")
    assert "not certified" in done.out


def test_a_saved_program(run, net):
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
    torch.export.save(torch.export.export(module, (torch.ones(2, 5),)), net / "net.pt2")
    found = run("spec", "infer", "net.pt2", "--json").json()
    assert [g["size"] for g in found["groups"]] == [7]


def test_a_hugging_face_directory(run, tmp_path):
    pytest.importorskip("transformers")
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 12,
        "n_head": 3,
        "n_inner": 17,
        "n_layer": 2,
        "n_positions": 11,
        "vocab_size": 19,
    }
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(config))
    found = run("spec", "infer", "gpt2", "--json").json()
    sizes = {(g["size"], g["within"], g["instances"]) for g in found["groups"]}
    assert sizes == {(12, None, 1), (3, None, 2), (17, None, 2), (4, "head", 2)}
    # Without running it, no weight takes any memory.
    quick = run("spec", "infer", "gpt2", "--no-certificate", "--json").json()
    assert quick["text"] == found["text"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing.onnx", "nothing.onnx"),
        ("nothing.pt2", "no such file"),
        ("net.py:wrong", "gives no torch.nn.Module"),
        ("net.py:odd", "cannot be exported"),
        ("net.py:missing", "has no function"),
        ("net.py", "holds no graph"),
        ("damaged.pt2", "no program"),
        ("damaged.onnx", "damaged.onnx"),
        ("empty", "config.json"),
    ],
)
def test_bad_sources(run, net, source, said):
    (net / "damaged.pt2").write_bytes(b"PK\x03\x04 and nothing more")
    (net / "damaged.onnx").write_bytes(b"\x08\x07\x12\xff\xff\xff")
    (net / "empty").mkdir()
    done = run("spec", "infer", source, code=1)
    assert said in done.err
    assert "Traceback" not in done.err


def test_bad_shapes(run, net):
    assert "NAME=SHAPE" in run("spec", "infer", "net.onnx", "--inputs", "x=2y", code=2).err
    done = run("spec", "infer", "net.py:build", "--inputs", "x=2x5", code=1)
    assert "ONNX" in done.err
