"""What the commands make of programs of torch.export: weights are renumbered where they are."""

import pytest

torch = pytest.importorskip("torch")

from rebasin_hub.errors import IncompatibleError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.pipeline.canonicalize import canonicalize  # noqa: E402
from rebasin_hub.pipeline.inferring import infer  # noqa: E402
from rebasin_hub.pipeline.matching import align_models  # noqa: E402
from rebasin_hub.pipeline.models import AUTOMATIC, open_model  # noqa: E402

X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Residual(torch.nn.Module):
    def __init__(self, last=torch.relu):
        super().__init__()
        self.stem = torch.nn.Linear(4, 6)
        self.mix = torch.nn.Linear(6, 6)
        self.again = self.mix.weight
        self.norm = torch.nn.BatchNorm1d(6)
        self.head = torch.nn.Linear(6, 3)
        self.last = last

    def forward(self, x):
        hidden = self.stem(x)
        hidden = hidden + self.norm(self.last(self.mix(hidden))) + hidden @ self.again.T
        return self.head(hidden)


class Perceptron(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 6)
        self.fc2 = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def saved(path, module, seed=0):
    torch.manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
            tensor.mul_(torch.randn(tensor.shape).sign() if tensor.ndim > 1 else 1)
    torch.export.save(torch.export.export(module.eval(), (X,)), path)
    return path


def computed(path):
    return torch.export.load(path).module()(X)


def test_a_program_without_any_spec(tmp_path):
    path = saved(tmp_path / "a.pt2", Residual())
    done = canonicalize(path)
    assert done.plan.spec.startswith("pt2-")
    assert (done.plan.format, sum(done.moved.values()) > 0) == ("pt2", True)
    torch.testing.assert_close(computed(done.output), computed(path), rtol=1e-4, atol=1e-4)
    with open_checkpoint(path) as old, open_checkpoint(done.output) as new:
        assert (old.read("mix.weight") != new.read("mix.weight")).any()
        assert (new.read("again") == new.read("mix.weight")).all()
    assert canonicalize(done.output, tmp_path / "b.pt2").digest == done.digest
    assert align_models(done.output, path).alignment.cosine == pytest.approx(1)
    # Other weights, the same graph: the same spec.
    with open_model(saved(tmp_path / "c.pt2", Residual(), seed=1), AUTOMATIC) as model:
        assert model.binding.spec.name == done.plan.spec


def test_the_certificate_of_a_program_with_tied_weights(tmp_path):
    found = infer(str(saved(tmp_path / "a.pt2", Residual())))
    assert [group.size for group in found.groups] == [6]
    assert (found.certified, found.removed) == (True, {})
    assert "again:" in found.text


def test_programs_with_other_graphs(tmp_path):
    path = saved(tmp_path / "a.pt2", Residual())
    other = saved(tmp_path / "b.pt2", Residual(torch.tanh))
    with pytest.raises(IncompatibleError, match=r"different graphs: operator \d+"):
        align_models(path, other)


def test_a_shipped_spec_that_the_graph_bears_out(tmp_path):
    path = saved(tmp_path / "a.pt2", Perceptron())
    with open_model(path, AUTOMATIC) as model:
        assert model.binding.spec.name == "mlp"
        assert "and the graph allows what it renumbers" in model.checkpoint.notes[-1]
