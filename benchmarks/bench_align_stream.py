"""Aligning within --max-memory takes the memory that it is given, and finds the same permutations.

Two Llama-shaped bfloat16 checkpoints of random weights, B a renumbered copy of A with noise (as a
fine-tune) or independent of it, are aligned by whole processes of `rebasin-hub align`, with both in
memory and within ever less. Peak memory is that of the process (ru_maxrss).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from _record import record

from rebasin_hub.bind import bind
from rebasin_hub.formats import save_safetensors
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import load_spec, shipped_specs
from rebasin_hub.tensors import TensorInfo

EMBED, FF, LAYERS, HEADS, KV, VOCAB = 1024, 2816, 12, 16, 4, 32000
NOISE = 0.1
BOUNDS = ("1GB", "500MB", "250MB")
IMPORTS = "import rebasin_hub.app, rebasin_hub.pipeline.matching, rebasin_hub.report"


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a Llama with grouped queries and a head of its own."""
    head = EMBED // HEADS
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, EMBED)}
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        found |= {
            f"{stem}.input_layernorm.weight": (EMBED,),
            f"{stem}.self_attn.q_proj.weight": (EMBED, EMBED),
            f"{stem}.self_attn.k_proj.weight": (KV * head, EMBED),
            f"{stem}.self_attn.v_proj.weight": (KV * head, EMBED),
            f"{stem}.self_attn.o_proj.weight": (EMBED, EMBED),
            f"{stem}.post_attention_layernorm.weight": (EMBED,),
            f"{stem}.mlp.gate_proj.weight": (FF, EMBED),
            f"{stem}.mlp.up_proj.weight": (FF, EMBED),
            f"{stem}.mlp.down_proj.weight": (EMBED, FF),
        }
    return found | {"model.norm.weight": (EMBED,), "lm_head.weight": (VOCAB, EMBED)}


def make(folder: Path, kind: str) -> int:
    """Write both checkpoints, seeds 0 and 1, and return the bytes of one."""
    names = shapes()
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    a, b = ({n: rng.standard_normal(s, np.float32) for n, s in names.items()} for rng in rngs)
    if kind == "related":
        header = {n: TensorInfo("F32", shape) for n, shape in names.items()}
        binding = bind(load_spec(shipped_specs()["llama"]), header, sizes={"kv": KV})
        read = rearranged(binding, binding.group.random(rngs[0]), a.__getitem__)
        b = {n: read(n) + np.float32(NOISE) * x for n, x in b.items()}
    for name, tensors in (("a", a), ("b", b)):
        stored = {n: x.astype(ml_dtypes.bfloat16) for n, x in tensors.items()}
        save_safetensors(folder / f"{name}.safetensors", stored)
    return sum(x.nbytes for x in stored.values())


def run(command: list[str]) -> dict[str, float]:
    """Run a command; return its wall and processor seconds, and its peak memory in MB."""
    watched = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps({'seconds': time.perf_counter() - start, "
        "'cpu_seconds': used.ru_utime + used.ru_stime, 'peak_mb': used.ru_maxrss / 1000}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched, *command], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def align(folder: Path, bound: str | None) -> dict[str, Any]:
    """Align B to A in a process of its own; return its figures and a hash of what it found."""
    out = folder / "p.safetensors"
    command = [
        *(sys.executable, "-m", "rebasin_hub", "align"),
        *(str(folder / "b.safetensors"), str(folder / "a.safetensors"), "-o", str(out), "--force"),
        *("--spec", "llama", "--size", f"kv={KV}", "--device", "cpu", "--restarts", "1"),
        *(("--max-memory", bound) if bound else ()),
    ]
    figures = run(command)
    element = PermutationFile.load(out).element
    found = b"".join(element[name].tobytes() for name in sorted(element))
    return {"bound": bound, **figures, "sha256": hashlib.sha256(found).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["related", "independent"])
    kinds = parser.parse_args().kinds
    imports = run([sys.executable, "-c", IMPORTS])
    measured: list[dict[str, Any]] = []
    nbytes = 0
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name:
            nbytes = make(Path(name), kind)
            for bound in (None, *BOUNDS):
                measured.append({"kind": kind, **align(Path(name), bound)})
                print(json.dumps(measured[-1]), flush=True)
        hashes = {one["sha256"] for one in measured if one["kind"] == kind}
        assert len(hashes) == 1, f"{kind}: the permutations depend on the memory"
    shape = {"embed": EMBED, "ff": FF, "layers": LAYERS, "kv": KV, "vocab": VOCAB, "noise": NOISE}
    settings = {"checkpoint_gb": nbytes / 1e9, "shape": shape, "imports": imports}
    record("align_stream", (__doc__ or "").splitlines()[0], {**settings, "repeats": measured})


if __name__ == "__main__":
    main()
