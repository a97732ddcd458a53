"""Models that are named by the registry: every command takes them."""

import shutil

import numpy as np
import pytest
from cli_models import mlp, renumber_mlp
from safetensors.numpy import load_file, save_file


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_REGISTRY", str(tmp_path / "registry"))


@pytest.fixture
def stored(run, models):
    run("registry", "add", "a.safetensors", "team/a", "--store", "--alias", "best")
    return "registry:team/a@best"


def test_commands_take_versions(run, models, stored):
    digest = run("digest", "a.safetensors").out.split()[0]
    assert run("digest", stored).out.split()[0] == digest
    assert run("verify", stored, "a.safetensors", "--json").json()["relation"] == "identical"
    run("merge", stored, "b.safetensors", "-o", "m.safetensors")
    run("align", "b.safetensors", stored, "-o", "p.safetensors")
    run("apply", "p.safetensors", "b.safetensors", "-o", "moved.safetensors")
    assert "spec" in run("inspect", stored).out


def test_an_output_of_a_version_stands_in_the_working_directory(run, models, stored):
    run("canonicalize", stored)
    assert (models / "team-a@best.canonical.safetensors").exists()


def test_a_reference_that_is_set_is_used_unless_told_otherwise(run, models, stored):
    save_file(renumber_mlp(mlp(0), seed=4), models / "copy.safetensors")
    run("canonicalize", "copy.safetensors", "-o", "plain.safetensors")
    run("registry", "set-reference", "team/a@best")
    told = run("canonicalize", "copy.safetensors", "-o", "based.safetensors").out
    assert "reference" in told
    original, based, plain = (
        load_file(models / f"{n}.safetensors") for n in ("a", "based", "plain")
    )
    assert all(np.array_equal(based[name], original[name]) for name in original)
    assert not all(np.array_equal(plain[name], original[name]) for name in original)
    run("canonicalize", "copy.safetensors", "--no-reference", "-o", "again.safetensors")
    assert (models / "again.safetensors").read_bytes() == (
        models / "plain.safetensors"
    ).read_bytes()


def test_models_of_another_architecture_do_not_meet_the_reference(run, models, stored):
    run("registry", "set-reference", "team/a@best")
    wider = {n: np.pad(t, [(0, 1)] * t.ndim) for n, t in mlp(0).items()}
    save_file(wider, models / "wider.safetensors")
    assert "reference" not in run("canonicalize", "wider.safetensors").out


@pytest.mark.parametrize("name", ["registry:nobody", "registry:team/a@worst", "registry:team/a:9"])
def test_versions_that_are_not_there_are_told(run, models, stored, name):
    done = run("digest", name, code=1)
    assert name.removeprefix("registry:").split("@")[0].split(":")[0] in done.err


def test_a_registry_that_lost_a_file_says_so(run, models, tmp_path):
    run("registry", "add", "a.safetensors", "moved")
    shutil.move(models / "a.safetensors", models / "elsewhere.safetensors")
    assert "a.safetensors" in run("digest", "registry:moved", code=1).err


def test_reference_and_no_reference_exclude_one_another(run, models):
    arguments = ("--reference", "b.safetensors", "--no-reference")
    assert "exclude" in run("canonicalize", "a.safetensors", *arguments, code=2).err
