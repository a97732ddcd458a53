"""The reference networks: names, sizes, functions, and random weights that hide nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from rebasin_hub import zoo

NETWORKS = {
    "mlp": lambda: zoo.MLP([7, 6, 5]),
    "vgg": lambda: zoo.VGG((4, "M", 6), pool=2, hidden=(8, 8), num_classes=5),
    "vgg-bn": lambda: zoo.VGG((4, "M", 6), batch_norm=True, pool=1, hidden=(), num_classes=5),
    "resnet": lambda: zoo.ResNet(zoo.BasicBlock, (1, 2), widths=(4, 6), num_classes=5),
    "resnext": lambda: zoo.ResNet(
        zoo.Bottleneck, (1, 1), widths=(4, 8), groups=2, width_per_group=32, num_classes=5
    ),
    "cifar-a": lambda: zoo.CifarResNet(1),
    "cifar-b": lambda: zoo.CifarResNet(1, shortcut="B"),
    "cifar-ln": lambda: zoo.CifarResNet(1, shortcut="B", norm="layer"),
}


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    network = NETWORKS[name]().to(dtype).eval()
    zoo.randomize(network, Generator().manual_seed(seed))
    return network


def inputs_for(name: str, batch: int = 3) -> Tensor:
    shape = (batch, 7) if name == "mlp" else (batch, 3, 16, 16)
    return torch.randn(shape, dtype=torch.float64, generator=Generator().manual_seed(1))


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


# Names and shapes


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["layers.0", "layers.1", "layers.2"]),
        ({"template": "net.{}", "numbers": (0, 2, 4)}, ["net.0", "net.2", "net.4"]),
        ({"template": "fc{}", "numbers": (1, 2, 3)}, ["fc1", "fc2", "fc3"]),
        ({"template": "a.b.{}.lin"}, ["a.b.0.lin", "a.b.1.lin", "a.b.2.lin"]),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_mlp_is_named_by_its_template(options, names, bias) -> None:
    network = zoo.MLP([5, 4, 3, 2], bias=bias, **options)
    kinds = ["weight", "bias"] if bias else ["weight"]
    assert list(network.state_dict()) == [f"{name}.{kind}" for name in names for kind in kinds]
    assert shapes(network)[f"{names[0]}.weight"] == (4, 5)


@pytest.mark.parametrize(("widths", "numbers"), [([3], None), ([3, 2], (0, 1)), ([3, 2, 1], (0,))])
def test_mlp_refuses_widths_and_numbers_that_do_not_fit(widths, numbers) -> None:
    with pytest.raises(ValueError, match=r"widths|argument"):
        zoo.MLP(widths, numbers=numbers)


def test_vgg_numbers_its_layers_as_torchvision_does() -> None:
    plain, normed = zoo.VGG((4, "M", 6), hidden=(8, 9)), zoo.VGG((4, "M", 6), batch_norm=True)
    weights = [name for name in plain.state_dict() if name.endswith(".weight")]
    assert weights == [
        *("features.0.weight", "features.3.weight"),
        *("classifier.0.weight", "classifier.3.weight", "classifier.6.weight"),
    ]
    assert shapes(plain)["classifier.0.weight"] == (8, 6 * 7 * 7)
    assert {"features.0.bias", "features.1.running_var", "features.4.weight"} <= set(shapes(normed))


def test_vgg_for_cifar_ends_in_one_linear_layer() -> None:
    network = zoo.VGG((4, "M", 6), pool=1, hidden=(), num_classes=10)
    assert list(network.state_dict())[-2:] == ["classifier.weight", "classifier.bias"]
    assert shapes(network)["classifier.weight"] == (10, 6)


def test_cifar_resnet_names() -> None:
    padded, projected = shapes(build("cifar-a")), shapes(build("cifar-b"))
    extra = [name for name in projected if name not in padded]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert extra == [
        f"layer{stage}.0.shortcut.{name}"
        for stage in (2, 3)
        for name in ("0.weight", *(f"1.{kind}" for kind in norm))
    ]
    assert padded["layer2.0.conv1.weight"] == (32, 16, 3, 3)
    assert padded["linear.weight"] == (10, 64)
    assert [name for name in shapes(build("cifar-ln")) if "running" in name] == []


PUBLISHED_SIZES = {
    # torchvision's documentation gives the number of parameters of each of its models;
    # ResNet-20 has 0.27 M (He et al., arXiv:1512.03385, table 6).
    "vgg11": (zoo.VGG, 132_863_336),
    "vgg11_bn": (lambda: zoo.VGG(batch_norm=True), 132_868_840),
    "vgg16": (lambda: zoo.VGG(zoo.VGG16), 138_357_544),
    "resnet18": (lambda: zoo.ResNet(zoo.BasicBlock, (2, 2, 2, 2)), 11_689_512),
    "resnet50": (lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3)), 25_557_032),
    "resnext50_32x4d": (
        lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
        25_028_904,
    ),
    "wide_resnet50_2": (
        lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3), width_per_group=128),
        68_883_240,
    ),
    "resnet20-A": (lambda: zoo.CifarResNet(3), 269_722),
    "resnet20-B": (lambda: zoo.CifarResNet(3, shortcut="B"), 272_474),
}


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_number_of_parameters_is_the_published_one(name) -> None:
    make, published = PUBLISHED_SIZES[name]
    with torch.device("meta"):
        network = make()
    assert sum(parameter.numel() for parameter in network.parameters()) == published


def test_resnet_refuses_what_no_checkpoint_has() -> None:
    with pytest.raises(ValueError, match="groups=1"):
        zoo.ResNet(zoo.BasicBlock, (1,), widths=(4,), groups=2)
    with pytest.raises(ValueError, match="argument"):
        zoo.ResNet(zoo.BasicBlock, (1, 1), widths=(4,))


# Functions


def test_mlp_computes_a_chain_of_affine_maps() -> None:
    network = zoo.MLP([4, 3, 2], activation=torch.tanh, template="fc{}", numbers=(1, 2)).double()
    zoo.randomize(network, Generator().manual_seed(0))
    state = network.state_dict()
    x = torch.randn(5, 4, dtype=torch.float64, generator=Generator().manual_seed(1))
    hidden = torch.tanh(x @ state["fc1.weight"].T + state["fc1.bias"])
    expected = hidden @ state["fc2.weight"].T + state["fc2.bias"]
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def silence_branch(network: nn.Module, block: str) -> None:
    """Make a block's residual branch zero, so that only its shortcut is left."""
    norm = network.get_submodule(f"{block}.bn2")
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)


def test_option_a_keeps_every_other_pixel_and_pads_channels_on_both_sides() -> None:
    network = build("cifar-a")
    silence_branch(network, "layer2.0")
    x = torch.rand(2, 16, 5, 6, dtype=torch.float64, generator=Generator().manual_seed(1))
    y = network.get_submodule("layer2.0")(x)
    assert y.shape == (2, 32, 3, 3)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_option_b_projects_with_a_strided_convolution_and_a_norm() -> None:
    network = build("cifar-b")
    silence_branch(network, "layer2.0")
    block = network.get_submodule("layer2.0")
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64, generator=Generator().manual_seed(1))
    weight = block.get_parameter("shortcut.0.weight")[:, :, 0, 0]
    projected = torch.einsum("bchw,oc->bohw", x[:, :, ::2, ::2], weight)
    expected = functional.relu(block.get_submodule("shortcut.1")(projected))
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_layer_norm_variant_normalizes_the_channels_of_each_pixel() -> None:
    norm = build("cifar-ln").get_submodule("ln1")
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64, generator=Generator().manual_seed(1))
    scaled = (x - x.mean(1, keepdim=True)) / (
        x.var(1, keepdim=True, correction=0) + norm.eps
    ) ** 0.5
    expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)


# Random weights


@pytest.mark.parametrize("name", NETWORKS)
def test_randomize_leaves_no_default_value(name) -> None:
    for key, tensor in build(name).state_dict().items():
        if not tensor.is_floating_point():
            assert key.endswith("num_batches_tracked")
            assert tensor == 0
        else:
            assert tensor.unique().numel() == tensor.numel(), key
            assert not torch.isin(tensor, torch.tensor([0, 1], dtype=tensor.dtype)).any(), key
            if key.endswith("running_var"):
                assert tensor.min() >= 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_every_random_tensor_matters_to_the_function(name) -> None:
    network, x = build(name), inputs_for(name)
    before = network(x)
    assert before.isfinite().all()
    assert 0.05 < before.std() < 50
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            kept = tensor.clone()
            tensor.copy_(tensor.roll(1, 0))
            assert not torch.allclose(network(x), before, rtol=1e-6, atol=1e-6), key
            tensor.copy_(kept)


def test_randomize_repeats_and_does_not_depend_on_the_dtype() -> None:
    first, again, other = build("resnet"), build("resnet"), build("resnet", seed=1)
    single = build("resnet", dtype=torch.float32)
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])
        if tensor.is_floating_point():
            assert torch.equal(tensor.float(), single.state_dict()[key])
            assert not torch.equal(tensor, other.state_dict()[key])
