"""Original Llama checkpoints in tensor-parallel parts are joined; a part alone is none."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_layouts import EMBED, HEAD, KV, llama

torch = pytest.importorskip("torch")

from rebasin_hub.errors import FormatError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.formats.torch_parts import PartsCheckpoint, find_parts  # noqa: E402
from rebasin_hub.pipeline.convert import ConversionPlan, Converted, Wish, convert  # noqa: E402

COUNT, WIDTH = 3, 48
HUGGING_FACE, ORIGINAL = Wish(from_layout="original"), Wish(layout="original")
PARAMS = {"dim": WIDTH, "n_heads": HEAD, "n_kv_heads": KV, "vocab_size": 24}
CUT = {
    "wq": 0, "wk": 0, "wv": 0, "wo": 1, "w1": 0, "w2": 1, "w3": 0, "output": 0,
}  # fmt: skip
"""Axes, as the layers that run in parallel cut them."""


def whole(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Write a model in Hugging Face's layout; return it, and its tensors in the original one."""
    arrays = {}
    rng = np.random.default_rng(0)
    for name, array in llama().items():  # sizes that three parts divide
        shape = [{17: 21, 23: 24, EMBED: WIDTH}.get(size, size) for size in array.shape]
        arrays[name] = rng.normal(size=shape).astype(np.float32)
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    sizes = {"num_attention_heads": HEAD, "num_key_value_heads": KV}
    (folder / "config.json").write_text(json.dumps(sizes))
    done = convert(folder / "model.safetensors", folder / "consolidated.00.pth", ORIGINAL)
    with open_checkpoint(done.output) as opened:
        return folder / "model.safetensors", {n: opened.read(n) for n in opened.header}


def cut(folder: Path, original: dict[str, np.ndarray], tokens: int = 1, **params: object) -> Path:
    """Write a model in parts, the table of tokens cut along an axis."""
    folder.mkdir()
    axes = {**CUT, "tok_embeddings": tokens}
    for number in range(COUNT):
        part = {}
        for name, array in original.items():
            axis = axes.get(name.split(".")[-2])
            kept = array if axis is None else np.split(array, COUNT, axis)[number]
            part[name] = torch.from_numpy(kept.copy())
        part["rope.freqs"] = torch.arange(4.0)
        torch.save(part, folder / f"consolidated.{number:02}.pth")
    (folder / "params.json").write_text(json.dumps(PARAMS | params))
    return folder


@pytest.mark.parametrize("tokens", [0, 1])
def test_parts_come_back_as_the_model_that_was_cut(tmp_path: Path, tokens: int):
    source, original = whole(tmp_path / "whole")
    parts = cut(tmp_path / "parts", original, tokens, vocab_size=-1 if tokens else 24)
    back = convert(parts, tmp_path / "back.safetensors", HUGGING_FACE)
    assert isinstance(back, Converted)
    assert back.digest == convert(source, tmp_path / "again.safetensors").digest
    found, expected = load_file(back.output), load_file(source)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[n], expected[n]) for n in expected)
    assert f"joined of {COUNT} parts, each with a slice of every matrix" in back.notes
    assert any(note.startswith("left out: rope.freqs") for note in back.notes)


def test_parts_are_joined_in_their_own_layout_too(tmp_path: Path):
    source, original = whole(tmp_path / "whole")
    parts = cut(tmp_path / "parts", original)
    joined = convert(parts, tmp_path / "consolidated.00.pth")
    assert isinstance(joined, Converted)
    assert joined.digest == joined.source_digest
    with open_checkpoint(joined.output) as opened:
        assert opened.header.keys() == {*original, "rope.freqs"}
        assert all(np.array_equal(opened.read(n), array) for n, array in original.items())
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    back = convert(joined.output, tmp_path / "back.safetensors", HUGGING_FACE)
    assert back.digest == convert(source, tmp_path / "again.safetensors").digest
    plan = convert(parts, tmp_path / "folder", HUGGING_FACE, dry_run=True)
    assert isinstance(plan, ConversionPlan)
    assert (plan.source_format, plan.tensors) == ("torch", len(original))


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("params", [True, False])
def test_a_part_alone_is_refused(tmp_path: Path, tokens: int, params: bool):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1], tokens)
    if not params:
        (parts / "params.json").unlink()
    with pytest.raises(FormatError, match=r"holds a slice of every matrix: .*the directory with"):
        convert(parts / "consolidated.01.pth", tmp_path / "out.safetensors", HUGGING_FACE)
    for number in (1, 2):
        (parts / f"consolidated.{number:02}.pth").unlink()
    with pytest.raises(FormatError, match="holds a slice of every matrix"):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "params", [{"n_heads": "6", "head_dim": -1}, {"n_heads": 0}, {"n_heads": 6, "head_dim": [8]}]
)
def test_a_part_is_told_beside_damaged_settings(tmp_path: Path, params):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1], **params)
    with pytest.raises(FormatError, match="holds a slice of every matrix"):
        convert(parts / "consolidated.00.pth", tmp_path / "out.safetensors", HUGGING_FACE)


def test_heads_that_are_narrower_than_the_stream_are_no_slice(tmp_path: Path):
    """Their size is not the width of the stream by their number, as in some Mistral models."""
    _, original = whole(tmp_path / "whole")
    state = {
        name: torch.from_numpy(
            array[:24] if ".wq" in name else array[:12] if ".wk" in name else array
        )
        for name, array in original.items()
    }
    torch.save(state, tmp_path / "model.pth")
    (tmp_path / "params.json").write_text(json.dumps(PARAMS | {"head_dim": 4}))
    convert(tmp_path / "model.pth", tmp_path / "out.safetensors", HUGGING_FACE)
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    with pytest.raises(FormatError, match="in a whole model 6 heads of 8 rows"):
        convert(tmp_path / "model.pth", tmp_path / "b.safetensors", HUGGING_FACE)


def test_missing_parts_are_refused(tmp_path: Path):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1])
    (parts / "consolidated.02.pth").unlink()
    with pytest.raises(FormatError, match="holds a slice of every matrix"):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)
    (parts / "consolidated.01.pth").rename(parts / "consolidated.03.pth")
    with pytest.raises(FormatError, match="there are 2, but not those from 0 to 1"):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)


def test_keys_that_several_parts_have_are_refused(tmp_path: Path):
    """With more parts than heads of keys, each head is in several parts."""
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1], n_kv_heads=1)
    with pytest.raises(FormatError, match=r"wk\.weight. has 24 rows, which are not 1 heads"):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)


def changed(path: Path, change) -> None:
    part = torch.load(path)
    change(part)
    torch.save(part, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part["norm.weight"].add_(1), "'norm.weight' is another one than in"),
        (lambda part: part.pop("norm.weight"), "'norm.weight' is not stored as in the first part"),
        (
            lambda part: part.update({"output.weight": part["output.weight"].half()}),
            "'output.weight' is not stored as",
        ),
    ],
)
def test_parts_of_different_models_are_refused(tmp_path: Path, change, message: str):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1])
    changed(parts / "consolidated.01.pth", change)
    with pytest.raises(FormatError, match=message):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)
    assert not (tmp_path / "out.safetensors").exists()


def test_parts_of_another_architecture_are_refused(tmp_path: Path):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1])
    for path in parts.glob("*.pth"):
        changed(path, lambda part: part.update({"layers.0.router.weight": torch.ones(4, WIDTH)}))
    with pytest.raises(FormatError, match=r"nothing tells how 'layers\.0\.router\.weight'"):
        convert(parts, tmp_path / "out.safetensors", HUGGING_FACE)


def test_a_directory_with_other_weights_is_none_of_parts(tmp_path: Path):
    parts = cut(tmp_path / "parts", whole(tmp_path / "whole")[1])
    assert [path.name for path in find_parts(parts)] == [
        f"consolidated.{number:02}.pth" for number in range(COUNT)
    ]
    (parts / "model.safetensors").write_bytes(b"")
    assert find_parts(parts) == []


def test_one_matrix_is_in_memory_at_a_time(tmp_path: Path):
    count, rows = 4, 256
    for number in range(count):
        part = {f"layers.{n}.attention.wq.weight": torch.ones(rows, 512) * number for n in range(8)}
        torch.save(
            part | {"norm.weight": torch.ones(512)}, tmp_path / f"consolidated.0{number}.pth"
        )
    with PartsCheckpoint(tmp_path, find_parts(tmp_path)) as opened:
        tracemalloc.start()
        for name in opened.header:
            array = opened.read(name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert array.shape == (512,)
    assert peak < 2.5 * count * rows * 512 * 4
