"""A merge that is measured on a task: its weight chosen, its statistics corrected."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from rebasin_hub import zoo  # noqa: E402
from rebasin_hub.errors import InputError  # noqa: E402
from rebasin_hub.merge import Rule, Weighting  # noqa: E402
from rebasin_hub.pipeline.matching import Matching  # noqa: E402
from rebasin_hub.pipeline.merging import Measured, Merged, Recipe, merge  # noqa: E402
from rebasin_hub.pipeline.merging.measured import Meter, correct, select  # noqa: E402
from rebasin_hub.tasks import Split, Subject  # noqa: E402
from rebasin_hub.tasks.network import TensorData, TorchNetwork, names_of  # noqa: E402

CPU = Matching(device="cpu")
DIGITS = Measured("digits")


@pytest.fixture
def digits(tmp_path):
    """Write a network that was trained on digits, and one that was not; return their paths."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    paths = []
    for seed, steps in ((0, 60), (1, 0)):
        torch.manual_seed(seed)
        model = zoo.MLP([64, 24, 10])
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        paths.append(tmp_path / f"{'ab'[seed]}.safetensors")
        save_file({n: t.numpy() for n, t in model.state_dict().items()}, paths[-1])
    return paths


def test_the_better_model_gets_the_weight(digits, tmp_path):
    recipe = Recipe(measured=DIGITS, select_weight=True)
    for order, expected in ((digits, 0.0), (digits[::-1], 1.0)):
        out = tmp_path / f"{order[0].stem}-first.safetensors"
        done = merge(order, out, recipe, matching=CPU)
        assert isinstance(done, Merged)
        chosen = done.selected
        assert len(chosen.losses) == 25
        assert chosen.value == pytest.approx(expected, abs=0.2)
        assert (
            chosen.loss == min(chosen.losses) == chosen.losses[chosen.lambdas.index(chosen.value)]
        )
        assert done.plan.weights == chosen.weights
        with safe_open(out, "np") as file:
            said = json.loads(file.metadata()["rebasin"])
        assert said["weights"] == [{"weights": list(chosen.weights), "tensors": "all"}]
        assert said["selected"]["losses"] == list(chosen.losses)
        assert said["task"]["name"] == "digits"


def test_the_losses_are_those_of_what_would_be_stored(digits, tmp_path):
    recipe = Recipe(measured=DIGITS, select_weight=True, method="slerp", dtype="F16", align=False)
    chosen = merge(digits, tmp_path / "m.safetensors", recipe, matching=CPU).selected
    plain = Recipe(weights=(0.5, 0.5), method="slerp", dtype="F16", align=False)
    merge(digits, tmp_path / "n.safetensors", plain, matching=CPU)
    merged = load_file(tmp_path / "n.safetensors")
    again = Recipe(measured=DIGITS, select_weight=True)
    # Both ends are now the same model, so that every point of the line is.
    save_file(merged, tmp_path / "o.safetensors")
    twice = [tmp_path / "n.safetensors", tmp_path / "o.safetensors"]
    same = merge(twice, tmp_path / "p.safetensors", again, matching=CPU).selected
    assert same.losses[0] == pytest.approx(chosen.losses[12], rel=1e-6)
    assert same.value == 0.5  # of equal losses the one in the middle


def batch_norm_network(seed):
    network = zoo.CifarResNet(1, shortcut="A")
    zoo.randomize(network, torch.Generator().manual_seed(seed))
    return network.eval()


@pytest.fixture
def meter(tmp_path):
    """Return a task of random images with a network that has running statistics."""
    from rebasin_hub.pipeline.models import AUTOMATIC, open_model

    path = tmp_path / "bn.safetensors"
    save_file({n: t.numpy() for n, t in batch_norm_network(0).state_dict().items()}, path)
    images = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    split = Split("test", 24, 24, "", "random")
    data = {"test": TensorData(split, (images,), torch.arange(24) % 10)}

    class Task:
        name = "random"
        splits = {"test": split}  # noqa: RUF012

    with open_model(path, AUTOMATIC) as model:
        subject = Subject(path, model.binding, None, {})
        module = batch_norm_network(0)
        network = TorchNetwork(module, data, names_of(module, subject))
        yield Meter(Measured("random", samples=24), Task(), network), model


def test_statistics_are_recomputed_and_stored_in_their_types(meter):
    meter, model = meter
    found = correct(
        meter, "recompute", model.read, models=[], weights=(), header=model.header, seed=0
    )
    statistics = [n for n in model.header if n.endswith(("running_mean", "running_var"))]
    assert statistics
    assert set(statistics) <= set(found.tensors)
    assert all(name.startswith(("bn", "layer", "shortcut")) for name in found.tensors)
    assert not any(name.endswith(".weight") for name in found.tensors)
    for name, value in found.tensors.items():
        assert value.dtype == model.read(name).dtype
    # The first norm sees what the first convolution gives.
    module = batch_norm_network(0)
    images = meter.network.data["test"].inputs[0]
    expected = module.conv1(images).mean((0, 2, 3)).detach().numpy()
    assert np.allclose(found.tensors["bn1.running_mean"], expected, rtol=0, atol=1e-4)
    assert "tensors of" in found.notes[0]
    assert any("split 'test'" in note for note in found.notes)


def test_a_repair_of_an_end_changes_nothing(meter):
    meter, model = meter
    found = correct(
        meter, "repair", model.read, models=[model.read] * 2, weights=(0.5, 0.5),
        header=model.header, seed=0,
    )  # fmt: skip
    assert not found.tensors


def test_a_weight_selected_on_the_test_split_says_so(meter):
    meter, model = meter
    chosen = select(meter, lambda _: model.read, None)
    assert chosen.split == "test"
    assert "optimistic" in chosen.notes[0]


def test_a_repaired_merge_is_written(digits, tmp_path):
    out = tmp_path / "m.safetensors"
    done = merge(digits, out, Recipe(measured=DIGITS, repair="repair"), matching=CPU)
    plain = tmp_path / "n.safetensors"
    merge(digits, plain, Recipe(), matching=CPU)
    repaired, before = load_file(out), load_file(plain)
    changed = [n for n in before if repaired[n].tobytes() != before[n].tobytes()]
    assert changed
    assert all(repaired[n].dtype == before[n].dtype for n in before)
    assert any("--repair repair set" in note for note in done.notes)
    with safe_open(out, "np") as file:
        assert json.loads(file.metadata()["rebasin"])["repair"] == "repair"


def test_a_repair_goes_by_the_weights_of_each_tensor(digits, tmp_path):
    def repaired(name, weights):
        out = tmp_path / name
        recipe = Recipe(measured=DIGITS, weights=weights, repair="repair", align=False)
        merge(digits, out, recipe, matching=CPU)
        return load_file(out)

    def by_layer(first, second):
        rules = [
            (Rule((value,), "layers.0"), Rule((other,)))
            for value, other in ((first, second), (1 - first, 1 - second))
        ]
        return Weighting(tuple((rule,) for rule in rules))

    same = repaired("m.safetensors", by_layer(0.25, 0.25))
    expected = repaired("n.safetensors", (0.25, 0.75))
    assert all(same[name].tobytes() == expected[name].tobytes() for name in same)
    # What is wholly of one model as far as the last layer needs no repair.
    end = repaired("o.safetensors", by_layer(1.0, 0.5))
    a = load_file(digits[0])
    assert end["layers.0.weight"].tobytes() == a["layers.0.weight"].tobytes()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(select_weight=True), "name one with --task"),
        (Recipe(repair="repair"), "name one with --task"),
        (Recipe(measured=DIGITS), "nothing that needs it"),
        (
            Recipe(measured=DIGITS, repair="repair", weights=Weighting((), normalize=False)),
            "let them be normalized",
        ),
        (Recipe(measured=DIGITS, repair="fix"), "'fix' is none of recompute, repair"),
        (Recipe(measured=DIGITS, select_weight=True, weights=(1, 2)), "so give no weights"),
        (Recipe(measured=Measured("digitz"), select_weight=True), "there is no task 'digitz'"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(digits, tmp_path, recipe, message):
    with pytest.raises(InputError, match=message):
        merge(digits, tmp_path / "m.safetensors", recipe, matching=CPU)


def test_the_weight_is_selected_between_two(digits, tmp_path):
    recipe = Recipe(measured=DIGITS, select_weight=True)
    with pytest.raises(InputError, match="between two models, 3 were given"):
        merge([*digits, digits[0]], tmp_path / "m.safetensors", recipe, matching=CPU)
