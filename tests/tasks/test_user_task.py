"""Tasks from a user's Python file, and errors in it that are told as the file's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import reader, subject
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.prove.builder import load_builder
from rebasin_hub.tasks import Options, find_task
from rebasin_hub.tasks.pythonfile import load_function, names_function

HEAD = """
import numpy as np
import torch
from rebasin_hub import zoo
from rebasin_hub.tasks import TorchTask

X = torch.arange(30, dtype=torch.float32).reshape(6, 5).sin()
Y = torch.arange(6) % 3

def build():
    return zoo.MLP([5, 8, 3])

"""
LABELS = np.arange(6) % 3


def task_of(body: str, name: str = "task", **options):
    Path("own.py").write_text(HEAD + body, encoding="utf-8")
    return find_task(f"own.py:{name}", Options(**options))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def npz(here: Path) -> Path:
    path = here / "x.npz"
    np.savez(path, inputs=samples().numpy(), labels=LABELS)
    return path


def samples() -> torch.Tensor:
    return torch.arange(30, dtype=torch.float32).reshape(6, 5).sin()


def mlp() -> zoo.MLP:
    return zoo.MLP([5, 8, 3]).eval()


def checkpoint():
    return subject(mlp(), "mlp")


def score(task, split="test"):
    module = mlp()
    network = task.network(subject(module, "mlp"), "cpu")
    return module, network.score([network.state(reader(module))], split)[0]


# What a function gives


GIVEN = "def task():\n    return TorchTask({module}, {data})\n"


@pytest.mark.parametrize(
    ("module", "data"),
    [
        ("build()", "test=(X, Y)"),
        ("build", "test=(X, Y)"),
        ("lambda subject: zoo.MLP([5, subject.binding.sizes['hidden[0]'], 3])", "test=(X, Y)"),
        ("lambda subject: build() if subject.path.name == 'model.pt' else None", "(X, Y)"),
        ("build()", "test=(X.numpy().astype(np.float64), Y.numpy().astype(np.uint8))"),
        ("build()", "test=((X,), Y)"),
    ],
)
def test_a_task_scores_the_users_module_on_the_users_data(module: str, data: str) -> None:
    if "sizes" in module:
        module = "lambda subject: zoo.MLP([5, subject.binding.header['layers.0.bias'].shape[0], 3])"
    task = task_of(GIVEN.format(module=module, data=data))
    network, found = score(task)
    expected = functional.cross_entropy(
        network(samples()), torch.from_numpy(LABELS), reduction="none"
    )
    np.testing.assert_allclose(found.losses, expected.detach(), rtol=1e-6)
    assert (task.name, task.loss_name, task.error_name) == (
        "own.py:task",
        "cross-entropy",
        "error rate",
    )
    assert task.settings["function"] == "task"
    assert len(task.settings["file_digest"]) == 64


def test_both_splits_and_a_name() -> None:
    task = task_of(
        GIVEN.format(module="build()", data="test=(X[:4], Y[:4]), train=(X, Y), name='mine'"),
        limit=3,
        seed=1,
    )
    assert task.name == "mine"
    assert {n: (s.count, s.available) for n, s in task.splits.items()} == {
        "test": (3, 4),
        "train": (3, 6),
    }
    assert score(task, "train")[1].counts.tolist() == [1, 1, 1]


def test_several_inputs() -> None:
    body = (
        "class Two(zoo.MLP):\n    def forward(self, a, b):\n        return super().forward(a - b)\n"
        + GIVEN.format(module="Two([5, 8, 3])", data="test=((X, X / 2), Y)")
    )
    module, found = score(task_of(body))
    expected = functional.cross_entropy(module(samples() / 2), torch.from_numpy(LABELS))
    assert found.loss == pytest.approx(expected.item(), rel=1e-6)


LOSS = """
def squares(output, targets):
    each = ((output - targets) ** 2).mean(1)
    return each, (each > 1).float()

"""


def test_a_loss_of_ones_own() -> None:
    task = task_of(
        LOSS + GIVEN.format(module="build()", data="(X, X[:, :3].double()), loss=squares")
    )
    assert (task.loss_name, task.error_name) == ("squares", "error")
    module, found = score(task)
    expected = ((module(samples()) - samples()[:, :3]) ** 2).mean(1)
    np.testing.assert_allclose(found.losses, expected.detach(), rtol=1e-6)
    assert found.errors.tolist() == (expected > 1).double().tolist()
    assert found.tempered is None
    assert not task.network(checkpoint(), "cpu").calibrates


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("lambda o, t: o.sum()", "gives no pair; expected the loss and the error of each sample"),
        ("lambda o, t: (o.sum(), o.sum())", r"gives the shapes \[\[\], \[\]\]; expected"),
        ("lambda o, t: (o, o)", r"gives the shapes \[\[1, 3\], \[1, 3\]\]; .* two tensors \[1\]"),
        ("lambda o, t: 1 / 0", r"own\.py:14: ZeroDivisionError: division by zero"),
    ],
)
def test_a_loss_that_cannot_be_used(loss: str, message: str) -> None:
    task = task_of(GIVEN.format(module="build()", data=f"(X, Y), loss={loss}"))
    with pytest.raises(InputError, match=message):
        task.network(checkpoint(), "cpu")


# A module with data in a file


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("build", ""),
        (
            "Net",
            "class Net(zoo.MLP):\n    def __init__(self):\n        super().__init__([5, 8, 3])\n",
        ),
        ("made", "def made(subject):\n    return zoo.MLP([5, len(subject.path.name), 3])\n"),
        ("ready", "ready = build()\n"),
    ],
)
def test_a_module_with_data_in_a_file(npz: Path, name: str, body: str) -> None:
    if name == "ready":
        with pytest.raises(InputError, match="missing 1 required positional argument"):
            task_of(body, name, data=npz).network(checkpoint(), "cpu")
        return
    module, found = score(task_of(body, name, data=npz))
    expected = functional.cross_entropy(module(samples()), torch.from_numpy(LABELS))
    assert found.loss == pytest.approx(expected.item(), rel=1e-6)


def test_the_arrays_of_a_file_can_be_named(here: Path) -> None:
    np.savez("x.npz", a_test=samples().numpy(), b_test=LABELS)
    settings = {"inputs": "a", "labels": "b"}
    task = task_of("", "build", data=Path("x.npz"), settings=settings)
    assert list(task.splits) == ["test"]
    with pytest.raises(InputError, match=r"'input': is no setting of --task .*mean 'inputs'"):
        task_of("", "build", data=Path("x.npz"), settings={"input": "a"})


# What cannot be used


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("def task(:\n", "task", r"own\.py:13: cannot be run: SyntaxError"),
        ("import nothing_of_this_name\n", "x", r"own\.py:13: cannot be run: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "x", r"own\.py:13: cannot be run: SystemExit: 3"),
        ("", "biuld", r"own\.py has no function 'biuld'; did you mean 'build'\?"),
        ("", "X", r"own\.py has no function 'X'"),
        ("", "build", r"gives a MLP, expected a rebasin_hub\.tasks\.TorchTask; a module needs"),
        ("def task():\n    return 3\n", "task", r"gives a int, expected a .*TorchTask$"),
        ("def task(subject):\n    return 3\n", "task", "own.py:task takes an argument; a function"),
        (
            "def task():\n    return f()\ndef f():\n    int('a')\n",
            "task",
            r"own\.py:16: ValueError",
        ),
        ("def task():\n    raise KeyError\n", "task", r"own\.py:14: KeyError$"),
        (GIVEN.format(module="build()", data=""), "task", "neither test nor train samples"),
        (GIVEN.format(module="build()", data="test=X"), "task", "is no pair of inputs and targets"),
        (GIVEN.format(module="build()", data="test=(X, Y[:4])"), "task", "as there are targets, 4"),
        (GIVEN.format(module="build()", data="test=(X[:0], Y[:0])"), "task", "has no samples"),
        (GIVEN.format(module="build()", data="test=([1], Y)"), "task", "inputs are a int; expect"),
        (GIVEN.format(module="build()", data="test=(X, X)"), "task", "expected one whole number"),
        (GIVEN.format(module="build()", data="test=(X / 0, Y)"), "task", "NaN or infinity"),
    ],
)
def test_what_a_file_does_wrong_is_told_by_its_line(body: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        task_of(body, name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (GIVEN.format(module="lambda s: 3", data="(X, Y)"), r"gives a int, expected a torch\.nn"),
        (GIVEN.format(module="lambda s: 1 / 0", data="(X, Y)"), r"own\.py:14: ZeroDivisionError"),
        (GIVEN.format(module="build()", data="(X, Y + 1)"), "label 3, the network 3 classes"),
        (GIVEN.format(module="build()", data="(X[:, :4], Y)"), r"own\.py: RuntimeError: mat1 and"),
        (GIVEN.format(module="build()", data="(X[:, None], Y)"), r"has the shape \[6, 1, 3\]"),
        (
            "class Net(zoo.MLP):\n    def forward(self, x):\n        return x.nothing\n"
            + GIVEN.format(module="Net([5, 8, 3])", data="(X, Y)"),
            r"own\.py:15: AttributeError",
        ),
        (
            "class Net(zoo.MLP):\n    def forward(self, x):\n        return {}\n"
            + GIVEN.format(module="Net([5, 8, 3])", data="(X, Y)"),
            "the network gives a dict; expected a tensor of logits",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_the_long_run(body: str, message: str) -> None:
    task = task_of(body)
    with pytest.raises(InputError, match=message):
        task.network(checkpoint(), "cpu")


def test_a_module_of_another_shape() -> None:
    task = task_of(GIVEN.format(module="zoo.MLP([5, 9, 3])", data="(X, Y)"))
    with pytest.raises(IncompatibleError, match="does not fit MLP"):
        task.network(checkpoint(), "cpu")


def test_data_and_settings_that_nobody_uses(npz: Path) -> None:
    body = GIVEN.format(module="build()", data="(X, Y)")
    with pytest.raises(InputError, match="gives its data itself; leave --data away"):
        task_of(body, data=npz)
    with pytest.raises(InputError, match=r"takes settings only with --data FILE\.npz; leave out a"):
        task_of(body, settings={"a": 1})
    with pytest.raises(InputError, match=r"none\.npz: is not there"):
        task_of(body, data=Path("none.npz"))


# The file


def test_a_file_imports_what_lies_beside_it(here: Path) -> None:
    folder = here / "code"
    folder.mkdir()
    (folder / "rebasin_sibling.py").write_text("VALUE = 7\n")
    (folder / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "import rebasin_sibling\n"
        "@dataclass\nclass Held:\n    a: int = rebasin_sibling.VALUE\n"
        "def later():\n    import rebasin_sibling as again\n    return again.VALUE\n"
    )
    assert load_function("code/own.py:Held")().a == 7
    assert load_function("code/own.py:later")() == 7


def test_names_of_functions() -> None:
    assert names_function("a/b.py:task")
    assert not any(map(names_function, ["task.yaml", "a.py", "a.py:", "a.py:b c", "mnist"]))
    with pytest.raises(InputError, match="names no Python file and function"):
        load_function("none:task")
    with pytest.raises(InputError, match=r"none\.py: does not exist"):
        load_function("none.py:task")


def test_a_models_builder_is_told_by_its_line_too() -> None:
    Path("own.py").write_text("def build():\n    return 1 / 0\n")
    builder = load_builder("own.py:build")
    with pytest.raises(InputError, match=r"own\.py:2: ZeroDivisionError: division by zero"):
        builder()
