"""Files of torch.export: nothing in them is run before it is known to be harmless."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from rebasin_hub.errors import FormatError, RebasinError
from rebasin_hub.infer.program_file import read_program
from rebasin_hub.infer.sources import from_program

MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "m.pt2"
    net = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(30, 3)).eval()
    axis = torch.export.Dim("batch", min=2, max=64)
    torch.export.save(
        torch.export.export(net, (torch.ones(4, 2, 8),), dynamic_shapes=({0: axis},)), path
    )
    return path


@pytest.fixture
def changed(plain, tmp_path):
    """Return the file with members replaced, added, or stored otherwise."""

    def write(replaced=None, *, text=None, compression=zipfile.ZIP_STORED, twice=False):
        path = tmp_path / "changed.pt2"
        with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", compression) as new:
            top = old.namelist()[0].partition("/")[0]
            members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
            for name, edit in (text or {}).items():
                members[name] = edit(members[name].decode()).encode()
            for name, content in {**members, **(replaced or {})}.items():
                new.writestr(f"{top}/{name}", content)
            if twice:
                with pytest.warns(UserWarning, match="Duplicate"):
                    new.writestr(f"{top}/{MODEL}", members[MODEL])
        return path

    return write


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def edited(change):
    def edit(text):
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return edit


def test_a_plain_program_passes(plain, changed):
    assert read_program(plain).getbuffer() == plain.read_bytes()
    assert from_program(changed(), seed=0).graph.nodes


def first_node(document):
    return document["graph_module"]["graph"]["nodes"][0]


@pytest.mark.parametrize(
    "target",
    [
        *("torch.os.system", "torch.load", "torch.ops.load_library", "torch.hub.load"),
        *("torch.ops.aten.from_file.default", "torch.ops.load_library.__call__.x"),
        *("_operator.methodcaller", "_operator.call", "torch.ops.aten.__class__.x"),
        *("builtins.exec", "torch.sym_max.__globals__"),
    ],
)
def test_calls_of_anything_else(changed, target):
    path = changed(text={MODEL: edited(lambda d: first_node(d).update(target=target))})
    with pytest.raises(FormatError, match="a call of"):
        from_program(path, seed=0)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "s0.__class__",
        "exec",
        "9**9**9",
        "9**999",
        "test()",
        3,
        "Pow(Integer(9), Integer(99999))",
        "Pow(9, Pow(9, 9))",
    ],
)
def test_expressions_that_are_more_than_arithmetic(changed, expression):
    def change(document):
        document["graph_module"]["more"] = {"as_expr": {"expr_str": expression}}

    with pytest.raises(FormatError, match="expression"):
        from_program(changed(text={MODEL: edited(change)}), seed=0)


@pytest.mark.parametrize(
    "text",
    [
        "2*s0 + 1",
        "Max(1, s77)",
        "FloorDiv(s0**2, 3)",
        "Add(Symbol('u0', integer=True), Integer(-1))",
    ],
)
def test_sizes_of_dynamic_axes_pass(changed, text):
    def change(document):
        document["more"] = {"as_expr": {"expr_str": text}}

    read_program(changed(text={MODEL: edited(change)}))


def test_pickles_are_never_opened(changed, tmp_path):
    mark = tmp_path / "mark"
    bomb = io.BytesIO()
    torch.save(Bomb(mark), bomb)
    with pytest.raises(FormatError, match="unpickles objects"):
        from_program(changed({"data/sample_inputs/model.pt": bomb.getvalue()}), seed=0)

    def pickled(document):
        for entry in document["config"].values():
            entry["use_pickle"] = True

    with pytest.raises(FormatError, match="a pickled object"):
        from_program(changed(text={WEIGHTS: edited(pickled)}), seed=0)
    content = pickle.dumps(Bomb(mark))
    with pytest.raises(FormatError, match="an object that is no tensor"):
        from_program(changed({"data/constants/custom_obj_0": content}), seed=0)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/aotinductor/model/w.so", "../x", "code/a.py"])
def test_members_that_do_not_belong_there(changed, name):
    with pytest.raises(FormatError, match="no part of a plain program"):
        from_program(changed({name: b"x"}), seed=0)


def test_archives_that_blow_up(changed):
    bomb = {"data/weights/weight_0": bytes(10_000_000)}
    with pytest.raises(FormatError, match="is compressed"):
        from_program(changed(bomb, compression=zipfile.ZIP_DEFLATED), seed=0)
    with pytest.raises(FormatError, match="two members of one name"):
        from_program(changed(twice=True), seed=0)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(1_000_000))
    with pytest.raises(FormatError, match="is compressed"):
        from_program(changed({"data/sample_inputs/model.pt": inner.getvalue()}), seed=0)


def test_text_that_is_nested_too_deeply(changed):
    with pytest.raises(FormatError, match="nested too deeply"):
        from_program(changed({MODEL: b"[" * 100_000}), seed=0)


def test_damaged_files_give_known_errors(plain, tmp_path):
    whole, path = plain.read_bytes(), tmp_path / "d.pt2"
    rng = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data))] if number % 4 == 0 else data))
        try:
            from_program(path, seed=0)
        except RebasinError:
            continue
