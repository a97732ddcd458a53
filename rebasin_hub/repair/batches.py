"""The samples that statistics are measured on: a fixed random subset, without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.network import IGNORED, Batch, TorchNetwork

__all__ = ["StatisticsBatches", "statistics_batches"]

TRAIN, TEST = "train", "test"
Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class StatisticsBatches:
    """Batches to be gone through any number of times; every target is `IGNORED`.

    `count` samples of the split `split`; `note` says what a user should know of that choice.
    """

    batches: tuple[Batch, ...]
    split: str
    count: int
    note: str | None

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def statistics_batches(
    network: TorchNetwork, samples: int = 5000, seed: int = 0
) -> StatisticsBatches:
    """Draw the samples that statistics are measured on.

    Args:
        network: with its data; the split `train` is drawn from, or another one where there is none.
        samples: how many at most, without replacement.
        seed: which ones these are.

    Batches have the network's size, or a little less, so that none is left over that is much
    smaller: a small batch has noisy statistics. Samples of unequal shapes (texts that are padded
    batch by batch) come in batches of equal ones.

    Raises:
        InputError: there are no samples, or fewer than one is asked for.

    """
    if samples < 1:
        raise InputError(f"statistics on {samples} samples; give a number of 1 or more")
    name = next((n for n in (TRAIN, TEST) if n in network.data), None) or next(iter(network.data))
    data = network.data[name]
    available = data.split.count
    if available == 0:
        raise InputError(f"the split '{name}' of {data.split.source} holds no samples")
    count = min(samples, available)
    chosen = np.sort(np.random.default_rng(seed).choice(available, count, replace=False))
    groups: dict[object, list[Inputs]] = {}
    start = 0
    for batch in data.batches(network.batch):
        first, last = np.searchsorted(chosen, (start, start + len(batch)))
        if first < last:
            rows = torch.from_numpy(chosen[first:last] - start)
            part = _rows(batch.inputs, rows)
            groups.setdefault(_shapes(part), []).append(part)
        start += len(batch)
    batches = [batch for parts in groups.values() for batch in _evenly(parts, network.batch)]
    return StatisticsBatches(tuple(batches), name, count, _note(name))


def _note(name: str) -> str | None:
    if name == TRAIN:
        return None
    return (
        f"statistics are measured on the split '{name}', there being no '{TRAIN}': on inputs that "
        "losses are measured on too, without their labels"
    )


def _items(inputs: Inputs) -> dict[object, Tensor]:
    return dict(inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs))


def _shapes(inputs: Inputs) -> object:
    return tuple((key, x.dtype, x.shape[1:]) for key, x in _items(inputs).items())


def _rows(inputs: Inputs, rows: Tensor) -> Inputs:
    if isinstance(inputs, Mapping):
        return {key: x[rows] for key, x in inputs.items()}
    return tuple(x[rows] for x in inputs)


def _evenly(parts: list[Inputs], size: int) -> Iterator[Batch]:
    """Yield inputs of equal shapes in as few batches as `size` allows, all nearly equally large."""
    columns = {key: torch.cat([_items(part)[key] for part in parts]) for key in _items(parts[0])}
    total = len(next(iter(columns.values())))
    for rows in torch.arange(total).tensor_split(-(-total // size)):
        taken = {key: x[rows] for key, x in columns.items()}
        named = isinstance(parts[0], Mapping)
        inputs: Inputs = (
            {str(key): x for key, x in taken.items()} if named else tuple(taken.values())
        )
        yield Batch(inputs, torch.full((len(rows),), IGNORED))
