"""Programs of torch.export: their weights are read and replaced, and the program stays."""

import json
import warnings
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rebasin_hub.errors import FormatError, OutputError  # noqa: E402
from rebasin_hub.formats import open_checkpoint, save_like  # noqa: E402

LIST = "net/data/weights/model_weights_config.json"


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 6)
        self.again = self.first.weight
        self.scale = torch.nn.Parameter(torch.randn(6).bfloat16())
        self.turned = torch.nn.Parameter(torch.randn(3, 6).t())
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("kept", torch.randn(6), persistent=False)

    def forward(self, x):
        hidden = torch.relu(self.first(x)) * self.scale.float() + self.kept
        return hidden @ self.turned * self.mask + self.count + x @ self.again.t() @ self.turned


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    exported = torch.export.export(Net().eval(), (torch.randn(2, 4),))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")  # of the transposed one
        torch.export.save(exported, path)
    return path


def edited(source, out, edit, *, compress=zipfile.ZIP_STORED):
    """Copy an archive, with the list of weights or other members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w", compress) as new:
        members = {name: old.read(name) for name in old.namelist()}
        listed = json.loads(members[LIST])
        edit(members, listed["config"])
        if LIST in members:
            members[LIST] = json.dumps(listed).encode()
        for name, content in members.items():
            new.writestr(name, content)
    return out


def test_weights_are_those_of_the_state_dict(program):
    state = torch.export.load(program).state_dict
    with open_checkpoint(program) as opened:
        assert opened.format == "pt2"
        assert opened.header.keys() == state.keys()
        assert set(map(frozenset, opened.tied.items())) == {frozenset(("again", "first.weight"))}
        for name, tensor in state.items():
            array, info = opened.read(name), opened.header[name]
            assert (array.shape, array.flags.c_contiguous) == (tuple(tensor.shape), True)
            assert info.dtype == {"scale": "BF16", "count": "I64", "mask": "BOOL"}.get(name, "F32")
            assert np.array_equal(array.astype(np.float64), tensor.detach().double().numpy())
        assert "kept" not in opened.header


def test_a_copy_with_other_weights_is_the_same_program(program, tmp_path):
    rng = np.random.default_rng(0)
    with open_checkpoint(program) as opened:
        made = {n: rng.permutation(opened.read(n).reshape(-1)) for n in opened.header}
        made |= {name: made[first] for name, first in opened.tied.items()}
        made = {n: a.reshape(opened.header[n].shape) for n, a in made.items()}
        for out in ("a.pt2", "b.pt2"):
            save_like(opened, tmp_path / out, made.__getitem__)
    assert (tmp_path / "a.pt2").read_bytes() == (tmp_path / "b.pt2").read_bytes()
    with open_checkpoint(tmp_path / "a.pt2") as opened:
        for name, array in made.items():
            assert np.array_equal(opened.read(name), array)
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(tmp_path / "a.pt2") as new:
        assert old.namelist() == new.namelist()
        assert new.testzip() is None
        changed = {n for n in old.namelist() if old.read(n) != new.read(n)}
    assert changed
    assert all("/data/weights/weight_" in name for name in changed)
    loaded = torch.export.load(tmp_path / "a.pt2")
    state = {n: torch.from_numpy(a.astype(np.float64)) for n, a in made.items()}
    for name, tensor in loaded.state_dict.items():
        assert torch.equal(tensor.double(), state[name])
    x = torch.randn(5, 4)[:2]
    hidden = torch.relu(x.double() @ state["first.weight"].T + state["first.bias"])
    kept = loaded.constants["kept"].double()
    hidden = hidden * state["scale"] + kept
    expected = hidden @ state["turned"] * state["mask"] + state["count"]
    expected = expected + x.double() @ state["again"].T @ state["turned"]
    torch.testing.assert_close(loaded.module()(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_ties_that_no_longer_hold_are_refused(program, tmp_path):
    with open_checkpoint(program) as opened, pytest.raises(OutputError, match="stored as one"):
        save_like(
            opened,
            tmp_path / "out.pt2",
            lambda name: opened.read(name) + (name == "again"),
        )
    assert not (tmp_path / "out.pt2").exists()


def test_it_becomes_no_torch_file_by_its_name(program, tmp_path):
    with open_checkpoint(program) as opened, pytest.raises(OutputError, match=r"\.pt2 or \.safe"):
        save_like(opened, tmp_path / "out.pt", opened.read)


def meta(key, value):
    def edit(_, listed):
        listed["first.bias"]["tensor_meta"][key] = value

    return edit


def entry(key, value):
    def edit(_, listed):
        listed["scale"][key] = value

    return edit


def member(name, content):
    def edit(members, _):
        members[name] = content

    return edit


def without_list(members, _):
    del members[LIST]


def no_entry(_, listed):
    listed["scale"] = []


def numbers(*values):
    return [{"as_int": value} for value in values]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (meta("sizes", numbers(7)), "reaches to byte"),
        (meta("sizes", numbers(1 << 62)), "'first.bias'"),
        (meta("sizes", numbers(6, 6)), "do not agree"),
        (meta("strides", numbers(-1)), "do not agree"),
        (meta("strides", numbers(0)), "in one place"),
        (meta("storage_offset", {"as_int": 1}), "reaches to byte"),
        (meta("storage_offset", {"as_int": -1}), "do not agree"),
        (meta("storage_offset", {"as_expr": "s0"}), "no list of weights"),
        (meta("dtype", 99), "no plain tensor"),
        (meta("layout", 1), "no plain tensor"),
        (entry("use_pickle", True), "no plain tensor"),
        (entry("path_name", "../../models/model.json"), "missing"),
        (entry("path_name", 7), "missing"),
        (no_entry, "no list of weights"),
        (without_list, "save the module's state_dict"),
        (member("net/byteorder", b"big"), "export it anew"),
        (member("other/thing", b""), "no archive as"),
    ],
)
def test_lists_that_lie(program, tmp_path, edit, said):
    with pytest.raises(FormatError, match=said):
        open_checkpoint(edited(program, tmp_path / "net.pt2", edit))


def test_tensors_that_share_a_part_of_their_values(program, tmp_path):
    def edit(_, listed):
        listed["first.bias"]["path_name"] = listed["again"]["path_name"]

    with pytest.raises(FormatError, match="share a part"):
        open_checkpoint(edited(program, tmp_path / "net.pt2", edit))


def test_compressed_members(program, tmp_path):
    path = edited(program, tmp_path / "n.pt2", lambda *_: None, compress=zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="compressed"):
        open_checkpoint(path)


def test_damaged_files_give_known_errors(program, tmp_path):
    whole, rng = program.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "net.pt2"
    failed = 0
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 8):
            data[place] = rng.integers(256)
        path.write_bytes(
            bytes(data[: rng.integers(100, len(data))]) if rng.random() < 0.3 else data
        )
        try:
            with open_checkpoint(path) as opened:
                for name in opened.header:
                    opened.read(name)
        except FormatError:
            failed += 1
    assert failed
