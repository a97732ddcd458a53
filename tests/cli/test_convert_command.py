"""convert: from the command line."""

import numpy as np
import pytest
from cli_models import mlp
from safetensors.numpy import load_file, save_file

from rebasin_hub.app.convert import bytes_of


def test_there_and_back_through_flax(run, models):
    done = run("convert", "a.safetensors", "a.msgpack", "--layout", "flax", "--json").json()
    assert done["plan"]["format"] == "msgpack"
    assert (done["plan"]["renamed"], done["plan"]["turned"]) == (6, 3)
    run("convert", "a.msgpack", "back.npz", "--from-layout", "flax")
    run("convert", "back.npz", "back.safetensors")
    first = run("digest", "a.safetensors", "--json").json()[0]["canonical"]
    assert run("digest", "back.safetensors", "--json").json()[0]["canonical"] == first
    found = load_file(models / "back.safetensors")
    assert all(np.array_equal(found[n], a) for n, a in mlp(0).items())


def test_casts_are_shown(run, models):
    arrays = mlp(0)
    arrays["fc1.bias"][0] = 1e9
    save_file(arrays, models / "big.safetensors")
    done = run("convert", "big.safetensors", "half.safetensors", "--dtype", "float16")
    assert "1 overflowed" in done.out
    table = done.out[done.out.index("overflowed  ") :]
    assert table.splitlines()[1].split()[:3] == ["fc1.bias", "8", "1"]
    found = run("convert", "big.safetensors", "b.npz", "--dtype", "float16", "--json").json()
    casts = {cast["tensor"]: cast for cast in found["casts"]}
    assert casts["fc1.bias"]["overflowed"] == 1
    assert casts.keys() == arrays.keys()


def test_shards_and_dry_runs(run, models):
    before = sorted(models.iterdir())
    plan = run(
        "convert", "a.safetensors", "dir", "--shard-size", "300", "--dry-run", "--json"
    ).json()
    assert sorted(models.iterdir()) == before
    run("convert", "a.safetensors", "dir", "--shard-size", "300B")
    assert len(list((models / "dir").glob("*.safetensors"))) == plan["shards"] > 1
    run("convert", "dir", "one.safetensors")
    first, again = (load_file(models / f"{name}.safetensors") for name in ("a", "one"))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    refused = run("convert", "a.safetensors", "dir", code=1)
    assert "--force" in refused.err
    run("convert", "a.safetensors", "dir", "--force")


def test_untie_and_tie(run, models):
    run("convert", "a.safetensors", "b2.npz", "--untie", "copy=fc1.weight")
    done = run("convert", "b2.npz", "c.safetensors", "--tie", "copy=fc1.weight")
    assert "copy shares fc1.weight's values and is left out" in done.out
    assert load_file(models / "c.safetensors").keys() == mlp(0).keys()


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500mb", 5 * 10**8), ("2GiB", 2**31), ("1.5 KiB", 1536), ("7", 7)],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "option", [("--shard-size", "much"), ("--shard-size", "0"), ("--tie", "a")]
)
def test_wrong_usage(run, models, option):
    assert "Usage" in run("convert", "a.safetensors", "dir", *option, code=2).err
