"""`align` with every method's options: settings, start, time limit, failing and interrupted."""

import numpy as np
import pytest
from cli_models import mlp, renumber_mlp
from safetensors.numpy import load_file, save_file

from rebasin_hub import align as package
from rebasin_hub.align.method import Method
from rebasin_hub.errors import NotFiniteError


@pytest.fixture
def failing(monkeypatch):
    """Return a function that adds a method which keeps a good element and then raises an error."""

    def add(error):
        def search(state, options):
            found = package.METHODS["weight"].search(state, options)
            options.watch.keep(found.element)
            raise error

        methods = {**package.METHODS, "failing": Method(search, "fails")}
        monkeypatch.setattr(package, "METHODS", methods)
        monkeypatch.setattr("rebasin_hub.pipeline.matching.METHODS", methods)

    return add


@pytest.fixture
def copy(models):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors", {"format": "pt"})
    return models


@pytest.mark.parametrize(
    "end",
    [
        (NotFiniteError("step 7: the loss is NaN; take a smaller rate"), 1, "step 7"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=["fails", "is interrupted"],
)
def test_a_search_that_does_not_end_leaves_its_best(run, copy, failing, end):
    error, code, said = end
    failing(error)
    arguments = ["copy.safetensors", "a.safetensors", "-o", "p.safetensors"]
    done = run("align", *arguments, "--method", "failing", code=code)
    assert said in done.err
    assert "p.best.safetensors" in done.err
    assert not (copy / "p.safetensors").exists()
    run("apply", "p.best.safetensors", "copy.safetensors", "-o", "back.safetensors")
    assert (copy / "back.safetensors").read_bytes() == (copy / "a.safetensors").read_bytes()


def test_a_search_starts_from_a_file(run, copy):
    arguments = ["copy.safetensors", "a.safetensors"]
    run("align", *arguments, "-o", "p.safetensors")
    done = run("align", *arguments, "--method", "identity", "--start", "p.safetensors", "--json")
    assert done.json()["alignment"]["cosine"] == pytest.approx(1)
    other = {name: np.ones((3, 3), np.float32) for name in ("fc1.weight", "fc2.weight")}
    save_file(other, copy / "other.safetensors")
    done = run(
        "align", "other.safetensors", "other.safetensors", "--start", "p.safetensors", code=1
    )
    assert "the permutation file does not fit: 'hidden[1]'" in done.err
    assert load_file(copy / "p.safetensors")


def test_settings_and_limits_are_checked_before_anything_is_read(run, models):
    done = run("align", "gone", "gone", "--method", "weight:rate=1", code=1)
    assert "method 'weight' has no setting 'rate'" in done.err
    done = run("align", "a.safetensors", "b.safetensors", "--seconds", "0", "--json").json()
    assert done["alignment"]["converged"] is False


def test_methods_are_listed(run):
    text = run("methods").out
    listed = run("methods", "--json").json()
    assert [entry["name"] for entry in listed] == list(package.METHODS)
    assert all(name in text for name in package.METHODS)
