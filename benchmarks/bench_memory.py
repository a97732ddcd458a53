"""Canonicalizing takes less than five of the largest tensors beyond the imports.

A GPT-2-shaped random checkpoint goes through `rebasin-hub canonicalize`, and in the same run
through `cp` and through safetensors' own load_file and save_file. Peak memory is that of the
whole process (ru_maxrss); the imports are measured in a process that does nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _record import record

REPEATS = 3
EMBED, LAYERS, VOCAB, CONTEXT = 1280, 11, 30000, 1024
IMPORTS = "import rebasin_hub.app, rebasin_hub.pipeline.canonicalize, rebasin_hub.report"
SAFETENSORS = (
    "import sys; from safetensors.numpy import load_file, save_file; "
    "save_file(load_file(sys.argv[1]), sys.argv[2])"
)


def tensors() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a GPT-2 of about 1 GB in float32."""
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (VOCAB, EMBED),
        "wpe.weight": (CONTEXT, EMBED),
    }
    for layer in range(LAYERS):
        stem = f"h.{layer}"
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{stem}.{norm}.weight": (EMBED,), f"{stem}.{norm}.bias": (EMBED,)}
        for name, (rows, columns) in {
            "attn.c_attn": (EMBED, 3 * EMBED),
            "attn.c_proj": (EMBED, EMBED),
            "mlp.c_fc": (EMBED, 4 * EMBED),
            "mlp.c_proj": (4 * EMBED, EMBED),
        }.items():
            shapes[f"{stem}.{name}.weight"] = (rows, columns)
            shapes[f"{stem}.{name}.bias"] = (columns,)
    return shapes | {"ln_f.weight": (EMBED,), "ln_f.bias": (EMBED,)}


def run(command: list[str]) -> dict[str, float]:
    """Run a command; return its wall seconds and peak memory in MB."""
    watched = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(json.dumps({'seconds': time.perf_counter() - start, "
        "'peak_mb': resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched, *command], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, out = folder / "model.safetensors", folder / "out.safetensors"
        _make(model)
        commands = {
            "imports": [sys.executable, "-c", IMPORTS],
            "cp": [shutil.which("cp") or "cp", str(model), str(out)],
            "safetensors load_file, save_file": [
                sys.executable, "-c", SAFETENSORS, str(model), str(out),
            ],
            "rebasin-hub canonicalize": [
                sys.executable, "-m", "rebasin_hub", "canonicalize", str(model),
                "-o", str(out), "--spec", "gpt2", "--size", "head=20",
            ],
        }  # fmt: skip
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for label, command in commands.items():
                out.unlink(missing_ok=True)
                figures[label].append(run(command))
        gigabytes = model.stat().st_size / 1e9
    for label, repeats in figures.items():
        middle = sorted(repeats, key=lambda r: r["seconds"])[len(repeats) // 2]
        print(f"{middle['seconds']:7.2f} s {middle['peak_mb']:8.0f} MB  {label}")
    assert __doc__ is not None
    record("memory", __doc__.splitlines()[0], {"checkpoint_gb": gigabytes, "repeats": figures})


def _make(path: Path) -> None:
    """Write the checkpoint through the product's own streaming writer, seed 0."""
    from rebasin_hub.formats import save_safetensors

    rng = np.random.default_rng(0)
    save_safetensors(
        path, {n: rng.standard_normal(shape, dtype=np.float32) for n, shape in tensors().items()}
    )


if __name__ == "__main__":
    main()
