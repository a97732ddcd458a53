"""A merge with a weight for each layer, chosen on a task."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from rebasin_hub import zoo  # noqa: E402
from rebasin_hub.errors import InputError, NotFiniteError  # noqa: E402
from rebasin_hub.merge import Rule, Weighting  # noqa: E402
from rebasin_hub.pipeline.matching import Matching  # noqa: E402
from rebasin_hub.pipeline.merging import Measured, Recipe, layerwise, merge  # noqa: E402
from rebasin_hub.pipeline.merging.layerwise import layers_of  # noqa: E402
from rebasin_hub.tasks import Options  # noqa: E402
from rebasin_hub.tasks.network import TensorData, TorchNetwork  # noqa: E402
from rebasin_hub.tensors import TensorInfo, dtype_of  # noqa: E402

CPU = Matching(device="cpu")
DIGITS = Measured("digits", Options(limit=200))
CHOSEN = Recipe(measured=DIGITS, select_layer_weights=True)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(layerwise, "STEPS", 30)


@pytest.fixture
def halves(tmp_path):
    """Write two networks, each of which has half of its layers trained and half at random.

    The one's trained half is the other's random one, so that the best weights are 0 and 1.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model, noise = zoo.MLP([64, 24, 24, 10]), zoo.MLP([64, 24, 24, 10])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    good, bad = ({n: t.numpy() for n, t in m.state_dict().items()} for m in (model, noise))
    paths = []
    for letter, kept in (("a", "layers.0"), ("b", ("layers.1", "layers.2"))):
        paths.append(tmp_path / f"{letter}.safetensors")
        save_file({n: (good if n.startswith(kept) else bad)[n] for n in good}, paths[-1])
    return paths


def test_each_layer_comes_from_the_model_that_has_it(halves, tmp_path):
    out = tmp_path / "m.safetensors"
    recipe = Recipe(measured=DIGITS, select_layer_weights=True, align=False)
    done = merge(halves, out, recipe, matching=CPU)
    found = done.layered
    assert found.shares["layers.0"] < 0.4
    assert found.shares["layers.1"] > 0.6
    assert found.loss < 0.7 * found.start
    assert found.loss == min(found.history)
    assert done.plan.weights is None
    a, b, merged = (load_file(path) for path in (*halves, out))
    for name, value in merged.items():
        share = found.shares[name.rpartition(".")[0]]
        np.testing.assert_allclose(value, (1 - share) * a[name] + share * b[name], atol=1e-6)
    with safe_open(out, "np") as file:
        said = json.loads(file.metadata()["rebasin"])
    assert said["layer_weights"]["history"] == list(found.history)
    assert said["layer_weights"]["loss"] == "cross-entropy (train)"
    for group in said["weights"]:
        shares = {found.shares[name.rpartition(".")[0]] for name in group["tensors"]}
        assert group["weights"] == [1 - min(shares), min(shares)]
        assert len(shares) == 1


@pytest.mark.parametrize("weights", [None, (3, 1), (1, 0)])
def test_the_mean_stays(halves, tmp_path, weights):
    recipe = Recipe(measured=DIGITS, select_layer_weights=True, weights=weights, align=False)
    found = merge(halves, tmp_path / "m.safetensors", recipe, matching=CPU).layered
    a = load_file(halves[0])
    sizes = [sum(a[name].size for name in names) for names in found.tensors.values()]
    mean = np.dot(sizes, list(found.shares.values())) / sum(sizes)
    assert mean == pytest.approx(0.5 if weights is None else weights[1] / sum(weights), abs=1e-9)
    assert found.loss <= found.start


def test_the_same_seed_gives_the_same_bytes(halves, tmp_path):
    outs = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        merge(halves, out, CHOSEN, matching=Matching(device="cpu", seed=seed))
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_bytes() != outs[2].read_bytes()


def test_equal_models_give_themselves_back(halves, tmp_path):
    out = tmp_path / "m.safetensors"
    merge([halves[0]] * 2, out, CHOSEN, matching=CPU)
    a, merged = load_file(halves[0]), load_file(out)
    assert all(merged[name].tobytes() == a[name].tobytes() for name in a)


def test_repair_goes_by_the_weight_of_each_layer(halves, tmp_path):
    recipe = Recipe(measured=DIGITS, select_layer_weights=True, repair="repair", align=False)
    done = merge(halves, tmp_path / "m.safetensors", recipe, matching=CPU)
    assert any("--repair repair set" in note for note in done.notes)


def test_a_loss_that_is_no_number_is_told(halves, tmp_path):
    broken = load_file(halves[0])
    broken["layers.1.bias"] = np.full_like(broken["layers.1.bias"], np.nan)
    save_file(broken, halves[0])
    recipe = Recipe(measured=DIGITS, select_layer_weights=True, align=False)
    with pytest.raises(NotFiniteError, match="the loss is nan at step 0"):
        merge(halves, tmp_path / "m.safetensors", recipe, matching=CPU)
    assert not (tmp_path / "m.safetensors").exists()


BY_TENSOR = Weighting(
    (((Rule((0.2,), "layers.0"), Rule((0.5,))),), ((Rule((0.5,)),),)),
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measured": None}, "name one with --task"),
        ({"select_weight": True}, "select one weight or one for each layer"),
        ({"method": "slerp"}, "on the straight line, not with slerp"),
        ({"weights": BY_TENSOR}, "so give none by tensor"),
        (
            {"weights": Weighting(BY_TENSOR.models, normalize=False)},
            "let the recipe's weights be normalized",
        ),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(halves, tmp_path, settings, message):
    recipe = Recipe(**{"measured": DIGITS, "select_layer_weights": True, **settings})
    with pytest.raises(InputError, match=message):
        merge(halves, tmp_path / "m.safetensors", recipe, matching=CPU)


def test_layers_are_selected_between_two(halves, tmp_path):
    with pytest.raises(InputError, match="between two models, 3 were given"):
        merge([*halves, halves[0]], tmp_path / "m.safetensors", CHOSEN, matching=CPU)


def test_layers_are_the_modules_with_tensors_of_their_own():
    module = zoo.CifarResNet(1, shortcut="B")
    state = module.state_dict()
    header = {n: TensorInfo(dtype_of(x.numpy()), tuple(x.shape)) for n, x in state.items()}
    names = {name: f"stored/{name}" for name in state}
    network = TorchNetwork(module, {"test": TensorData(None, (), torch.zeros(0))}, names)
    layers = layers_of(network, {names[n]: info for n, info in header.items()})
    assert list(layers)[:3] == ["stored/conv1", "stored/bn1", "stored/layer1.0.conv1"]
    assert layers["stored/bn1"] == tuple(
        f"stored/bn1.{key}" for key in ("weight", "bias", "running_mean", "running_var")
    )
    network.names["linear.bias"] = "stored/conv1.weight"  # as where tensors are tied
    tied = layers_of(network, {names[n]: info for n, info in header.items()})
    assert tied["stored/conv1"] == ("stored/conv1.weight",)
    assert tied["stored/linear"] == ("stored/linear.weight",)


def test_layers_whose_tensors_have_plain_names_are_the_modules():
    module = zoo.MLP([3, 2, 2])
    names = {name: name.replace(".", "") for name in module.state_dict()}
    header = {names[n]: TensorInfo("F32", tuple(x.shape)) for n, x in module.state_dict().items()}
    network = TorchNetwork(module, {"test": TensorData(None, (), torch.zeros(0))}, names)
    layers = layers_of(network, header)
    assert layers == {f"layers.{n}": (f"layers{n}weight", f"layers{n}bias") for n in range(2)}
