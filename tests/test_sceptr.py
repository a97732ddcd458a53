"""Trained transformers that the program does not know, with the spec that a user wrote for them."""

import itertools
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.compare import Relation, verify
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.merging import Merged, merge
from rebasin_hub.pipeline.models import Choice

pytestmark = pytest.mark.checkpoints
CPU = Matching(device="cpu", restarts=1)
APART = (
    "SCEPTR",
    "SCEPTR_MLM_only",
    "SCEPTR_average_pooling",
    "SCEPTR_dropout_noise_only",
    "SCEPTR_shuffled_data",
    "SCEPTR_synthetic_data",
)


@pytest.fixture
def choice(pytestconfig):
    return Choice(str(pytestconfig.rootpath / "docs/examples/sceptr.yaml"))


@pytest.fixture
def weights(sceptr):
    pytest.importorskip("torch")
    return lambda name: sceptr / name / "state_dict.pt"


def test_models_trained_apart_are_told_from_a_fine_tuned_one(weights, choice):
    tuned = verify(weights("SCEPTR"), weights("SCEPTR_finetuned"), choice=choice, matching=CPU)
    assert tuned.relation is Relation.RELATED
    for name in APART[1:]:
        apart = verify(weights("SCEPTR"), weights(name), choice=choice, matching=CPU)
        assert apart.relation is Relation.UNRELATED, name
        assert apart.aligned.cosine > apart.as_stored.cosine + 0.2


def test_a_renumbered_fine_tuned_copy_is_recognized_too(weights, choice, tmp_path):
    permutations, copy = tmp_path / "p.safetensors", tmp_path / "copy.pt"
    tuned = weights("SCEPTR_finetuned")
    shuffle = Matching("random", "cpu", seed=3)
    align_models(tuned, tuned, permutations, choice=choice, matching=shuffle)
    apply_file(permutations, tuned, copy, choice=choice)
    found = verify(weights("SCEPTR"), copy, choice=choice, matching=CPU)
    assert found.relation is Relation.RELATED
    assert found.as_stored.relative > 1
    straight = verify(weights("SCEPTR"), tuned, choice=choice, matching=CPU)
    assert found.aligned.relative == pytest.approx(straight.aligned.relative, rel=1e-9)


def test_every_pair_aligns_and_merges(weights, choice, tmp_path):
    for a, b in itertools.combinations(APART[:3], 2):
        done = merge(
            [weights(a), weights(b)], tmp_path / f"{a}-{b}.pt", choice=choice, matching=CPU
        )
        assert isinstance(done, Merged)
        (alignment,) = done.alignments
        assert alignment.cosine > alignment.start_cosine + 0.2
        assert alignment.converged
    six = merge(
        [weights(name) for name in APART], tmp_path / "six.safetensors", choice=choice, matching=CPU
    )
    assert isinstance(six, Merged)
    with open_checkpoint(weights("SCEPTR")) as first:
        merged = load_file(tmp_path / "six.safetensors")
        assert merged.keys() == first.header.keys()
        assert all(np.isfinite(array).all() for array in merged.values())


def test_canonical_copies_agree_in_every_format(weights, choice, tmp_path):
    shutil.copy(weights("SCEPTR"), tmp_path / "model.pt")
    one = canonicalize(tmp_path / "model.pt", choice=choice)
    other = canonicalize(tmp_path / "model.pt", tmp_path / "model.safetensors", choice=choice)
    assert one.digest == other.digest
    assert (tmp_path / "model.canonical.pt").exists()
