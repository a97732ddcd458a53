"""Layouts: other names and other orders of axes, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from rebasin_hub.errors import InputError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.convert import Converted, Wish, convert
from rebasin_hub.pipeline.models import Choice
from rebasin_hub.spec.layout import Turn, check_turn
from rebasin_hub.spec.pattern import parse_pattern
from rebasin_hub.specfile import load_spec, shipped_specs, spec_digest

HEAD, KV, HALF, EMBED = 6, 3, 4, 18
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def llama() -> dict[str, np.ndarray]:
    arrays = {"model.embed_tokens.weight": normal(23, EMBED), "model.norm.weight": normal(EMBED)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        for norm in ("input", "post_attention"):
            arrays[f"{at}.{norm}_layernorm.weight"] = normal(EMBED)
        for name, rows in (("q", HEAD), ("k", KV), ("v", KV)):
            arrays[f"{at}.self_attn.{name}_proj.weight"] = normal(rows * 2 * HALF, EMBED)
        arrays[f"{at}.self_attn.o_proj.weight"] = normal(EMBED, HEAD * 2 * HALF)
        arrays[f"{at}.mlp.gate_proj.weight"] = normal(17, EMBED)
        arrays[f"{at}.mlp.up_proj.weight"] = normal(17, EMBED)
        arrays[f"{at}.mlp.down_proj.weight"] = normal(EMBED, 17)
    return arrays | {"lm_head.weight": normal(23, EMBED)}


def mlp() -> dict[str, np.ndarray]:
    return {"fc1.weight": normal(5, 3), "fc1.bias": normal(5), "fc2.weight": normal(2, 5)}


def gpt2(prefix: str = "transformer.") -> dict[str, np.ndarray]:
    arrays = {f"{prefix}wte.weight": normal(11, 6), f"{prefix}wpe.weight": normal(9, 6)}
    for name, size in (("attn.c_attn", 18), ("attn.c_proj", 6), ("mlp.c_fc", 24)):
        arrays |= {
            f"{prefix}h.0.{name}.weight": normal(6, size),
            f"{prefix}h.0.{name}.bias": normal(size),
        }
    arrays |= {
        f"{prefix}h.0.mlp.c_proj.weight": normal(24, 6),
        f"{prefix}h.0.mlp.c_proj.bias": normal(6),
    }
    for norm in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        arrays |= {f"{prefix}{norm}.weight": normal(6), f"{prefix}{norm}.bias": normal(6)}
    return arrays


def resnet() -> dict[str, np.ndarray]:
    arrays = {
        "conv1.weight": normal(4, 3, 3, 3),
        "linear.weight": normal(5, 4),
        "linear.bias": normal(5),
    }
    arrays |= {f"layer1.0.conv{n}.weight": normal(4, 4, 3, 3) for n in (1, 2)}
    arrays["layer1.0.shortcut.0.weight"] = normal(4, 4, 1, 1)
    for bn in ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.shortcut.1"):
        arrays |= {
            f"{bn}.{part}": normal(4) for part in ("weight", "bias", "running_mean", "running_var")
        }
    return arrays


CASES = {
    "llama original": (llama, Wish(layout="original"), "consolidated.00.pth"),
    "mlp flax": (mlp, Wish(layout="flax"), "b.msgpack"),
    "resnet flax": (resnet, Wish(layout="flax"), "b.msgpack"),
    "gpt2 flax": (gpt2, Wish(layout="flax"), "b.msgpack"),
    "gpt2 flax without prefix": (lambda: gpt2(""), Wish(layout="flax"), "b.msgpack"),
    "gpt2 linear": (gpt2, Wish(layout="linear"), "b.safetensors"),
}


def there_and_back(folder: Path, case: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    make, wish, name = CASES[case]
    arrays = make()
    folder = folder / "in"
    folder.mkdir()
    save_file(arrays, folder / "a.safetensors", {"format": "pt"})
    sizes = {"num_attention_heads": HEAD, "num_key_value_heads": KV}
    (folder / "config.json").write_text(json.dumps(sizes))
    if name.endswith(".pth"):
        pytest.importorskip("torch")
        (folder.parent / "params.json").write_text(json.dumps({"n_heads": HEAD, "n_kv_heads": KV}))
    there = convert(folder / "a.safetensors", folder.parent / name, wish)
    assert isinstance(there, Converted)
    back = convert(there.output, folder.parent / "back.safetensors", Wish(from_layout=wish.layout))
    assert isinstance(back, Converted)
    assert (back.digest, back.source_digest) == (there.source_digest, there.digest)
    assert there.digest != there.source_digest
    found = load_file(back.output)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[n], a) for n, a in arrays.items())
    with open_checkpoint(there.output) as opened:
        return arrays, {n: opened.read(n) for n in opened.header}


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(tmp_path: Path, case: str):
    there_and_back(tmp_path, case)


def rope(x: np.ndarray, *, neighbours: bool) -> np.ndarray:
    """Rotate (position, head, width) by position, in pairs of neighbours or half a head apart."""
    position, width = np.arange(len(x))[:, None, None], x.shape[-1]
    angle = position * 10_000.0 ** (-np.arange(width // 2) * 2 / width)
    first, second = (x[..., 0::2], x[..., 1::2]) if neighbours else np.split(x, 2, axis=-1)
    turned = (
        first * np.cos(angle) - second * np.sin(angle),
        first * np.sin(angle) + second * np.cos(angle),
    )
    return np.stack(turned, -1).reshape(x.shape) if neighbours else np.concatenate(turned, -1)


def test_original_llama_computes_the_same_scores(tmp_path: Path):
    ours, theirs = there_and_back(tmp_path, "llama original")
    x = normal(7, EMBED)

    def scores(q: np.ndarray, k: np.ndarray, *, neighbours: bool) -> np.ndarray:
        q, k = (rope((x @ w.T).reshape(7, -1, 2 * HALF), neighbours=neighbours) for w in (q, k))
        return np.einsum("ihd,jhd->hij", q, np.repeat(k, HEAD // KV, axis=1))

    for layer in range(2):
        one = [ours[f"model.layers.{layer}.self_attn.{n}_proj.weight"] for n in "qk"]
        other = [theirs[f"layers.{layer}.attention.w{n}.weight"] for n in "qk"]
        assert not np.array_equal(one[0], other[0])
        assert np.allclose(
            scores(*one, neighbours=False), scores(*other, neighbours=True), atol=1e-4
        )
        assert not np.allclose(
            scores(*one, neighbours=True), scores(*other, neighbours=True), atol=1e-2
        )
    gate, down = "layers.1.feed_forward.w1.weight", "layers.1.feed_forward.w2.weight"
    assert np.array_equal(theirs[gate], ours["model.layers.1.mlp.gate_proj.weight"])
    assert np.array_equal(theirs[down], ours["model.layers.1.mlp.down_proj.weight"])
    assert np.array_equal(theirs["output.weight"], ours["lm_head.weight"])


def test_flax_kernels_are_inputs_first(tmp_path: Path):
    ours, theirs = there_and_back(tmp_path, "mlp flax")
    assert np.array_equal(theirs["params/fc1/kernel"], ours["fc1.weight"].T)
    assert theirs.keys() == {"params/fc1/kernel", "params/fc1/bias", "params/fc2/kernel"}


def test_flax_convolutions_and_statistics(tmp_path: Path):
    ours, theirs = there_and_back(tmp_path, "resnet flax")
    kernel = theirs["params/layer1_0/conv1/kernel"]
    assert np.array_equal(kernel, np.einsum("oihw->hwio", ours["layer1.0.conv1.weight"]))
    assert np.array_equal(
        theirs["batch_stats/layer1_0/shortcut_bn/var"], ours["layer1.0.shortcut.1.running_var"]
    )
    assert np.array_equal(theirs["params/bn1/scale"], ours["bn1.weight"])


def test_gpt2_layouts_turn_conv1d_alone(tmp_path: Path):
    ours, theirs = there_and_back(tmp_path, "gpt2 linear")
    turned = {n for n in ours if not np.array_equal(ours[n], theirs[n])}
    names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert turned == {f"transformer.h.0.{n}.weight" for n in names}
    assert np.array_equal(
        theirs["transformer.h.0.mlp.c_fc.weight"], ours["transformer.h.0.mlp.c_fc.weight"].T
    )


def test_what_the_other_side_lacks_is_left_out_and_named(tmp_path: Path):
    arrays = resnet() | {"bn1.num_batches_tracked": np.array(3)}
    save_file(arrays, tmp_path / "a.safetensors")
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.msgpack", Wish(layout="flax"))
    assert "left out: bn1.num_batches_tracked (Flax does not count batches)" in done.notes


def test_the_wrong_way_and_open_sizes_are_named(tmp_path: Path):
    save_file(llama(), tmp_path / "a.safetensors")
    with pytest.raises(
        InputError, match=r"leaves open what 'kv' of '.kv 2 half. embed'.*--size kv=N"
    ):
        convert(tmp_path / "a.safetensors", tmp_path / "b.npz", Wish(layout="original"))
    choice = Choice("llama", {"head": HEAD, "kv": KV})
    convert(tmp_path / "a.safetensors", tmp_path / "b.npz", Wish(layout="original", choice=choice))
    wish = Wish(layout="original", choice=Choice("llama", {"head": 7, "kv": KV}))
    with pytest.raises(InputError, match="with head 7"):
        convert(tmp_path / "a.safetensors", tmp_path / "c.npz", wish)
    save_file(mlp(), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="are in the layout of the spec already"):
        convert(tmp_path / "m.safetensors", tmp_path / "c.npz", Wish(from_layout="flax"))
    convert(tmp_path / "m.safetensors", tmp_path / "m.npz", Wish(layout="flax"))
    with pytest.raises(InputError, match="are in this layout already"):
        convert(tmp_path / "m.npz", tmp_path / "c.npz", Wish(layout="flax"))


def test_ties_that_a_layout_stores_apart(tmp_path: Path):
    torch = pytest.importorskip("torch")
    state = {n: torch.from_numpy(a) for n, a in gpt2().items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    torch.save(state, tmp_path / "a.pt")
    done = convert(tmp_path / "a.pt", tmp_path / "b.msgpack", Wish(layout="flax"))
    with open_checkpoint(done.output) as found:
        kernel, table = found.read("lm_head/kernel"), found.read("transformer/wte/embedding")
        assert np.array_equal(kernel, table.T)
    assert any("lm_head/kernel is no longer tied" in note for note in done.notes)


@given(st.permutations(["a", "b", "c", "d"]), st.lists(st.integers(1, 4), min_size=4, max_size=4),
       st.integers(1, 3), st.integers(1, 3))  # fmt: skip
def test_a_turn_and_its_inverse_lead_back(order, lengths, cut, other):
    def pattern(words, cut):
        return parse_pattern(f"({' '.join(words[:cut])}) {' '.join(words[cut:])}")

    turn = Turn(pattern("abcd", cut), pattern(order, other))
    assert check_turn(turn) is None
    sizes = dict(zip("abcd", lengths, strict=True))
    shape = (int(np.prod(lengths[:cut])), *lengths[cut:])
    array = np.arange(np.prod(lengths)).reshape(shape)
    there = turn.solved("x", shape, sizes).apply(array)
    whole = np.einsum(f"abcd->{''.join(order)}", array.reshape(lengths))
    assert np.array_equal(there.reshape(-1), whole.reshape(-1))
    assert there.shape == (
        int(np.prod([sizes[w] for w in order[:other]])),
        *(sizes[w] for w in order[other:]),
    )
    back = turn.inverted().solved("x", there.shape, sizes).apply(there)
    assert np.array_equal(back, array)


def test_layouts_are_no_part_of_what_a_spec_means():
    spec = load_spec(shipped_specs()["llama"])
    from dataclasses import replace

    assert spec_digest(replace(spec, layouts={})) == spec_digest(spec)
