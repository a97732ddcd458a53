"""Bad input gets one clear error, exit code 1, and nothing is written."""

import json
import os
import pickle
import resource
import signal
import struct
import time
from itertools import pairwise

import numpy as np
import pytest
from cli_models import gpt2, mlp
from safetensors.numpy import save_file


class Evil:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


def truncated(folder):
    data = (folder / "a.safetensors").read_bytes()
    (folder / "bad.safetensors").write_bytes(data[:-10])
    return "bad.safetensors", "bad.safetensors"


def wrong_header(folder):
    (folder / "bad.safetensors").write_bytes(struct.pack("<Q", 4) + b"{'a}")
    return "bad.safetensors", "JSON"


def huge_header(folder):
    (folder / "bad.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    return "bad.safetensors", "header"


def empty(folder):
    (folder / "bad.safetensors").touch()
    return "bad.safetensors", "empty"


def unknown_architecture(folder):
    save_file({"strange.kernel": np.zeros((3, 4), np.float32)}, folder / "bad.safetensors")
    return "bad.safetensors", "specs fits this checkpoint"


def code_in_pickle(folder):
    (folder / "bad.pt").write_bytes(pickle.dumps({"w": Evil()}))
    return "bad.pt", "mkdir"


def absent(folder):
    return "aa.safetensors", "aa.safetensors"


def sharded(folder, change):
    model = folder / "model"
    model.mkdir()
    save_file(gpt2(0), model / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(gpt2(0), "model-00001-of-00001.safetensors")}
    change(model, index["weight_map"])
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_head": 3})
    )
    return "model"


def missing_shard(folder):
    name = "model-00002-of-00002.safetensors"
    return sharded(folder, lambda _, names: names.update({"wte.weight": name})), name


def escaping_index(folder):
    return sharded(folder, lambda _, names: names.update({"wte.weight": "../a.safetensors"})), ".."


BAD = [
    truncated, wrong_header, huge_header, empty, unknown_architecture, code_in_pickle, absent,
    missing_shard, escaping_index,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_checkpoints_are_named_and_nothing_is_written(run, models, make):
    if make is code_in_pickle:
        pytest.importorskip("torch")
    name, message = make(models)
    before = sorted(models.rglob("*"))
    for command in (
        ["canonicalize", name],
        ["align", name, "a.safetensors", "-o", "p.safetensors"],
        ["align", "a.safetensors", name, "-o", "p.safetensors"],
        ["merge", "a.safetensors", name, "-o", "m.safetensors"],
        ["verify", "a.safetensors", name],
        ["digest", name],
    ):
        done = run(*command, code=1)
        assert done.err.startswith("error: ")
        assert "Traceback" not in done.err
        if make is not unknown_architecture or command[0] in {"canonicalize", "digest"}:
            assert message in done.err, command
        assert not done.out
    assert sorted(models.rglob("*")) == before


def test_other_shapes_and_vocabularies_are_refused(run, models, gpt2_folder):
    save_file(mlp(1, (6, 9, 7, 3)), models / "wide.safetensors")
    done = run("merge", "a.safetensors", "wide.safetensors", "-o", "m.safetensors", code=1)
    assert "fc1.weight: axis 0 (hidden[1]) is 8 against 9" in done.err
    one, other = gpt2_folder("one"), gpt2_folder("other", vocab=13)
    done = run("merge", one, other, "-o", "m", code=1)
    assert "wte.weight: axis 0 (vocab) is 11 against 13" in done.err


def test_other_head_counts_are_refused_though_shapes_agree(run, gpt2_folder):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    (other / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_head": 4})
    )
    done = run("merge", one, other, "-o", "m", code=1)
    assert "'head' is 3 in" in done.err
    assert "and 4 in" in done.err


def test_sizes_that_shapes_do_not_tell_are_asked_for(run, tmp_path):
    save_file(gpt2(0), tmp_path / "gpt2.safetensors")
    done = run("canonicalize", "gpt2.safetensors", code=1)
    assert "spec 'gpt2' describes every tensor" in done.err
    assert "--size head=N" in done.err
    done = run("canonicalize", "gpt2.safetensors", "--size", "head=3", code=1)
    assert "these specs fit equally well; choose one with --spec" in done.err
    run("canonicalize", "gpt2.safetensors", "--size", "head=3", "--spec", "gpt2")
    assert run("canonicalize", "gpt2.safetensors", "--size", "head=x", code=2)


def test_outputs_are_never_overwritten_unasked(run, models):
    before = (models / "a.safetensors").read_bytes()
    (models / "out.safetensors").write_text("precious")
    for command in (
        ["canonicalize", "a.safetensors", "-o", "out.safetensors"],
        ["canonicalize", "a.safetensors", "--permutations", "out.safetensors"],
        ["align", "b.safetensors", "a.safetensors", "-o", "out.safetensors"],
        ["merge", "a.safetensors", "b.safetensors", "-o", "out.safetensors"],
    ):
        assert "out.safetensors" in run(*command, code=1).err
        assert (models / "out.safetensors").read_text() == "precious"
    run("canonicalize", "a.safetensors", "-o", "out.safetensors", "--force")
    run("canonicalize", "a.safetensors", "-o", "a.safetensors", "--force", code=1)
    (models / "link.safetensors").symlink_to("a.safetensors")
    run("canonicalize", "a.safetensors", "-o", "link.safetensors", "--force", code=1)
    os.link(models / "a.safetensors", models / "hard.safetensors")
    run("canonicalize", "a.safetensors", "-o", "hard.safetensors", "--force", code=1)
    with_permutations = ["canonicalize", "a.safetensors", "-o", "new.safetensors", "--force"]
    run(*with_permutations, "--permutations", "a.safetensors", code=1)
    run("align", "b.safetensors", "a.safetensors", "-o", "a.safetensors", "--force", code=1)
    run(
        "canonicalize", "b.safetensors", "--reference", "a.safetensors", "-o", "a.safetensors",
        "--force", code=1,
    )  # fmt: skip
    assert (models / "a.safetensors").read_bytes() == before


def test_a_merge_never_replaces_one_of_its_models(run, models):
    before = (models / "b.safetensors").read_bytes()
    run("merge", "a.safetensors", "b.safetensors", "-o", "b.safetensors", "--force", code=1)
    assert (models / "b.safetensors").read_bytes() == before


def test_a_symlinked_input_works_and_its_target_stays(run, models):
    (models / "link.safetensors").symlink_to("a.safetensors")
    run("canonicalize", "link.safetensors", "-o", "out.safetensors")
    run("canonicalize", "a.safetensors")
    assert (models / "out.safetensors").read_bytes() == (
        models / "a.canonical.safetensors"
    ).read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(run, models):
    (models / "closed").mkdir(mode=0o500)
    done = run("canonicalize", "a.safetensors", "-o", "closed/out.safetensors", code=1)
    assert "no permission" in done.err


def large(folder):
    rng = np.random.default_rng(0)
    widths = (2000, 3000, 3000, 10)
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors[f"{number}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
    save_file(tensors, folder / "large.safetensors")


def wait_for_temporary(folder, process):
    """Wait until the program has begun to write, and the process still runs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if list(folder.glob(".*.tmp")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    raise AssertionError("nothing was written in a minute")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_half_written_has_the_final_name(start, tmp_path, number, code):
    large(tmp_path)
    process = start("canonicalize", "large.safetensors", "-o", "out.safetensors")
    wait_for_temporary(tmp_path, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert not (tmp_path / "out.safetensors").exists()
    assert "Traceback" not in err
    left = list(tmp_path.glob(".*.tmp"))
    assert bool(left) == (number == signal.SIGKILL)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, run):
    large(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        done = run("canonicalize", "large.safetensors", "-o", "out.safetensors", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "out.safetensors: cannot be written" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["large.safetensors"]


def test_wrong_usage_exits_with_two(run):
    run("canonicalize", code=2)
    run("merge", "a", "-o", "b", "--weights", "x,y", code=2)
    run("nonsense", code=2)


def test_an_unexpected_failure_leaves_a_log(run, models, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("planted")

    monkeypatch.setenv("XDG_STATE_HOME", str(models / "state"))
    monkeypatch.setattr("rebasin_hub.pipeline.canonicalize.write", fail)
    done = run("canonicalize", "a.safetensors", code=3)
    assert "ZeroDivisionError: planted" in done.err
    assert "Traceback" not in done.err
    (log,) = (models / "state").rglob("*.log")
    assert "Traceback" in log.read_text()
    assert str(log) in done.err
