"""MiniLM, a real BERT of 22 million parameters: exact from file to function."""

import json
import shutil

import numpy as np
import pytest
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.numpy import load_file, save_file

from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.compare import Relation, verify
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.merging import merge

pytestmark = pytest.mark.checkpoints
WEIGHTS = "model.safetensors"
SENTENCES = ["Two networks learned the same thing.", "Their units are numbered differently.", "A."]


@pytest.fixture(scope="module")
def folders(minilm, tmp_path_factory):
    """Return MiniLM, its canonical form, a randomly renumbered copy and the permutation file."""
    folder = tmp_path_factory.mktemp("minilm")
    names = ("canonical", "renumbered", "permutations.safetensors")
    canonical, renumbered, file = (folder / name for name in names)
    canonicalize(minilm, canonical)
    align_models(minilm, minilm, file, matching=Matching("random", "cpu", seed=7))
    apply_file(file, minilm, renumbered)
    return minilm, canonical, renumbered, folder


@pytest.fixture(scope="module")
def sharded(folders):
    """Return MiniLM in shards of 20 MB, as the Hub's own client divides it."""
    import torch

    minilm, _, _, folder = folders
    tensors = load_file(minilm / WEIGHTS)
    split = split_torch_state_dict_into_shards(
        {name: torch.from_numpy(array) for name, array in tensors.items()}, max_shard_size="20MB"
    )
    out = folder / "sharded"
    out.mkdir()
    for file, chosen in split.filename_to_tensors.items():
        save_file({name: tensors[name] for name in chosen}, out / file, {"format": "pt"})
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    for side in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / side, out / side)
    assert len(split.filename_to_tensors) > 2
    return out


def embeddings(folder):
    """Return mean-pooled sentence embeddings (3, 384) in float64."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    tokens = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None].double()
    return ((states * mask).sum(1) / mask.sum(1)).numpy()


def test_a_renumbered_copy_is_canonicalized_to_the_same_bytes(folders):
    _, canonical, renumbered, folder = folders
    again = folder / "again"
    canonicalize(renumbered, again)
    expected = (canonical / WEIGHTS).read_bytes()
    assert (again / WEIGHTS).read_bytes() == expected
    assert (renumbered / WEIGHTS).read_bytes() != expected


def test_sentence_embeddings_stay_equal_to_rounding(folders):
    minilm, canonical, renumbered, _ = folders
    expected = embeddings(minilm)
    for folder in (canonical, renumbered):
        assert np.abs(embeddings(folder) - expected).max() < 1e-12 * np.abs(expected).max()


def test_merging_with_itself_renumbered_gives_it_back(folders):
    minilm, _, renumbered, folder = folders
    merge([minilm, renumbered], folder / "merged", matching=Matching(device="cpu", restarts=1))
    assert (folder / "merged" / WEIGHTS).read_bytes() == (minilm / WEIGHTS).read_bytes()
    assert np.array_equal(embeddings(folder / "merged"), embeddings(minilm))


def test_shards_are_kept_and_make_no_difference(folders, sharded):
    _, canonical, _, folder = folders
    out = folder / "sharded.canonical"
    done = canonicalize(sharded, out)
    assert {p.name for p in out.iterdir()} == {p.name for p in sharded.iterdir()}
    with open_checkpoint(canonical) as one, open_checkpoint(out) as many:
        for name in one.header:
            assert np.array_equal(one.read(name), many.read(name))
    assert done.digest == verify(canonical, sharded).canonical[0]
    assert np.abs(embeddings(out) - embeddings(folders[0])).max() < 1e-12


def test_verify_knows_the_renumbered_copy(folders):
    minilm, _, renumbered, _ = folders
    assert verify(minilm, renumbered).relation is Relation.RENUMBERED


def test_one_flipped_bit_is_another_model(folders):
    minilm, _, _, folder = folders
    tensors = load_file(minilm / WEIGHTS)
    tensors["encoder.layer.3.attention.self.key.bias"].view(np.uint32)[17] ^= 1
    flipped = folder / "flipped"
    flipped.mkdir()
    save_file(tensors, flipped / WEIGHTS, {"format": "pt"})
    shutil.copy(minilm / "config.json", flipped / "config.json")
    found = verify(minilm, flipped, matching=Matching(device="cpu", restarts=1))
    assert found.relation is Relation.ROUNDED
    assert found.canonical[0] != found.canonical[1]
