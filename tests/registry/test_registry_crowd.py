"""Many processes at once, and processes that are killed at any moment."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from registry_models import mlp
from safetensors.numpy import save_file

from rebasin_hub.registry import Registry

CROWD = Path(__file__).with_name("crowd.py")
ROOT = Path(__file__).parents[2]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(CROWD), *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def files(tmp_path):
    """Write three models; the second shares its first layer with the first."""
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    save_file(mlp(0), paths[0])
    save_file({**mlp(1), "fc1.weight": mlp(0)["fc1.weight"]}, paths[1])
    save_file(mlp(2), paths[2])
    return paths


def stored_bytes(root, paths):
    """Return the bytes of objects after adding each file once."""
    with Registry(root) as registry:
        from registry_facts import made_up

        from rebasin_hub.registry import Kept

        for path in paths:
            registry.add("m", made_up(path.name, path), keep=Kept.STORED)
        return registry.verify().nbytes


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_a_crowd_loses_nothing_and_stores_equal_content_once(tmp_path, files, count):
    root = tmp_path / "registry"  # which nobody has made before: all of them do
    done = start("add", root, count, *files)
    _, err = done.communicate(timeout=300)
    assert (done.returncode, err) == (0, "")
    with Registry(root) as registry:
        common = registry.versions("common")
        assert [v.number for v in common] == list(range(1, count + 1))
        assert sorted(int(v.source) for v in common) == list(range(count))
        own = [m for m in registry.models() if m.name.startswith("own-")]
        assert sorted(m.name for m in own) == sorted(f"own-{n}" for n in range(count))
        found = registry.verify()
        assert found.sound
        assert found.objects_unused == 0
        assert found.nbytes == stored_bytes(tmp_path / "alone", files)
        assert not any(registry.store.temporary.iterdir())


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_a_sound_registry(tmp_path, files, kills):
    root, rng, promised = tmp_path / "registry", random.Random(0), 0
    for _ in range(kills):
        process = start("churn", root, "m", *files)
        assert process.stdout.readline() == "started\n", process.stderr.read()
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        out, err = process.communicate(timeout=60)
        assert "Error" not in err, err
        promised = max([promised, *map(int, out.split())])
        with Registry(root) as registry:
            found = registry.verify()
            assert found.sound, found.findings
            if promised:  # what was reported is there
                newest = registry.versions("m")[-1]
                assert newest.number >= promised
                assert registry.show("m@best").version.number >= promised - 1
    assert promised > kills
    with Registry(root) as registry:
        registry.gc(grace=0)
        found = registry.verify()
        assert found.sound
        assert found.objects_unused == 0
        assert not any(registry.store.temporary.iterdir())


def test_gc_and_adds_at_once_lose_nothing(tmp_path, files):
    """Objects that an add found are taken by gc before its row is written, again and again."""
    root = tmp_path / "registry"
    churns = [start("churn", root, name, *files) for name in "mn"]
    assert all(process.stdout.readline() == "started\n" for process in churns)
    done = start("add", root, 16, *files)
    _, err = done.communicate(timeout=120)
    ended = [process.poll() for process in churns]
    for process in churns:
        process.kill()
    errors = [process.communicate()[1] for process in churns]
    assert (ended, errors) == ([None, None], ["", ""])
    assert (done.returncode, err) == (0, "")
    with Registry(root) as registry:
        assert len(registry.versions("common")) == 16
        assert registry.verify().sound
