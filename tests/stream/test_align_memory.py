"""`align --max-memory`, and what is held without it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from rebasin_hub.app import app
from rebasin_hub.errors import InputError
from rebasin_hub.pipeline import memory
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.merging import Recipe, merge
from rebasin_hub.pipeline.models import AUTOMATIC, open_model
from rebasin_hub.pipeline.progress import counting
from rebasin_hub.stream import Bound
from rebasin_hub.tensors import TensorInfo

WIDTH = 48
GIB = 1 << 30


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    paths = []
    for seed, name in enumerate("ab"):
        rng = np.random.default_rng(seed)
        paths.append(tmp_path / f"{name}.safetensors")
        shapes = [(WIDTH, 8), (WIDTH, WIDTH), (WIDTH, WIDTH), (4, WIDTH)]
        weights = {f"{n}.weight": rng.standard_normal(shape) for n, shape in enumerate(shapes)}
        save_file({n: x.astype(ml_dtypes.bfloat16) for n, x in weights.items()}, paths[-1])
    return paths[0], paths[1]


def test_the_permutation_file_does_not_depend_on_it(pair, tmp_path):
    written = set()
    for number, more in enumerate(([], ["--max-memory", "1B"], ["--max-memory", "1GB"])):
        out = tmp_path / f"p{number}.safetensors"
        done = CliRunner().invoke(app, ["align", *map(str, pair[::-1]), "-o", str(out), *more])
        assert done.exit_code == 0, done.output
        written.add(out.read_bytes())
    assert len(written) == 1


def test_aligning_for_other_commands_is_bounded_too(pair, tmp_path, monkeypatch):
    bounds = []
    real = Matching.memory
    monkeypatch.setattr(
        Matching, "memory", lambda self, binding: bounds.append(real(self, binding)) or bounds[-1]
    )
    outs = [tmp_path / f"{name}.safetensors" for name in ("c0", "c1", "m0", "m1")]
    for out, bound in zip(outs[:2], (Bound(), Bound(20_000)), strict=True):
        canonicalize(pair[1], out, reference=pair[0], bound=bound)
    for out, bound in zip(outs[2:], (Bound(), Bound(20_000)), strict=True):
        merge(pair, out, Recipe(), bound=bound)

    assert bounds == [None, 20_000, None, 20_000]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[2].read_bytes() == outs[3].read_bytes()


def test_methods_that_hold_both_models_refuse_a_bound_before_anything_is_read(tmp_path):
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(InputError, match="'sinkhorn' holds both models"):
        align_models(missing, missing, matching=Matching("sinkhorn", bound=Bound(1)))


def test_models_are_read_again_where_they_take_too_much_of_what_is_free(pair, monkeypatch):
    with open_model(pair[0], AUTOMATIC) as model:
        needed = memory.held(model.binding)
        for free, expected in (
            (None, None),
            (2 * needed, None),
            (2 * needed - 2, needed - 1),
        ):
            monkeypatch.setattr(memory, "available", lambda free=free: free)
            assert Matching().memory(model.binding) == expected
            assert Matching("sinkhorn").memory(model.binding) is None
            assert Matching(bound=Bound(7)).memory(model.binding) == 7


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """Return the place of what a system with 4 GiB free says."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "groups")
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {4 * GIB // 1024} kB\n")
    return tmp_path


def group(place: Path, most: str | int, used: int, names: tuple[str, str, str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    limit, usage, cache = names
    (place / limit).write_text(f"{most}\n")
    (place / usage).write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"anon 5\n{cache} {GIB // 2}\n")


V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
V2 = "memory.max", "memory.current", "inactive_file"


@pytest.mark.parametrize(
    ("own", "place", "names"),
    [
        ("0::/\n", "", V2),
        ("0::/system.slice/job_7/step_0\n", "system.slice/job_7", V2),
        ("0::/docker/1f2e\n", "", V2),  # as seen in a container
        ("5:cpu,cpuacct:/\n4:memory:/slurm/job_7\n0::/\n", "memory/slurm/job_7", V1),
        ("4:memory:/docker/1f2e\n", "memory", V1),
    ],
)
def test_what_is_free_is_what_the_system_and_its_control_groups_say(own, place, names, system):
    assert memory.available() == 4 * GIB
    (system / "own").write_text(own)
    assert memory.available() == 4 * GIB

    for most, expected in (("max", 4 * GIB), (5 * GIB, 5 * GIB // 2), (GIB, 0)):
        group(system / "groups" / place, most, 3 * GIB, names)
        assert memory.available() == expected


def test_the_narrowest_limit_counts(system):
    (system / "own").write_text("0::/a/b\n")
    group(system / "groups" / "a", 3 * GIB, GIB, V2)
    group(system / "groups" / "a" / "b", 2 * GIB, GIB, V2)
    assert memory.available() == 3 * GIB // 2
    group(system / "groups" / "a", 3 * GIB, 2 * GIB + GIB // 4, V2)
    assert memory.available() == 5 * GIB // 4


def test_a_tensor_that_is_read_again_is_no_progress():
    header = {name: TensorInfo("F32", (2,)) for name in "ab"}
    told: list[tuple[str, int, int]] = []
    read = counting(lambda _: np.zeros(2, np.float32), header, lambda *x: told.append(x), "reading")
    for name in "aaba":
        read(name)
    assert told == [("reading", 8, 16), ("reading", 16, 16)]


def test_help_says_what_is_held():
    shown = CliRunner().invoke(app, ["align", "--help"], env={"COLUMNS": "200"}).output
    assert "--max-memory" in re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_json_is_the_same(pair):
    outputs = [
        CliRunner().invoke(app, ["align", *map(str, pair), "--json", *more]).stdout
        for more in ([], ["--max-memory", "1B"])
    ]
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0])
