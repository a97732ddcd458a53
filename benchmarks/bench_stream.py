"""Canonicalizing and merging stream: near the speed of a copy, in the memory of a few tensors.

Two sharded Llama-shaped checkpoints of random bfloat16 weights (seeds 0 and 1), made in a temporary
folder, go through `cp` and `sync`, through the product's streams with and without its hashing,
through canonicalize, digest and merge, through a plain load-lerp-save loop of safetensors and
torch, and through mergekit where its environment is there (bench_merge_peers.py makes it); whole
processes, in turn, for each of the sizes. Exponents say how processor time grows with bytes.
Seconds, CPU seconds and peak memory (the kernel's VmHWM) are those of the process with all it
starts. Ratios within one run matter more than seconds.

    python benchmarks/bench_stream.py [--layers 2 8] [--repeats 3] [--folder DIR]
    python benchmarks/bench_stream.py --layers 32 --repeats 1 --only canonicalize digest
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _record import record
from bench_merge_peers import MERGEKIT, recipe
from data import cache

from rebasin_hub.formats import open_checkpoint, save_safetensors

REPEATS = 3
LAYERS = (2, 8)
HIDDEN, WIDE, VOCAB, HEADS = 4096, 11008, 32000, 32
SHARD_BYTES = 4 << 30
TWO = {"load-lerp-save loop", "merge", "merge --no-digests", "mergekit"}
"""What takes two checkpoints."""
WATCHED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
done.returncode and sys.exit(done.stderr.decode()[-2000:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": time.perf_counter() - start,
                  "cpu_seconds": used.ru_utime + used.ru_stime,
                  "peak_mb": used.ru_maxrss / 1000}))
"""
STREAM = """
import sys
from pathlib import Path
import hashlib
class Nothing:
    def __init__(self, data=b""): pass
    def update(self, data): pass
    def digest(self): return bytes(32)
    def hexdigest(self): return "0" * 64
if sys.argv[3] == "unhashed":
    hashlib.sha256 = Nothing
from rebasin_hub.formats import open_checkpoint, save_like
with open_checkpoint(Path(sys.argv[1])) as source:
    save_like(source, Path(sys.argv[2]), source.read)
"""
LOOP = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
a, b, out = map(Path, sys.argv[1:4])
out.mkdir()
for shard in sorted(a.glob("*.safetensors")):
    one, other = load_file(shard), load_file(b / shard.name)
    save_file({n: torch.lerp(one[n], other[n], 0.3) for n in one}, out / shard.name)
"""


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of a Llama with 7B's widths."""
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{stem}.self_attn.{name}.weight", (HIDDEN, HIDDEN)
        yield f"{stem}.mlp.gate_proj.weight", (WIDE, HIDDEN)
        yield f"{stem}.mlp.up_proj.weight", (WIDE, HIDDEN)
        yield f"{stem}.mlp.down_proj.weight", (HIDDEN, WIDE)
        yield f"{stem}.input_layernorm.weight", (HIDDEN,)
        yield f"{stem}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def make(folder: Path, layers: int, seed: int) -> Path:
    """Write one checkpoint, a shard at a time."""
    import ml_dtypes

    folder.mkdir()
    rng = np.random.default_rng(seed)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes(layers):
        if 2 * sum(int(np.prod(s)) for s in shards[-1].values()) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    homes, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name, shape in shard.items():
            # Normal values come from a table: drawing each of them would take longer than all else.
            table = (rng.standard_normal(1 << 16, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
            bits = rng.integers(0, 1 << 16, shape, np.uint16)
            tensors[name] = table.view(np.uint16)[bits].view(ml_dtypes.bfloat16)
        total += save_safetensors(folder / file, tensors, {"format": "pt"}).nbytes
        homes.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": WIDE, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": VOCAB, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def commands(a: Path, b: Path, folder: Path) -> dict[str, list[str]]:
    """Return what is compared; each writes `folder / "out"`, if anything."""
    out = str(folder / "out")
    program, inputs = [sys.executable, "-m", "rebasin_hub"], [str(a), str(b)]
    merged = str(recipe(folder / "recipe.yaml", (a, b), "bfloat16", (0.7, 0.3)))
    found = {
        "cp, sync": ["sh", "-c", 'cp -r "$0" "$1" && sync "$1"/*', str(a), out],
        "streams, no hashing": [sys.executable, "-c", STREAM, str(a), out, "unhashed"],
        "streams": [sys.executable, "-c", STREAM, str(a), out, "hashed"],
        "canonicalize": [*program, "canonicalize", str(a), "-o", out],
        "digest": [*program, "digest", str(a)],
        "digest --plain": [*program, "digest", "--plain", str(a)],
        "load-lerp-save loop": [sys.executable, "-c", LOOP, *inputs, out],
        "merge": [*program, "merge", merged, "-o", out],
        "merge --no-digests": [*program, "merge", merged, "-o", out, "--no-digests"],
    }
    mergekit = cache() / "environments" / MERGEKIT.replace("==", "-") / "bin" / "mergekit-yaml"
    if mergekit.exists():
        plain = ["--no-copy-tokenizer", "--no-write-model-card"]
        found["mergekit"] = [str(mergekit), merged, out, *plain]
    return found


def run(command: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratios(median: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return what is claimed, as ratios of medians."""

    def of(one: str, other: str, key: str = "seconds") -> float:
        return median[one][key] / median[other][key]

    found = {
        "I/O of canonicalize / cp": of("streams, no hashing", "cp, sync"),
        "streams / cp": of("streams", "cp, sync"),
        "canonicalize / cp": of("canonicalize", "cp, sync"),
        "loop / merge": of("load-lerp-save loop", "merge"),
        "memory of the loop / of merge": of("load-lerp-save loop", "merge", "peak_mb"),
    }
    if "mergekit" in median:
        found["mergekit / merge"] = of("mergekit", "merge")
        found["mergekit / merge --no-digests"] = of("mergekit", "merge --no-digests")
        found["memory of mergekit / of merge"] = of("mergekit", "merge", "peak_mb")
    return found


def measured(
    layers: int, repeats: int, place: Path | None, only: Sequence[str] | None
) -> dict[str, Any]:
    """Return what the commands take on checkpoints of so many layers."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        a = make(folder / "a", layers, 0)
        b = make(folder / "b", layers, 1) if not only or TWO & {*only} else a
        with open_checkpoint(a) as opened:
            sizes = [info.nbytes for info in opened.header.values()]
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(repeats):
            for label, command in commands(a, b, folder).items():
                if only and label not in only:
                    continue
                found.setdefault(label, []).append(run(command))
                shutil.rmtree(folder / "out", ignore_errors=True)
                print(f"{layers} layers, {label}: {found[label][-1]}", flush=True)
    median = {
        label: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for label, runs in found.items()
    }
    return {
        "layers": layers,
        "bytes": sum(sizes),
        "largest": max(sizes),
        "median": median,
        "repeats": found,
    }


def exponents(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, float]:
    """Return by which power of the bytes the processor time of each command grows."""
    growth = math.log(large["bytes"] / small["bytes"])
    return {
        label: math.log(own["cpu_seconds"] / small["median"][label]["cpu_seconds"]) / growth
        for label, own in large["median"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS, help="32 are those of 7B")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--only", nargs="*", help="of the commands, these")
    settings = parser.parse_args()
    sizes = [
        measured(layers, settings.repeats, settings.folder, settings.only)
        for layers in sorted(settings.layers)
    ]
    shape = {"hidden": HIDDEN, "intermediate": WIDE, "vocab": VOCAB}
    results = {
        "settings": {"shape": shape, "seeds": [0, 1]},
        "ratios": {} if settings.only else ratios(sizes[-1]["median"]),
        "exponents": exponents(sizes[0], sizes[-1]) if len(sizes) > 1 else {},
        "sizes": sizes,
    }
    name = f"stream_{sizes[-1]['layers']}_layers" if settings.only else "stream"
    record(name, str(__doc__).splitlines()[0], results)


if __name__ == "__main__":
    main()
