"""Renumber a chain of linear layers by hand, without any of the program's code."""

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
