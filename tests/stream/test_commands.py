"""Commands that stream: the same bytes whatever the bound, and nothing half-written."""

import hashlib
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from rebasin_hub.app import app
from rebasin_hub.digest import both_digests, canonical_digest, plain_digest
from rebasin_hub.errors import OutputError, ProofError
from rebasin_hub.formats import atomic, new_file, open_checkpoint, save_like
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.convert import Wish, convert
from rebasin_hub.pipeline.inspect import digests
from rebasin_hub.pipeline.merging import Recipe, merge
from rebasin_hub.pipeline.models import AUTOMATIC, open_model
from rebasin_hub.stream import A_FEW, Bound

LAYERS = 6
WIDTH = 48
BOUNDS = (Bound(1), Bound(40_000), A_FEW)


def made(path: Path, seed: int, kind: type = np.float32) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        tensors[f"{layer}.weight"] = rng.standard_normal((WIDTH, WIDTH)).astype(kind)
        tensors[f"{layer}.bias"] = rng.standard_normal(WIDTH).astype(kind)
    save_file(tensors, path)
    return path


@pytest.fixture
def pair(tmp_path):
    return made(tmp_path / "a.safetensors", 0), made(tmp_path / "b.safetensors", 1)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ["canonicalize", "merge", "convert", "digest"])
def test_the_bound_changes_no_byte(pair, tmp_path, command):
    results = set()
    for number, bound in enumerate(BOUNDS):
        out = tmp_path / f"out{number}.safetensors"
        if command == "canonicalize":
            canonicalize(pair[0], out, bound=bound)
        elif command == "merge":
            merge(pair, out, Recipe(weights=(0.7, 0.3), align=False), bound=bound)
        elif command == "convert":
            convert(pair[0], out, Wish(dtype="BF16"), bound=bound)
        else:
            found = digests(pair[0], bound=bound)
            out.write_text(f"{found.digest} {found.canonical}")
        results.add(sha(out))
    assert len(results) == 1


def test_max_memory_is_an_option_of_the_commands_that_stream(pair, tmp_path):
    out = tmp_path / "out.safetensors"
    run = CliRunner().invoke
    for arguments in (
        ["canonicalize", str(pair[0]), "-o", str(out)],
        ["merge", *map(str, pair), "-o", str(out), "--no-align", "--force"],
        ["convert", str(pair[0]), str(out), "--force"],
        ["digest", str(pair[0])],
    ):
        done = run(app, [*arguments, "--max-memory", "20KB"])
        assert done.exit_code == 0, done.output
        assert run(app, [*arguments, "--max-memory", "much"]).exit_code == 2


def test_what_is_held_is_bounded(tmp_path):
    size = 1 << 20
    tensors = {f"{i:02}.weight": np.full(size, i, np.float32) for i in range(16)}
    save_file(tensors, tmp_path / "a.safetensors")
    peaks = {}
    for bound in (Bound(1), Bound(48 << 20)):
        with open_checkpoint(tmp_path / "a.safetensors") as source:
            tracemalloc.start()
            save_like(source, tmp_path / "b.safetensors", source.read, bound=bound, force=True)
            peaks[bound] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peaks[Bound(1)] < 2.8 * 4 * size  # a tensor, and what the disk gives back
    assert peaks[Bound(1)] < peaks[Bound(48 << 20)] < 48 << 20


def test_both_digests_are_what_they_are_one_by_one(pair):
    with open_model(pair[0], AUTOMATIC) as model:
        element = model.binding.group.random(np.random.default_rng(2))
        for skip in ((), ("0.bias",), tuple(model.header)[:3]):
            plain, canonical = both_digests(model.binding, element, model.read, skip=skip)
            assert plain == plain_digest(model.header, model.read, skip)
            assert canonical == canonical_digest(model.binding, element, model.read, skip=skip)


@pytest.mark.parametrize("error", [OutputError("no"), KeyboardInterrupt()])
def test_an_error_in_a_worker_leaves_nothing(pair, tmp_path, error):
    before = sorted(tmp_path.iterdir())
    with open_checkpoint(pair[0]) as source:

        def produce(name: str) -> np.ndarray:
            if name == "3.weight":
                raise error
            return source.read(name)

        with pytest.raises(type(error)):
            save_like(source, tmp_path / "out.safetensors", produce)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_disapproved_of_is_not_kept(pair, tmp_path):
    before = sorted(tmp_path.iterdir())

    def approve(written):
        assert written.keys() == load_file(pair[0]).keys()
        raise ProofError("another one was promised")

    with open_checkpoint(pair[0]) as source, pytest.raises(ProofError, match="promised"):
        save_like(source, tmp_path / "out.safetensors", source.read, approve=approve)
    assert sorted(tmp_path.iterdir()) == before


def write_some(out: Path) -> None:
    with new_file(out) as file:
        for number in range(6):
            file.put(bytes([number]) * 700)


@pytest.mark.parametrize("first", [True, False])
def test_damage_while_more_is_written_is_noticed(tmp_path, monkeypatch, first):
    monkeypatch.setattr(atomic, "_SETTLED", 1000)
    settle = atomic.NewFile._settle

    def damaged(self, spans):
        with self.path.open("r+b") as raw:
            raw.seek(0 if first else spans[0].offset)
            raw.write(b"\xff")
        settle(self, spans)

    monkeypatch.setattr(atomic.NewFile, "_settle", damaged)
    with pytest.raises(ProofError, match="other bytes than were written"):
        write_some(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_everything_is_read_back_once(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_SETTLED", 1000)
    check, checked = atomic.NewFile._check, []

    def counted(self, spans):
        checked.extend(span.offset for span in spans)
        check(self, spans)

    monkeypatch.setattr(atomic.NewFile, "_check", counted)
    write_some(tmp_path / "out")
    assert sorted(checked) == [700 * number for number in range(6)]


def test_a_merge_tells_of_values_that_became_infinite(tmp_path):
    """The arrays are merged in their own memory, and read again for what became of them."""
    huge = np.array([3e38, 1, np.inf, -3e38], ml_dtypes.bfloat16).astype(np.float32)
    shapes = {"0.weight": (2, 2), "0.bias": (2,), "1.weight": (2, 2), "1.bias": (2,)}
    paths = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        tensors["0.weight"] = huge.reshape(2, 2)
        save_file(tensors, tmp_path / f"{seed}.safetensors")
        paths.append(tmp_path / f"{seed}.safetensors")
    recipe = Recipe(weights=(0.5, 0.5), dtype="F16", align=False)
    done = merge(paths, tmp_path / "out.safetensors", recipe)
    assert any("2 finite values are too large for F16" in note for note in done.notes)
