"""Two trainings step by step, and sequences of pruned networks with their masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from connect_nets import (
    Interruption,
    comparable,
    loss_of,
    masks_of,
    mixed,
    moved,
    renumbered,
    save,
    trained,
)

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.connect import TrajectoryPlan, TrajectoryRequest, connect_trajectories
from rebasin_hub.pipeline.connect.listing import listed
from rebasin_hub.record.connectfiles import load_connect
from rebasin_hub.tasks import Options

EPOCHS = (1, 4, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def weights():
    return {name: [trained(seed, n) for n in EPOCHS] for seed, name in enumerate("ab")}


@pytest.fixture(scope="module")
def request_ab(folder, weights) -> TrajectoryRequest:
    a, b = (
        tuple(save(folder, f"{name}{n}", w) for n, w in zip(EPOCHS, steps, strict=True))
        for name, steps in weights.items()
    )
    return TrajectoryRequest(
        a, b, options=Options(settings={"split": "test"}), points=3, treatments=("as is",)
    )


@pytest.fixture(scope="module")
def record(request_ab, folder):
    return connect_trajectories(request_ab, folder / "out")


def curve(record, step, numbering):
    return next(c for c in record.curves if (c.step, c.numbering) == (step, numbering))


def barriers(record, numbering):
    return [curve(record, s.step, numbering).entezari.loss.value for s in record.steps]


def test_one_permutation_of_the_last_step_is_applied_to_every_step(record, folder, weights):
    element = PermutationFile.load(folder / "out" / "last-b2-to-a2.safetensors").element
    for step, (a, b) in enumerate(zip(*weights.values(), strict=True)):
        for numbering, other in (("naive", b), ("last", moved(b, element))):
            expected = [loss_of(mixed([a, other], [1 - x, x])) for x in record.lambdas]
            assert curve(record, step, numbering).loss == pytest.approx(expected, rel=1e-5)


def test_each_step_has_a_permutation_of_its_own_as_well(record, folder, weights):
    element = PermutationFile.load(folder / "out" / "own-b0-to-a0.safetensors").element
    a, b = weights["a"][0], moved(weights["b"][0], element)
    assert curve(record, 0, "own").loss[1] == pytest.approx(
        loss_of(mixed([a, b], [0.5, 0.5])), rel=1e-5
    )
    assert curve(record, 2, "own").loss == curve(record, 2, "last").loss
    assert curve(record, 0, "own").loss != curve(record, 0, "last").loss
    assert [step.agreement == 1 for step in record.steps] == [False, False, True]
    assert all(step.cosine["own"] >= step.cosine["last"] for step in record.steps)
    for last, naive in zip(barriers(record, "last"), barriers(record, "naive"), strict=True):
        assert last < naive


def test_a_renumbered_trajectory_is_simultaneously_connected(request_ab, folder, weights):
    group_seed = 5  # the same renumbering for all steps
    b = tuple(
        save(folder, f"copy{n}", renumbered(w, group_seed))
        for n, w in zip(EPOCHS, weights["a"], strict=True)
    )
    found = connect_trajectories(replace(request_ab, b=b))
    assert barriers(found, "last") == pytest.approx([0, 0, 0], abs=1e-6)
    assert barriers(found, "naive")[-1] > 0.1
    assert [step.agreement for step in found.steps] == [1, 1, 1]
    assert found.verdict.startswith("Simultaneously connected")


def test_the_verdict_says_where_the_last_permutation_leaves_most(record):
    worst = int(np.argmax(barriers(record, "last")))
    assert record.verdict.startswith("Not simultaneously connected")
    assert f"largest at step {worst}: naive" in record.verdict


def test_the_folder_holds_the_record_and_the_permutation_files(record, folder, request_ab):
    out = folder / "out"
    assert load_connect(out / "connect.json") == record
    assert {p.name for p in out.iterdir()} == {
        "connect.json",
        "last-b2-to-a2.safetensors",
        "own-b0-to-a0.safetensors",
        "own-b1-to-a1.safetensors",
    }
    last = out / "last-b2-to-a2.safetensors"
    apply_file(last, request_ab.b[2], folder / "last.safetensors")
    apply_file(last, request_ab.b[0], folder / "first.safetensors", other_model=True)


def test_own_permutations_can_be_left_out(request_ab, record):
    found = connect_trajectories(replace(request_ab, own=False))
    assert {c.numbering for c in found.curves} == {"naive", "last"}
    assert barriers(found, "last") == barriers(record, "last")
    assert [p.strategy for p in found.permutations] == ["last"]


def test_an_interrupted_measurement_goes_on_and_gives_the_same(request_ab, record, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        connect_trajectories(request_ab, tmp_path, progress=Interruption(2_000))
    found = connect_trajectories(request_ab, tmp_path)
    assert comparable(found) == comparable(record)


def test_a_dry_run_says_what_would_be_done(request_ab):
    plan = connect_trajectories(request_ab, dry_run=True)
    assert isinstance(plan, TrajectoryPlan)
    assert plan.passes == 3 * (2 + 3) * 360


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": 2}, "3 and 2 checkpoints"),
        ({"a": 0, "b": 0}, "0 and 0 checkpoints"),
        ({"masks_a": 3}, "one trajectory alone"),
        ({"masks_a": 3, "masks_b": 2}, "trajectory B has 3 checkpoints and 2 mask files"),
    ],
)
def test_lists_of_unequal_lengths_are_refused(request_ab, change, message):
    cut = {key: getattr(request_ab, key[-1])[:length] for key, length in change.items()}
    with pytest.raises(InputError, match=message):
        connect_trajectories(replace(request_ab, **cut))


# Pruned sequences

SHARES = (0.3, 0.7)


@pytest.fixture(scope="module")
def pruned(folder, weights, request_ab):
    """A pruned twice, and the same renumbered: as weights with zeros, and as masks beside them."""
    a = weights["a"][-1]
    masks = [masks_of(a, share) for share in SHARES]
    zeros = [
        {n: np.where(m[n], w, 0).astype("f4") if n in m else w for n, w in a.items()} for m in masks
    ]
    copies = [renumbered(z, 7) for z in zeros]
    requests = {}
    requests["zeros"] = replace(
        request_ab,
        a=tuple(save(folder, f"za{i}", z) for i, z in enumerate(zeros)),
        b=tuple(save(folder, f"zb{i}", z) for i, z in enumerate(copies)),
    )
    b = renumbered(a, 7)
    whole = [{n: m.get(n, np.ones(w.shape, bool)) for n, w in a.items()} for m in masks]
    other = [renumbered(m, 7) for m in whole]
    requests["masks"] = replace(
        request_ab,
        a=(save(folder, "wa", a),) * 2,
        b=(save(folder, "wb", b),) * 2,
        # Those of A leave out what is not pruned; of B all tensors are there, one file as 0 and 1.
        masks_a=tuple(save(folder, f"a{i}.mask", m) for i, m in enumerate(masks)),
        masks_b=(
            save(folder, "b0.mask", other[0]),
            save(folder, "b1.mask", {n: m.astype("f4") for n, m in other[1].items()}),
        ),
    )
    return requests


@pytest.fixture(scope="module")
def sparse(pruned):
    return {name: connect_trajectories(request) for name, request in pruned.items()}


@pytest.mark.parametrize("kind", ["zeros", "masks"])
def test_masks_are_carried_along(sparse, kind):
    found = sparse[kind]
    for step, share in zip(found.steps, SHARES, strict=True):
        masks = step.masks
        assert masks.sparsity_a == masks.sparsity_b == pytest.approx(share, abs=0.01)
        assert masks.overlap["naive"] < 0.9
        assert masks.overlap["last"] == 1
        assert masks.merged["last"] == masks.sparsity_a
        # Two masks that know nothing of one another prune the product of their shares.
        assert masks.merged["naive"] == pytest.approx(share**2, abs=0.1)
    assert barriers(found, "last") == pytest.approx([0, 0], abs=1e-6)


def test_mask_files_are_as_good_as_zeros(sparse):
    zeros, masks = sparse["zeros"], sparse["masks"]
    assert masks.curves == zeros.curves
    assert [s.masks for s in masks.steps] == [s.masks for s in zeros.steps]
    assert "of the weights are pruned" in masks.verdict


def test_networks_that_are_not_pruned_have_no_masks(record):
    assert [step.masks for step in record.steps] == [None] * 3


def broken(mask, how):
    first, *_ = mask
    if how == "foreign":
        return {**mask, "layers.0.wieght": mask[first]}
    if how == "shape":
        return {**mask, first: mask[first][:, :-1]}
    return {**mask, first: mask[first] * np.float32(0.5)}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("foreign", r"'layers\.0\.wieght' is no tensor .* did you mean 'layers\.0\.weight'"),
        ("shape", r"has the shape \[24, 63\]"),
        ("values", "values other than 0 and 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(pruned, weights, folder, how, message):
    request = pruned["masks"]
    bad = save(folder, f"{how}.mask", broken(masks_of(weights["a"][-1], 0.5), how))
    with pytest.raises(InputError, match=message):
        connect_trajectories(replace(request, masks_a=(request.masks_a[0], bad)))


# Lists of checkpoints


def names(paths):
    return [path.name for path in paths]


@pytest.fixture
def steps(tmp_path):
    for name in ("s10", "s2", "s1.mask", "s2.mask"):
        save(tmp_path, name, {"w": np.zeros(1, "f4")})
    (tmp_path / "notes.md").write_text("no checkpoint")
    (tmp_path / ".hidden.pt").write_text("no checkpoint")
    (tmp_path / "s1").mkdir()
    save(tmp_path / "s1", "model", {"w": np.zeros(1, "f4")})
    return tmp_path


def test_a_folder_lists_its_checkpoints_in_natural_order(steps):
    assert names(listed(steps)) == ["s1", "s2.safetensors", "s10.safetensors"]
    assert names(listed(steps, masks=True)) == ["s1.mask.safetensors", "s2.mask.safetensors"]


def test_a_text_file_lists_paths_beside_it(steps):
    (steps / "list.txt").write_text("# the way\ns10.safetensors\n\ns2.safetensors\n")
    found = listed(steps / "list.txt")
    assert found == (steps / "s10.safetensors", steps / "s2.safetensors")


def test_a_checkpoint_is_a_list_of_one(steps):
    assert listed(steps / "s1") == (steps / "s1",)
    assert listed(steps / "s2.safetensors") == (steps / "s2.safetensors",)


def test_lists_of_nothing_are_refused(tmp_path, request_ab):
    with pytest.raises(InputError, match="holds no checkpoints"):
        listed(tmp_path)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match="names no checkpoint"):
        listed(tmp_path / "list.txt")
    missing = listed(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="does not exist"):
        connect_trajectories(replace(request_ab, a=missing, b=missing))
