"""A network that is built from names and shapes computes what the checkpoint's own one did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.bind import bind
from rebasin_hub.errors import InputError
from rebasin_hub.specfile import find_spec
from rebasin_hub.tensors import TensorInfo

IMAGE = (3, 3, 32, 32)
RESNEXT = {"groups": 3, "width_per_group": 48, "widths": (4, 8), "num_classes": 5}


def cifar(**options):
    return zoo.CifarResNet(**{"depth": 1, "widths": (4, 8, 16), "num_classes": 5, **options})


NETWORKS = {
    "mlp": ("mlp", lambda: zoo.MLP([7, 6, 9, 5]), (3, 7)),
    "mlp-no-bias": ("mlp", lambda: zoo.MLP([7, 6, 5], bias=False), (3, 7)),
    "mlp-one-layer": ("mlp", lambda: zoo.MLP([7, 5]), (3, 7)),
    "mlp-fc": (
        "mlp",
        # Sorted as text, fc10 comes before fc2.
        lambda: zoo.MLP([7, 6, 6, 6, 5], template="a.fc{}", numbers=(1, 2, 9, 10)),
        (3, 7),
    ),
    "vgg": (
        "vgg",
        lambda: zoo.VGG((4, "M", 6, 8, "M"), pool=3, hidden=(9, 8), num_classes=5),
        IMAGE,
    ),
    "vgg-bn": (
        "vgg",
        lambda: zoo.VGG((4, 5, "M", 6, "M"), pool=2, hidden=(9,), num_classes=5, batch_norm=True),
        IMAGE,
    ),
    "vgg-cifar": (
        "vgg",
        lambda: zoo.VGG((4, "M", 6, "M"), pool=1, hidden=(), num_classes=5, batch_norm=True),
        IMAGE,
    ),
    "resnet": (
        "resnet",
        lambda: zoo.ResNet(zoo.BasicBlock, (2, 1, 2), widths=(4, 6, 10), num_classes=5),
        IMAGE,
    ),
    "resnet-50": (
        "resnet-bottleneck",
        lambda: zoo.ResNet(zoo.Bottleneck, (2, 1), widths=(4, 6), num_classes=5),
        IMAGE,
    ),
    "resnext": ("resnet-bottleneck", lambda: zoo.ResNet(zoo.Bottleneck, (2, 1), **RESNEXT), IMAGE),
    "wide": (
        "resnet-bottleneck",
        # int(6 · w / 64) is 9 for w = 96 … 106, and int(10 · w / 64) is 16 only from w = 103 on.
        lambda: zoo.ResNet(
            zoo.Bottleneck, (1, 1), widths=(6, 10), width_per_group=105, num_classes=5
        ),
        IMAGE,
    ),
    "cifar-a": ("resnet-cifar-a", lambda: cifar(depth=2), IMAGE),
    "cifar-b": ("resnet-cifar", lambda: cifar(shortcut="B"), IMAGE),
    "cifar-18": (
        "resnet-cifar",
        lambda: cifar(depth=(2, 1, 1, 2), widths=(4, 6, 6, 9), shortcut="B"),
        IMAGE,
    ),
    "cifar-widened-stem": ("resnet-cifar", lambda: cifar(stem=3, shortcut="B"), IMAGE),
    "cifar-ln": ("resnet-cifar-layernorm", lambda: cifar(shortcut="B", norm="layer"), IMAGE),
    "cifar-gray": ("resnet-cifar", lambda: cifar(channels=1, shortcut="B"), (3, 1, 32, 32)),
}


def random(make, seed=0):
    network = make().eval()
    zoo.randomize(network, Generator().manual_seed(seed))
    return network


def bound(state, spec):
    header = {
        name: TensorInfo("F32" if t.is_floating_point() else "I64", tuple(t.shape))
        for name, t in state.items()
    }
    return bind(find_spec(spec), header)


def rebuilt(state, spec, **options):
    network, names = zoo.build(bound(state, spec), **options)
    assert list(names) == list(network.state_dict())
    network.load_state_dict({inner: state[stored] for inner, stored in names.items()})
    return network.eval()


def inputs(shape):
    return torch.randn(shape, generator=Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rebuilt_network_computes_the_same_function(name) -> None:
    spec, make, shape = NETWORKS[name]
    network, x = random(make), inputs(shape)
    expected = network(x)
    assert expected.std() > 0.01
    assert torch.equal(rebuilt(network.state_dict(), spec)(x), expected)


def test_layers_of_an_mlp_are_put_in_the_order_of_their_numbers() -> None:
    network, x = random(lambda: zoo.MLP([7, 6, 6, 5])), inputs((3, 7))
    stored = {"layers.0": "net.2", "layers.1": "net.10", "layers.2": "net.11"}
    state = {
        f"{stored[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor
        for name, tensor in reversed(network.state_dict().items())
    }
    assert torch.equal(rebuilt(state, "mlp")(x), network(x))


@pytest.mark.parametrize("name", ["mlp", "vgg"])
def test_an_activation_stands_wherever_relu_did(name) -> None:
    spec, make, shape = NETWORKS[name]
    state, x = random(make).state_dict(), inputs(shape)
    given = rebuilt(state, spec, activation=torch.tanh)
    plain = rebuilt(state, spec)
    assert not torch.allclose(given(x), plain(x))
    if name == "mlp":
        hidden = torch.tanh(functional.linear(x, state["layers.0.weight"], state["layers.0.bias"]))
        hidden = torch.tanh(
            functional.linear(hidden, state["layers.1.weight"], state["layers.1.bias"])
        )
        expected = functional.linear(hidden, state["layers.2.weight"], state["layers.2.bias"])
        torch.testing.assert_close(given(x), expected)
    else:
        assert not [m for m in given.modules() if isinstance(m, nn.ReLU)]


def test_dropout_in_other_places_shifts_no_layer_of_a_vgg() -> None:
    network, x = random(NETWORKS["vgg"][1]), inputs(IMAGE)
    shifted = {"0": "1", "3": "4", "6": "6"}
    state = {}
    for name, tensor in network.state_dict().items():
        part, number, kind = name.split(".")
        state[f"{part}.{shifted[number] if part == 'classifier' else number}.{kind}"] = tensor
    assert torch.equal(rebuilt(state, "vgg")(x), network(x))


def test_convolutions_without_biases_and_gray_images() -> None:
    network = nn.Module()
    network.features = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    )
    network.classifier = nn.Linear(4, 5)
    random(lambda: network)
    x = inputs((3, 1, 2, 2))
    expected = network.classifier(network.features(x).flatten(1))
    assert torch.equal(rebuilt(network.state_dict(), "vgg")(x), expected)


def test_a_three_by_three_stem_keeps_the_image_size() -> None:
    network = zoo.ResNet(zoo.BasicBlock, (1,), widths=(4,), num_classes=5)
    network.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    random(lambda: network)
    x = inputs((3, 1, 8, 8))
    assert torch.equal(rebuilt(network.state_dict(), "resnet")(x), network(x))


def test_building_uses_no_random_numbers() -> None:
    binding = bound(random(NETWORKS["vgg-bn"][1]).state_dict(), "vgg")
    before = torch.get_rng_state()
    network, _ = zoo.build(binding)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(tensor.any() for tensor in network.state_dict().values())


def test_what_cannot_be_built_says_what_was_found() -> None:
    vgg = random(NETWORKS["vgg"][1]).state_dict()
    far = {name.replace("features.5", "features.9"): tensor for name, tensor in vgg.items()}
    with pytest.raises(InputError, match=r"features\.9\.weight stands 6 behind.*2 or 3"):
        zoo.build(bound(far, "vgg"))
    state = dict(random(NETWORKS["resnet"][1]).state_dict())
    with pytest.raises(InputError, match="'activation' does not apply to 'resnet'"):
        zoo.build(bound(state, "resnet"), activation=torch.tanh)
    state["conv1.weight"] = torch.zeros(4, 3, 5, 5)
    with pytest.raises(InputError, match=r"conv1.weight: is a 5 × 5 convolution"):
        zoo.build(bound(state, "resnet"))
    narrow = zoo.ResNet(zoo.Bottleneck, (1, 1), widths=(4, 4), num_classes=5)
    narrow.layer2 = zoo.ResNet(zoo.Bottleneck, (1, 1), widths=(4, 4), width_per_group=128).layer2
    with pytest.raises(InputError, match=r"groups of \d+ channels in blocks of 4 planes"):
        zoo.build(bound(narrow.state_dict(), "resnet-bottleneck"))
    oblong = zoo.VGG((4, "M"), pool=1, hidden=(), num_classes=5)
    oblong.classifier = nn.Linear(8, 5)
    with pytest.raises(InputError, match="reads 8 inputs"):
        zoo.build(bound(oblong.state_dict(), "vgg"))


def test_an_architecture_without_a_network_asks_for_one() -> None:
    binding = bound(random(NETWORKS["mlp"][1]).state_dict(), "mlp")
    other = replace(binding, spec=replace(binding.spec, name="unet"))
    with pytest.raises(InputError, match=r"'unet' has no ready-made network.*--task path\.py:name"):
        zoo.build(other)
