"""Nothing is written that is not proven."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rebasin_hub.pipeline.proof as proof_module
from rebasin_hub.errors import PermutationError, ProofError
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.models import AUTOMATIC, open_model
from rebasin_hub.pipeline.proof import Prover
from rebasin_hub.rearrange import gather


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (5, 4), "0.bias": (5,), "1.weight": (3, 5), "1.bias": (3,)}
    tensors = {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def wrong(index, array):
    """Gather as it should be, but for one element."""
    result = np.array(gather(index, array))
    result.reshape(-1)[0] += 1
    return result


def test_a_wrong_tensor_is_noticed_and_nothing_is_written(model, monkeypatch):
    monkeypatch.setattr(proof_module, "gather", wrong)
    with pytest.raises(ProofError, match="does not lead back to"):
        canonicalize(model)
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]


def test_a_swap_of_two_units_on_one_tensor_is_noticed(model, monkeypatch):
    def swapped(index, array):
        result = np.array(gather(index, array))
        if result.shape == (5, 4):
            result[[0, 1]] = result[[1, 0]]
        return result

    monkeypatch.setattr(proof_module, "gather", swapped)
    with pytest.raises(ProofError, match=r"'0\.weight': the inverse"):
        canonicalize(model)


def test_every_stored_tensor_is_hashed_on_its_way(model):
    with open_model(model, AUTOMATIC) as opened:
        prover = Prover(opened, opened.binding.group.random(np.random.default_rng(1)))
        for name in opened.header:
            prover(name)
        assert prover.sources.keys() == opened.header.keys()
        from rebasin_hub.digest import digest_of

        assert digest_of(opened.header, prover.sources) == opened.digest()


def test_a_promise_that_is_not_kept_is_noticed_and_nothing_is_written(model):
    out, file = model.with_name("out.safetensors"), model.with_name("permutations.safetensors")
    canonicalize(model, out, permutations=file)
    out.unlink()
    replace(PermutationFile.load(file), result="0" * 64).save(file, force=True)
    with pytest.raises(ProofError, match="their file promises 000000000000"):
        apply_file(file, model, out)
    assert sorted(path.name for path in model.parent.iterdir()) == [model.name, file.name]


def test_a_file_of_another_model_is_noticed_and_nothing_is_written(model):
    out, file = model.with_name("out.safetensors"), model.with_name("permutations.safetensors")
    canonicalize(model, out, permutations=file)
    out.unlink()
    tensors = load_file(model)
    tensors["0.bias"][0] += 1
    save_file(tensors, model)
    with pytest.raises(PermutationError):
        apply_file(file, model, out)
    assert sorted(path.name for path in model.parent.iterdir()) == [model.name, file.name]
