"""The training loop."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.training import Recipe
from rebasin_hub.training.device import seeded
from rebasin_hub.training.fit import Watch, evaluate, fit
from rebasin_hub.training.images import Images, shuffled
from rebasin_hub.zoo import MLP


def images(count=48, size=6):
    generator = Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    pixels = torch.rand(count, 1, size, size, generator=generator) / 4
    pixels[torch.arange(count), 0, labels, labels] += 0.75
    return Images(pixels * 255, labels, 255.0, flat=True)


def trained(seed=0, recipe=None, **options):
    network = seeded(lambda: MLP([36, 8, 3]), seed)
    log = fit(network, images(), recipe or Recipe(3, batch=20), seed=seed, **options)
    return network, log


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_network_learns_and_says_so() -> None:
    network, log = trained(recipe=Recipe(30, batch=16, rate=1e-2))
    assert len(log) == 30
    assert log[-1]["loss"] < 0.1 < log[0]["loss"]
    found = evaluate(network, images())
    assert found["accuracy"] == 1.0
    assert found["loss"] < 0.1


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_same_seed_gives_the_same_bits(optimizer) -> None:
    recipe = Recipe(2, batch=20, optimizer=optimizer, one_cycle=True, rate=1e-2)
    assert same(trained(1, recipe)[0], trained(1, recipe)[0])
    assert not same(trained(1, recipe)[0], trained(2, recipe)[0])


def test_the_order_of_images_is_a_seed_of_its_own() -> None:
    networks = [seeded(lambda: MLP([36, 8, 3]), 0) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        fit(network, images(), Recipe(1, batch=20), seed=seed)
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])


def test_the_logged_loss_weighs_batches_by_their_size() -> None:
    network = seeded(lambda: MLP([36, 8, 3]), 0)
    before = evaluate(network, images())["loss"]
    # Steps so small that nothing moves: the mean over all images, 20 + 20 + 8, is the loss.
    log = fit(network, images(), Recipe(1, batch=20, rate=1e-12), seed=0)
    assert log[0]["loss"] == pytest.approx(before, abs=2e-6)


def test_threads_are_as_before() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        trained()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_weights_are_kept_on_the_way() -> None:
    kept = {}
    network = seeded(lambda: MLP([36, 8, 3]), 0)
    start = network.layers.get_submodule("0").weight.detach().clone()

    def keep(epoch):
        kept[epoch] = network.layers.get_submodule("0").weight.detach().clone()

    # Three steps an epoch.
    fit(network, images(), Recipe(2, batch=20), seed=0, watch=Watch((0, 1 / 3, 1, 2), keep))
    assert list(kept) == [0, 1 / 3, 1, 2]
    assert torch.equal(kept[0], start)
    assert torch.equal(kept[2], network.layers.get_submodule("0").weight)
    one = seeded(lambda: MLP([36, 8, 3]), 0)
    fit(one, images(), Recipe(1, batch=20), seed=0)
    assert torch.equal(kept[1], one.layers.get_submodule("0").weight)
    assert not torch.equal(kept[1 / 3], kept[0])
    assert not torch.equal(kept[1 / 3], kept[1])


@pytest.mark.parametrize(
    ("epochs", "message"), [((3,), "no epoch 3"), ((0.01, 0.02), "at the same step")]
)
def test_epochs_that_cannot_be_kept_are_refused(epochs, message) -> None:
    with pytest.raises(InputError, match=message):
        trained(recipe=Recipe(2, batch=20), watch=Watch(epochs))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_a_mask_prunes_stays_zero(optimizer) -> None:
    mask = torch.rand(8, 36, generator=Generator().manual_seed(3)) < 0.4
    recipe = Recipe(2, batch=20, optimizer=optimizer, rate=1e-2)
    network, _ = trained(recipe=recipe, masks={"layers.0.weight": mask})
    weight = network.layers.get_submodule("0").weight
    assert not weight[~mask].any()
    assert weight[mask].all()


@pytest.mark.parametrize("name", ["layers.9.weight", "layers.0.bias"])
def test_a_mask_of_another_network_is_refused(name) -> None:
    with pytest.raises(InputError, match=f"the mask '{name}' of shape"):
        trained(masks={name: torch.ones(8, 36, dtype=torch.bool)})


def test_a_loss_that_is_no_number_ends_with_its_place_and_rate() -> None:
    recipe = Recipe(50, batch=16, optimizer="sgd", rate=1e6)
    with pytest.raises(NotFiniteError, match=r"epoch \d+, step \d of 3, with the learning rate"):
        trained(recipe=recipe)


def test_an_epoch_shows_every_image_once_augmented_or_not() -> None:
    seen = images()
    generator = Generator().manual_seed(0)
    plain = list(shuffled(seen, 20, generator))
    assert [len(labels) for _, labels in plain] == [20, 20, 8]
    inputs = torch.cat([x for x, _ in plain])
    assert sorted(map(tuple, inputs.tolist())) == sorted(
        map(tuple, seen.inputs(seen.pixels).tolist())
    )
    moved = torch.cat([x for x, _ in shuffled(seen, 48, generator, augment=True)])
    assert moved.shape == (48, 36)
    assert moved.max() <= 1
    assert moved.sum() < inputs.sum()  # zeros came in


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 1, "batch": 0}, "batch is 0"),
        ({"epochs": 1, "rate": 0.0}, "rate is 0"),
        ({"epochs": 1, "rate": float("nan")}, "rate is nan"),
        ({"epochs": 1, "optimizer": "lion"}, "optimizer is 'lion'"),
        ({"epochs": 1, "precision": "float8"}, "precision is 'float8'"),
    ],
)
def test_a_recipe_is_checked(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**settings)
