"""Small models made by hand, without any of the program's code."""

from itertools import pairwise

import numpy as np


def mlp(seed, widths=(40, 64, 32, 10)):
    """Return the tensors of a chain of linear layers, some larger than a block of the disk."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors[f"fc{number + 1}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
        tensors[f"fc{number + 1}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return tensors


def renumbered(tensors, seed):
    """Return a copy with the units of every hidden layer in a random order."""
    rng = np.random.default_rng(seed)
    copy = {name: array.copy() for name, array in tensors.items()}
    for number in range(1, len(tensors) // 2):
        order = rng.permutation(len(tensors[f"fc{number}.bias"]))
        for name in (f"fc{number}.weight", f"fc{number}.bias"):
            copy[name] = np.ascontiguousarray(copy[name][order])
        after = f"fc{number + 1}.weight"
        copy[after] = np.ascontiguousarray(copy[after][:, order])
    return copy


def tuned(tensors, seed, share=0.1):
    """Return a copy of which some weights have moved a little."""
    rng = np.random.default_rng(seed)
    copy = {}
    for name, array in tensors.items():
        step = 1e-3 * rng.normal(size=array.shape) * (rng.random(array.shape) < share)
        copy[name] = (array + step).astype(array.dtype)
    return copy
