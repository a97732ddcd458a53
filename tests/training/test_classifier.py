"""From settings to checkpoints that the product's commands read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from rebasin_hub.errors import InputError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.models import AUTOMATIC, open_model
from rebasin_hub.tasks import Options
from rebasin_hub.training import Classifier, Recipe, Subset
from rebasin_hub.training.masks import load_masks, prune

MLP = Classifier(
    "net", "MLP", {"widths": [64, 16, 16, 10]}, Recipe(2, batch=64), subset=Subset(first=300)
)
NETWORKS = {
    "mlp": MLP,
    "resnet-cifar": replace(
        MLP,
        network="CifarResNet",
        arguments={"depth": 1, "widths": [4, 8], "channels": 1, "shortcut": "B"},
    ),
    "resnet-cifar-layernorm": replace(
        MLP,
        network="CifarResNet",
        arguments={
            "depth": 1,
            "widths": [4, 8],
            "channels": 1,
            "shortcut": "B",
            "norm": "layer",
        },
    ),
}


@pytest.mark.parametrize("spec", NETWORKS)
def test_the_product_reads_the_checkpoint_and_agrees_with_the_log(tmp_path, spec) -> None:
    one = NETWORKS[spec].trained(tmp_path)
    with open_model(one.path, AUTOMATIC) as model:
        assert model.binding.spec.name == spec
    request = Request(
        (one.path, one.path),
        "digits",
        Options(settings={"split": "test"}),
        align=False,
        points=3,
        treatments=("as is",),
    )
    (curve,) = measure_barrier(request).curves
    assert curve.loss[0] == pytest.approx(one.log["test"]["loss"], abs=1e-4)
    assert curve.error[0] == pytest.approx(1 - one.log["test"]["accuracy"], abs=3 / 360)
    assert one.log["train"]["images"] == 300


def test_a_second_call_trains_nothing(tmp_path, monkeypatch) -> None:
    told = []
    first = MLP.trained(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    monkeypatch.setattr("rebasin_hub.training.run.train", None)
    again = MLP.trained(tmp_path)
    assert again.path == first.path
    assert again.log == first.log


def test_the_same_settings_give_the_same_bytes(tmp_path) -> None:
    one, other = (MLP.trained(tmp_path / name) for name in "ab")
    assert one.path.read_bytes() == other.path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"order": 1},
        {"recipe": Recipe(1, batch=64)},
        {"recipe": Recipe(2, batch=64, precision="bfloat16")},
        {"subset": Subset(first=299)},
        {"arguments": {"widths": [64, 17, 16, 10]}},
    ],
)
def test_whatever_decides_weights_is_another_network(tmp_path, change) -> None:
    first, other = MLP.trained(tmp_path), replace(MLP, **change).trained(tmp_path)
    assert first.path.read_bytes() != other.path.read_bytes()


def test_snapshots_lie_on_the_way(tmp_path) -> None:
    one = replace(MLP, snapshots=(0, 1, 2)).trained(tmp_path)
    half = replace(MLP, recipe=Recipe(1, batch=64)).trained(tmp_path)
    assert list(one.snapshots) == [0, 1, 2]
    assert one.snapshots[1].read_bytes() == half.path.read_bytes()
    assert one.snapshots[2].read_bytes() == one.path.read_bytes()
    assert one.snapshots[0].read_bytes() != one.path.read_bytes()


def test_training_goes_on_from_given_weights(tmp_path) -> None:
    start = replace(MLP, snapshots=(0,)).trained(tmp_path).snapshots[0]
    # The start's own seed has no say any more, only the order of the images.
    again = replace(MLP, seed=7, order=0, start=start).trained(tmp_path)
    assert again.path.read_bytes() == MLP.trained(tmp_path).path.read_bytes()
    with pytest.raises(InputError, match="does not fit the network to train"):
        replace(MLP, arguments={"widths": [64, 8, 10]}, start=start).trained(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        replace(MLP, start=tmp_path / "gone.safetensors").trained(tmp_path)


def test_an_unknown_network_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="no network 'RNN' to train; there are MLP"):
        replace(MLP, network="RNN").trained(tmp_path)


# Pruning


def test_the_smallest_weights_of_all_tensors_are_pruned(tmp_path) -> None:
    one = MLP.trained(tmp_path)
    left = prune(one.path, tmp_path / "m.safetensors", share=0.3)
    weights, masks = load_file(one.path), load_file(tmp_path / "m.safetensors")
    sizes = np.concatenate([abs(w).ravel() for w in weights.values() if w.ndim > 1])
    limit = np.sort(sizes)[round(0.3 * len(sizes))]
    assert masks.keys() == weights.keys()
    for name, weight in weights.items():
        expected = abs(weight) >= limit if weight.ndim > 1 else np.ones(weight.shape, bool)
        np.testing.assert_array_equal(masks[name], expected)
    assert left == pytest.approx(0.7, abs=1e-3)
    assert set(load_masks(tmp_path / "m.safetensors")) == {n for n in weights if "weight" in n}


def test_rounds_of_pruning_take_their_share_of_what_is_left(tmp_path) -> None:
    one = MLP.trained(tmp_path)
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    prune(one.path, first, share=0.5)
    pruned = replace(MLP, start=one.path, mask=first, order=1).trained(tmp_path)
    masks, weights = load_file(first), load_file(pruned.path)
    assert all(not weights[name][~mask].any() for name, mask in masks.items())
    assert prune(pruned.path, second, share=0.5, before=first) == pytest.approx(0.25, abs=1e-3)
    assert all((later <= masks[name]).all() for name, later in load_file(second).items())


def test_masks_are_renumbered_like_their_checkpoint(tmp_path) -> None:
    one = MLP.trained(tmp_path)
    masks, permutations = tmp_path / "m.safetensors", tmp_path / "p.safetensors"
    prune(one.path, masks, share=0.4)
    align_models(one.path, one.path, permutations, matching=Matching("random", "cpu", 3))
    apply_file(permutations, one.path, tmp_path / "one.safetensors")
    apply_file(permutations, masks, tmp_path / "masks.safetensors", other_model=True)
    prune(tmp_path / "one.safetensors", tmp_path / "direct.safetensors", share=0.4)
    renumbered, direct = (load_file(tmp_path / f"{n}.safetensors") for n in ("masks", "direct"))
    for name, mask in renumbered.items():
        np.testing.assert_array_equal(mask, direct[name])


def test_what_cannot_be_pruned_is_refused(tmp_path) -> None:
    one = MLP.trained(tmp_path)
    with pytest.raises(InputError, match="the share to prune is 2"):
        prune(one.path, tmp_path / "m.safetensors", share=2)
    other = replace(MLP, arguments={"widths": [64, 8, 10]}).trained(tmp_path)
    prune(other.path, tmp_path / "other.safetensors", share=0.5)
    with pytest.raises(InputError, match="is no mask of"):
        prune(
            one.path, tmp_path / "m.safetensors", share=0.5, before=tmp_path / "other.safetensors"
        )
    with pytest.raises(InputError, match="masks are boolean"):
        load_masks(one.path)
    with open_checkpoint(tmp_path / "other.safetensors") as masks:
        assert {info.dtype for info in masks.header.values()} == {"BOOL"}
