"""Image tasks: what is measured, the networks for it, and what is refused."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import (
    CIFAR100,
    images,
    reader,
    splits,
    subject,
    write_cifar,
    write_folder,
    write_idx,
    write_parquet,
)
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.demo import digits as demo
from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.tasks import Options
from rebasin_hub.tasks.images import NAMES, image_task

COLOUR = {"shape": (3, 32, 32)}


def task(name, data: Path | None = None, *, limit=None, seed=0, batch=256, **settings):
    return image_task(
        name, Options(data=data, limit=limit, seed=seed, batch=batch, settings=settings)
    )


@pytest.fixture(scope="module")
def trained():
    """A small network that knows most digits."""
    data = demo.load_digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = zoo.MLP((64, 32, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(network(data.train[0]), data.train[1]).backward()
        optimizer.step()
    return network


def scores_of(made, network, spec, split="test", device="cpu"):
    runnable = made.network(subject(network, spec), device)
    return runnable.score([runnable.state(reader(network))], split)[0]


def expected(network, inputs, labels):
    with torch.no_grad():
        logits = network.eval()(inputs)
    wrong = (logits.argmax(1) != labels).double().mean().item()
    return functional.cross_entropy(logits.double(), labels).item(), wrong


# Measures


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("batch", [13, 256, 5000])
def test_a_trained_network_scores_what_torch_says(trained, split, batch) -> None:
    data = demo.load_digits()
    loss, error = expected(trained, *(data.test if split == "test" else data.train))
    assert error < 0.2
    scores = scores_of(task("digits", batch=batch), trained, "mlp", split)
    assert scores.loss == pytest.approx(loss, abs=1e-6)
    assert scores.error == pytest.approx(error, abs=1e-12)


def test_five_points_at_once_are_five_points(trained) -> None:
    other = zoo.MLP((64, 32, 10))
    runnable = task("digits", batch=100).network(subject(trained, "mlp"), "cpu")
    ends = [runnable.state(reader(network)) for network in (trained, other)]
    line = [runnable.mix(ends, [1 - x, x]) for x in (0, 0.25, 0.5, 0.75, 1)]
    alone = runnable.score(line, "test")
    runnable.together = 5
    for one, five in zip(alone, runnable.score(line, "test"), strict=True):
        np.testing.assert_allclose(one.losses, five.losses, rtol=1e-5, atol=1e-6)
        assert np.array_equal(one.errors, five.errors)
    assert alone[0].loss == pytest.approx(scores_of(task("digits"), trained, "mlp").loss)


def test_weights_in_float64_are_run_in_float64(trained) -> None:
    wide = zoo.MLP((64, 32, 10)).double()
    wide.load_state_dict(trained.state_dict())
    data = demo.load_digits()
    loss, _ = expected(wide, data.test[0].double(), data.test[1])
    assert scores_of(task("digits"), wide, "mlp").loss == pytest.approx(loss, abs=1e-12)
    # A checkpoint of another element type on the other end of the line.
    runnable = task("digits").network(subject(wide, "mlp"), "cpu")
    narrow = runnable.state(reader(trained))
    assert runnable.score([narrow], "test")[0].loss == pytest.approx(loss, abs=1e-6)


def test_convolutional_networks_get_images(tmp_path) -> None:
    data = splits(**COLOUR)
    network = zoo.CifarResNet(1, widths=(4, 8, 16))
    zoo.randomize(network, torch.Generator().manual_seed(0))
    pixels, labels = data["test"]
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    inputs = torch.from_numpy(pixels).float() / 255
    shaped = [torch.tensor(x).reshape(3, 1, 1) for x in (mean, std)]
    made = task("cifar10", write_cifar(tmp_path, data), mean=mean, std=std, batch=4)
    loss, _ = expected(network, (inputs - shaped[0]) / shaped[1], torch.from_numpy(labels))
    assert scores_of(made, network, "resnet-cifar-a").loss == pytest.approx(loss, abs=1e-5)
    plain, _ = expected(network, inputs, torch.from_numpy(labels))
    assert abs(plain - loss) > 1e-2
    made = task("cifar10", tmp_path)
    assert scores_of(made, network, "resnet-cifar-a").loss == pytest.approx(plain, abs=1e-5)


def test_rows_hold_channel_after_channel(tmp_path) -> None:
    data = splits(shape=(3, 4, 4))
    network = zoo.MLP((48, 12, 10))
    pixels, labels = data["test"]
    inputs = torch.from_numpy(pixels).float().flatten(1) / 255
    loss, _ = expected(network, inputs, torch.from_numpy(labels))
    made = task("images", write_folder(tmp_path, data), classes=10)
    assert scores_of(made, network, "mlp").loss == pytest.approx(loss, abs=1e-6)


def test_an_activation_can_be_given(trained) -> None:
    data = demo.load_digits()
    tanh = zoo.MLP((64, 32, 10), activation=torch.tanh)
    tanh.load_state_dict(trained.state_dict())
    loss, _ = expected(tanh, *data.test)
    assert scores_of(task("digits", activation="tanh"), trained, "mlp").loss == pytest.approx(
        loss, abs=1e-6
    )


# Data


KNOWN = {
    "mnist": (partial(write_idx, packed=True), {}),
    "fashion-mnist": (write_idx, {}),
    "cifar10": (write_cifar, COLOUR),
    "cifar100": (partial(write_cifar, names=CIFAR100), COLOUR),
}


@pytest.mark.parametrize("name", KNOWN)
def test_well_known_files_are_found_below_the_folder(tmp_path, name) -> None:
    write, options = KNOWN[name]
    write(tmp_path / "some" / "raw", splits(**options))
    made = task(name, tmp_path)
    assert made.name == name
    assert list(made.splits) == ["test", "train"]
    assert [(s.count, s.available) for s in made.splits.values()] == [(6, 6), (8, 8)]
    assert "some" in made.splits["test"].source


def test_mnist_and_its_likes_share_a_folder(tmp_path) -> None:
    one, other = splits(), {k: images(4, seed=5) for k in ("test", "train")}
    write_idx(tmp_path / "MNIST" / "raw", one)
    write_idx(tmp_path / "FashionMNIST" / "raw", other)
    assert task("mnist", tmp_path).splits["test"].count == 6
    assert task("fashion-mnist", tmp_path).splits["test"].count == 4
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no images were found"):
        task("mnist", tmp_path)


def test_named_data_may_lie_in_another_format(tmp_path) -> None:
    pixels, labels = images()
    write_parquet(tmp_path / "mnist" / "test-0.parquet", pixels, labels)
    made = task("mnist", tmp_path)
    write_idx(tmp_path / "idx", {"test": (pixels, labels)})
    same = task("images", tmp_path / "idx")
    assert made.splits["test"].digest == same.splits["test"].digest


def test_the_digest_is_that_of_what_is_measured(tmp_path) -> None:
    pixels, labels = images()
    made = task("images", write_idx(tmp_path, {"test": (pixels, labels)}))
    content = b"|u1 [6, 1, 28, 28]\n" + pixels.tobytes() + b"<i8 [6]\n" + labels.tobytes()
    assert made.splits["test"].digest == hashlib.sha256(content).hexdigest()
    limited = task("images", tmp_path, limit=4)
    assert limited.splits["test"].digest != made.splits["test"].digest


def test_a_limit_draws_with_a_seed_in_file_order(tmp_path) -> None:
    labels = np.arange(200, dtype=np.int64)
    pixels = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (200, 1, 2, 2))
    write_idx(tmp_path, {"test": (pixels, labels)})
    drawn = [task("images", tmp_path, limit=50, seed=s).samples["test"] for s in (0, 0, 1)]
    for sample in drawn:
        assert (sample.split.count, sample.split.available) == (50, 200)
        assert len(set(sample.labels)) == 50
        assert np.array_equal(sample.labels, np.sort(sample.labels))
        assert np.array_equal(sample.pixels[:, 0, 0, 0], sample.labels)
    assert drawn[0].split.digest == drawn[1].split.digest != drawn[2].split.digest
    assert task("images", tmp_path, limit=500).splits["test"].count == 200


def test_one_split_alone(tmp_path) -> None:
    write_idx(tmp_path, splits())
    assert list(task("mnist", tmp_path, split="train").splits) == ["train"]
    write_idx(tmp_path / "b", {"train": images()})
    assert list(task("mnist", tmp_path / "b").splits) == ["train"]
    with pytest.raises(InputError, match="'split' is 'test', but the data of 'mnist' have only tr"):
        task("mnist", tmp_path / "b", split="test")


def test_images_are_resized(tmp_path) -> None:
    write_idx(tmp_path, splits())
    made = task("mnist", tmp_path, size=8)
    assert made.samples["test"].shape == (1, 8, 8)
    assert made.settings == {"white": 255.0, "mean": [0.0], "std": [1.0], "size": [8, 8]}


def test_a_user_is_told_how_pixels_are_scaled(tmp_path) -> None:
    write_idx(tmp_path, splits())
    assert "from 0 to 1" in task("mnist", tmp_path).notes[0]
    assert not task("mnist", tmp_path, mean=0.13, std=0.31).notes
    assert not task("digits").notes


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maen": 1}, "setting 'maen' is not known to image tasks.*did you mean 'mean'"),
        ({"mean": "half"}, "'mean' is 'half'; expected one number, or a list"),
        ({"mean": []}, "'mean' is \\[\\]"),
        ({"mean": [True]}, "expected one number"),
        ({"mean": float("nan")}, "expected one number"),
        ({"mean": [1, 2]}, "'mean' has 2 numbers, the images have 1 channels"),
        ({"std": [0.1] * 3}, "'std' has 3 numbers"),
        ({"std": 0}, "'std' is 0; expected numbers above 0"),
        ({"size": 0}, "'size' is 0; expected a number of pixels"),
        ({"size": [4, 4, 4]}, "expected a number of pixels, or a list of height and width"),
        ({"size": True}, "expected a number of pixels"),
        ({"classes": 2.5}, "'classes' is 2.5; expected a whole number above 0"),
        ({"classes": 5}, r"has the label \d, expected 0 to 4 \(5 classes\)"),
        ({"split": "tset"}, "'split' is 'tset'; expected one of test, train; did you mean 'test'"),
        ({"activation": "rleu"}, "one of relu, .*did you mean 'relu'"),
        ({"activation": ["relu"]}, "expected one of relu"),
    ],
)
def test_settings_that_cannot_be_used(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        task("digits", **settings)


def test_options_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(InputError, match="'limit' is 0; expected 1 or more"):
        task("digits", limit=0)
    with pytest.raises(InputError, match="'batch' is 0"):
        task("digits", batch=0)
    with pytest.raises(InputError, match="leave out --data"):
        task("digits", tmp_path)
    with pytest.raises(InputError, match=r"'minst' is no image task.*did you mean 'mnist'"):
        task("minst", tmp_path)
    for name in NAMES[1:]:
        with pytest.raises(InputError, match=f"'{name}' needs --data"):
            task(name)


def test_data_that_is_not_what_the_name_says(tmp_path) -> None:
    write_idx(tmp_path / "a", splits(shape=(1, 8, 8)))
    with pytest.raises(InputError, match=r"are 1 × 8 × 8 .* those of 'mnist' 1 × 28 × 28"):
        task("mnist", tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match=r"no images were found.*looked for data_batch_"):
        task("cifar10", tmp_path / "b")
    write_idx(tmp_path / "c", {"test": images(12, classes=12)})
    with pytest.raises(InputError, match=r"image 10 has the label 10, expected 0 to 9 .*; 2 of 12"):
        task("mnist", tmp_path / "c")


def test_empty_data(tmp_path) -> None:
    pixels, labels = images()
    write_idx(tmp_path / "a", {"test": (pixels[:0], labels[:0])})
    with pytest.raises(InputError, match="holds no images"):
        task("images", tmp_path / "a")
    write_idx(tmp_path / "b", {"test": (pixels[:, :, :0], labels)})
    with pytest.raises(InputError, match="its images have no pixels"):
        task("images", tmp_path / "b")
    (tmp_path / "c" / "test" / "one").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images"):
        task("images", tmp_path / "c")
    write_parquet(tmp_path / "d.parquet", pixels[:0], np.zeros(0, int))
    with pytest.raises(InputError, match="holds no images"):
        task("images", tmp_path / "d.parquet")


def test_splits_of_different_shapes(tmp_path) -> None:
    write_folder(tmp_path, {"test": images(shape=(1, 4, 4)), "train": images(shape=(3, 4, 4))})
    with pytest.raises(InputError, match="'test' have the shape 1 × 4 × 4, those of 'train' 3 × 4"):
        task("images", tmp_path)
    assert task("images", tmp_path, split="test").samples["test"].shape == (1, 4, 4)


def test_labels_below_zero(tmp_path) -> None:
    pixels, labels = images()
    np.savez(tmp_path / "x.npz", inputs=pixels, labels=labels - 1)
    with pytest.raises(InputError, match="image 0 has the label -1, expected 0 or more"):
        task("images", tmp_path / "x.npz")


def network_error(made, network, spec, message) -> None:
    with pytest.raises(InputError, match=message):
        made.network(subject(network, spec), "cpu")


def test_networks_that_do_not_fit_the_data(tmp_path) -> None:
    digits = task("digits")
    network_error(digits, zoo.MLP((63, 9, 10)), "mlp", "takes 63 inputs.*1 × 8 × 8 = 64 pixels")
    network_error(digits, zoo.MLP((64, 9, 9)), "mlp", "tells 9 classes apart.*have 10 classes")
    network_error(digits, zoo.MLP((64, 9, 11)), "mlp", "tells 11 classes apart.*have 10 classes")
    vgg = zoo.VGG((4, "M") * 4, pool=1, hidden=(), num_classes=10)
    network_error(digits, vgg, "vgg", "takes images of 3 channels, those of 'digits' have 1")
    small = task("images", write_folder(tmp_path / "a", splits(shape=(3, 8, 8))), classes=10)
    network_error(small, vgg, "vgg", "cannot run on the images of 'images', which are 3 × 8 × 8")
    np.savez(tmp_path / "x.npz", inputs=images()[0], labels=images()[1])
    rows = task("images", tmp_path / "x.npz")
    network_error(rows, zoo.MLP((784, 5)), "mlp", "tells 5 classes apart.*have labels up to 5")
    rows.network(subject(zoo.MLP((784, 6)), "mlp"), "cpu")
    resnet = zoo.CifarResNet(1, channels=1, widths=(4, 8, 16))
    activated = task("digits", activation="tanh")
    network_error(activated, resnet, "resnet-cifar-a", "'activation' does not apply")
    task("digits", activation="relu").network(subject(resnet, "resnet-cifar-a"), "cpu")


def test_weights_of_which_some_are_float64() -> None:
    mixed = zoo.MLP((64, 9, 10))
    mixed.get_submodule("layers.1").double()
    network_error(task("digits"), mixed, "mlp", "holds F32, F64; a network cannot run")


def test_shapes_that_no_network_has() -> None:
    odd = zoo.ResNet(zoo.BasicBlock, (1, 1), widths=(4, 8), num_classes=10)
    odd.conv1 = torch.nn.Conv2d(1, 4, 3, bias=False)
    odd.layer2[0].conv2 = torch.nn.Conv2d(8, 8, 5, bias=False)
    with pytest.raises(IncompatibleError, match=r"layer2\.0\.conv2\.weight: has the shape"):
        task("digits").network(subject(odd, "resnet"), "cpu")
