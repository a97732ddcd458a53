"""Small models made by hand, without any of the program's code."""

from itertools import pairwise

import numpy as np


def renumber_mlp(tensors, seed):
    """Return a copy of an MLP with the units of every hidden layer in a random order."""
    rng = np.random.default_rng(seed)
    renumbered = {name: array.copy() for name, array in tensors.items()}
    for number in range(1, len(tensors) // 2):
        order = rng.permutation(len(tensors[f"fc{number}.bias"]))
        for name in (f"fc{number}.weight", f"fc{number}.bias"):
            renumbered[name] = np.ascontiguousarray(renumbered[name][order])
        after = f"fc{number + 1}.weight"
        renumbered[after] = np.ascontiguousarray(renumbered[after][:, order])
    return renumbered


def mlp(seed, widths=(6, 8, 7, 3)):
    """Return the tensors of a chain of linear layers."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors[f"fc{number + 1}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
        tensors[f"fc{number + 1}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return tensors


def forward(tensors, x):
    """Run a chain of linear layers with ReLU between them, in float64."""
    count = len(tensors) // 2
    for number in range(1, count + 1):
        x = x @ tensors[f"fc{number}.weight"].astype(float).T + tensors[f"fc{number}.bias"]
        x = np.maximum(x, 0) if number < count else x
    return x


def gpt2(seed, *, vocab=11, layers=2, embed=12):
    """Return the tensors of a small GPT-2."""
    rng = np.random.default_rng(seed)
    shapes = {"wte.weight": (vocab, embed), "wpe.weight": (9, embed)}
    for layer in range(layers):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{norm}.{part}": (embed,) for part in ("weight", "bias")}
        for name, size in {
            "attn.c_attn": (embed, 3 * embed),
            "attn.c_proj": (embed, embed),
            "mlp.c_fc": (embed, 4 * embed),
            "mlp.c_proj": (4 * embed, embed),
        }.items():
            shapes |= {f"h.{layer}.{name}.weight": size, f"h.{layer}.{name}.bias": size[1:]}
    shapes |= {"ln_f.weight": (embed,), "ln_f.bias": (embed,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
