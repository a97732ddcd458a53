"""An ONNX model that is larger than what protobuf holds, through the commands."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from onnx_nets import NODE  # noqa: E402

from rebasin_hub.pipeline.memory import available  # noqa: E402

GIB = 1 << 30
WIDTH, LAYERS = 8192, 8
GAP = b"between".ljust(64)


def huge(path):
    """Write a model piece by piece, and return where each tensor lies in its file of data."""
    rng = np.random.default_rng(0)
    widths = [512, *[WIDTH] * (LAYERS + 1), 64]
    places, tensors, nodes, value = {}, [], [], "x"
    data = path.with_name(path.name + "_data")
    with data.open("wb") as file:
        for number, (before, after) in enumerate(pairwise(widths)):
            turned = number % 2
            shape = (after, before) if turned else (before, after)
            weight = rng.standard_normal(shape, np.float32)
            bias = rng.permutation(after).astype(np.float32) / after  # no two are equal
            for name, array in ((f"{number}.weight", weight), (f"{number}.bias", bias)):
                file.write(GAP)
                places[name] = (file.tell(), array.shape)
                array.tofile(file)
                tensors.append(outside(name, array.shape, data.name, *span(file, array)))
            inputs = [value, f"{number}.weight", f"{number}.bias"]
            nodes.append(NODE("Gemm", inputs, [f"h{number}"], transB=turned))
            nodes.append(NODE("Tanh", [f"h{number}"], [value := f"t{number}"]))
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", widths[0]])]
    made = helper.make_graph(
        nodes,
        "net",
        ends,
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", widths[-1]])],
        tensors,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return places


def span(file, array):
    return file.tell() - array.nbytes, file.tell()


def outside(name, dims, location, start, end):
    kind, where = TensorProto.FLOAT, TensorProto.EXTERNAL
    tensor = TensorProto(name=name, data_type=kind, dims=dims, data_location=where)
    for key, value in (("location", location), ("offset", start), ("length", end - start)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def command(*words):
    """Run a command in a process of its own; return what it prints, and its memory at most."""
    started = [sys.executable, "-m", "rebasin_hub", *map(str, words)]
    with subprocess.Popen(started, stdout=subprocess.PIPE) as process:
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert not process.returncode, (words, printed)
    return json.loads(printed) if "--json" in words else printed, used.ru_maxrss * 1024


def order_of(places, number, old, new):
    """Return by which permutation a layer's units were renumbered, as its biases tell."""
    before, after = (values(path, *places[f"{number}.bias"]) for path in (old, new))
    found = np.empty(before.size, int)
    found[np.argsort(after)] = np.argsort(before)
    return found


def values(path, start, dims, dtype=np.float32):
    return np.memmap(f"{path}_data", dtype, "r", start, dims)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell a process' memory")
def test_a_model_of_more_than_two_gib_goes_through_the_commands(tmp_path):
    if shutil.disk_usage(tmp_path).free < 8 * GIB or (available() or 0) < 8 * GIB:
        pytest.skip("needs 8 GiB of disk and of memory")
    a, b, c, p = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx", "p.safetensors"))
    places = huge(a)
    size = (tmp_path / "a.onnx_data").stat().st_size
    assert size > 2 * GIB
    try:
        made, memory = command("canonicalize", a, "-o", b, "--permutations", p, "--json")
        assert memory < 2 * size
        check_renumbered(places, a, b)
        applied, memory = command("apply", p, a, "-o", c, "--json")
        assert memory < 2 * size
        assert applied["digest"] == made["digest"]
        same = ["cmp", f"{b}_data", f"{c}_data"]
        assert not subprocess.run(same, check=False).returncode
        compared, memory = command("verify", a, b, "--json")
        assert compared["relation"] == "renumbered"
        assert memory < 2 * size
        digests, memory = command("digest", a, b, "--json")
        assert len({one["canonical"] for one in digests}) == 1
        assert memory < 2 * size
    finally:
        for data in tmp_path.glob("*.onnx_data"):  # pytest keeps the folders of three runs
            data.unlink()


def check_renumbered(places, old, new):
    """Renumber by NumPy what was written, and find all else as it was."""
    assert new.read_bytes() == old.read_bytes().replace(b"a.onnx_data", b"b.onnx_data")
    orders = [np.arange(512), *(order_of(places, n, old, new) for n in range(LAYERS + 2))]
    assert (orders[-1] == np.arange(64)).all()
    assert all((np.diff(order) != 1).sum() > WIDTH // 2 for order in orders[1:-1])
    for number, (before, after) in enumerate(pairwise(orders)):
        was, now = (values(path, *places[f"{number}.weight"]) for path in (old, new))
        rows, columns = (after, before) if number % 2 else (before, after)
        # All of one large matrix, and some rows of the others.
        some = np.arange(len(rows)) if number == 1 else np.arange(0, len(rows), 100)
        np.testing.assert_array_equal(now[some], was[rows[some]][:, columns])
    for start, _ in places.values():
        assert values(new, start - len(GAP), len(GAP), np.uint8).tobytes() == GAP
