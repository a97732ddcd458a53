"""Small models, made without any of the program's code."""

import json
from itertools import pairwise

import numpy as np
from safetensors.numpy import save_file

WIDTHS = (6, 8, 8, 3)


def mlp(seed, widths=WIDTHS):
    """Return the tensors of a chain of linear layers."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for number, (before, after) in enumerate(pairwise(widths), 1):
        tensors[f"fc{number}.weight"] = rng.normal(size=(after, before)).astype(np.float32)
        tensors[f"fc{number}.bias"] = rng.normal(size=after).astype(np.float32)
    return tensors


def mlp_bytes(seed, folder, widths=WIDTHS):
    """Return a safetensors file as bytes."""
    path = folder / f"mlp-{seed}-{widths[1]}.safetensors"
    save_file(mlp(seed, widths), path, {"format": "pt"})
    return path.read_bytes()


def sharded(folder, seed=0, widths=WIDTHS):
    """Write a chain of layers as a directory of two shards; return the directory."""
    folder.mkdir()
    tensors = mlp(seed, widths)
    shards = {
        "model-00001-of-00002.safetensors": sorted(tensors)[::2],
        "model-00002-of-00002.safetensors": sorted(tensors)[1::2],
    }
    for name, chosen in shards.items():
        save_file({n: tensors[n] for n in chosen}, folder / name, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
        "weight_map": {n: name for name, chosen in shards.items() for n in chosen},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "mlp"}))
    return folder


def card_of(license_):
    """Return a model card that names a license."""
    return f"---\nlicense: {license_}\n---\n# A model\n".encode()
