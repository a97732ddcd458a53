"""The samples that a network is looked into with: a fixed random subset of its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.network import IGNORED, Batch, TorchNetwork

__all__ = [
    "Drawn",
    "StatisticsBatches",
    "draw_batches",
    "joined",
    "rows_of",
    "statistics_batches",
]

TRAIN, TEST = "train", "test"
Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Some samples of a split, of which there are `available`, with their targets."""

    batches: tuple[Batch, ...]
    split: str
    count: int
    available: int


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

    For the batches see `draw_batches`.

    Raises:
        InputError: there are no samples, or fewer than one is asked for.

    """
    drawn = draw_batches(network, samples, seed)
    batches = tuple(
        replace(batch, targets=torch.full((len(batch),), IGNORED)) for batch in drawn.batches
    )
    return StatisticsBatches(batches, drawn.split, drawn.count, _note(drawn.split))


def draw_batches(network: TorchNetwork, samples: int, seed: int) -> Drawn:
    """Draw samples with their targets, without replacement.

    Args:
        network: with its data; the split `train` is drawn from, or another one where there is none.
        samples: how many at most.
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
    groups: dict[object, list[Batch]] = {}
    start = 0
    for batch in data.batches(network.batch):
        first, last = np.searchsorted(chosen, (start, start + len(batch)))
        if first < last:
            part = rows_of(batch, torch.from_numpy(chosen[first:last] - start))
            groups.setdefault(_shapes(part), []).append(part)
        start += len(batch)
    batches = [
        batch for parts in groups.values() for batch in _evenly(joined(parts), network.batch)
    ]
    return Drawn(tuple(batches), name, count, available)


def _note(name: str) -> str | None:
    if name == TRAIN:
        return None
    return (
        f"statistics are measured on the split '{name}', there being no '{TRAIN}': on inputs that "
        "losses are measured on too, without their labels"
    )


def _items(inputs: Inputs) -> dict[object, Tensor]:
    return dict(inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs))


def _shapes(batch: Batch) -> object:
    inputs = _items(batch.inputs).items()
    return batch.targets.shape[1:], *((key, x.dtype, x.shape[1:]) for key, x in inputs)


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Return some samples of a batch."""
    if isinstance(batch.inputs, Mapping):
        inputs: Inputs = {key: x[rows] for key, x in batch.inputs.items()}
    else:
        inputs = tuple(x[rows] for x in batch.inputs)
    return Batch(inputs, batch.targets[rows])


def joined(parts: Sequence[Batch]) -> Batch:
    """Join batches whose samples have equal shapes."""
    columns = {
        key: torch.cat([_items(part.inputs)[key] for part in parts])
        for key in _items(parts[0].inputs)
    }
    named = isinstance(parts[0].inputs, Mapping)
    inputs: Inputs = (
        {str(key): x for key, x in columns.items()} if named else tuple(columns.values())
    )
    return Batch(inputs, torch.cat([part.targets for part in parts]))


def _evenly(batch: Batch, size: int) -> Iterator[Batch]:
    """Yield a batch's samples in as few parts as `size` allows, all nearly equally large."""
    for rows in torch.arange(len(batch)).tensor_split(-(-len(batch) // size)):
        yield rows_of(batch, rows)
