"""A network with its data as `Evidence`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rebasin_hub.align.evidence import Evidence, Features
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.evidence.loss import batch_loss
from rebasin_hub.evidence.places import Plan, planned
from rebasin_hub.evidence.stream import streamed
from rebasin_hub.rearrange import Read
from rebasin_hub.repair.batches import (
    Drawn,
    draw_batches,
    joined,
    rows_of,
    statistics_batches,
)
from rebasin_hub.tasks.network import Batch, TorchNetwork
from rebasin_hub.tasks.task import Network, Task

__all__ = ["NetworkEvidence", "evidence_of"]

TRAIN = "train"
HELD_BYTES = 1 << 30
"""Samples that are held in memory to be drawn in any order."""
LONGEST_FIXED = 1 << 13
"""Fixed features, such as pixels, whose covariances are worth their room."""


def evidence_of(network: Network, task: Task, binding: Binding, *, seed: int = 0) -> Evidence:
    """Return what methods may ask of a network; see `Evidence`.

    Args:
        network: what runs both models.
        task: where it is from; names the loss.
        binding: of both models.
        seed: draws the samples that losses are compared on (`fixed`).

    Raises:
        InputError: the network is none of torch, or there are no samples.

    """
    if not isinstance(network, TorchNetwork):
        raise InputError(
            f"the network of the task '{task.name}' cannot be looked into, as it is no torch "
            "module; give a task with one (--task FILE.py:NAME), or use --method weight"
        )
    return NetworkEvidence(network, binding, loss=task.loss_name, seed=seed)


class NetworkEvidence:
    """A torch network with data, of whose training samples a search may see any.

    Args:
        network: what runs both models.
        binding: of both models.
        loss: what the network's loss is called.
        seed: draws the samples of `fixed`.

    Raises:
        InputError: there are no samples.

    """

    def __init__(
        self, network: TorchNetwork, binding: Binding, *, loss: str, seed: int = 0
    ) -> None:
        self.network = network
        self.binding = binding
        self._seed = seed
        self._split = TRAIN if TRAIN in network.data else next(iter(network.data))
        self.loss_name = f"{loss} ({self._split})"
        if network.data[self._split].split.count == 0:
            raise InputError(f"the split '{self._split}' of the task holds no samples")
        self._notes: dict[str, None] = {}
        if self._split != TRAIN:
            self._notes[
                f"The search saw samples of the split '{self._split}', there being no '{TRAIN}': "
                "a barrier that is measured on it looks better than it is."
            ] = None
        self._fixed: dict[int, tuple[Batch, ...]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, in whole sentences; see `Evidence.notes`."""
        return tuple(self._notes)

    @cached_property
    def plan(self) -> Plan:
        """Where features are read."""
        plan = planned(self.network, self.binding)
        self._notes.update(dict.fromkeys(plan.notes))
        return plan

    def features(
        self, read_a: Read, read_b: Read, *, samples: int, seed: int, within: bool = False
    ) -> tuple[Features, ...]:
        """Return the moments of the features of two models; see `Evidence.features`.

        With `within` there are places without permutations, too: inputs that are in one order in
        every model.
        """
        places = list(self.plan.places)
        if within:
            places += [place for place in self.plan.fixed if place.axis.length <= LONGEST_FIXED]
        if not places:
            return ()
        inner_a, inner_b = (self.network.inner(self.tensors(read)) for read in (read_a, read_b))
        batches = statistics_batches(self.network, samples, seed)
        features, lost = streamed(self.network, inner_a, inner_b, places, batches, within=within)
        if lost:
            labels = ", ".join(dict.fromkeys(place.label for place in lost))
            self._notes[
                f"The models were not given the same samples at the {labels}; nothing was "
                "compared there."
            ] = None
        return tuple(features)

    def tensors(self, read: Read) -> dict[str, Tensor]:
        """Read a model onto the device, floats as float32; see `Evidence.tensors`."""
        state = self.network.state(read)
        return {name: x.float() if x.is_floating_point() else x for name, x in state.items()}

    def minibatches(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield batches without end; see `Evidence.minibatches`.

        The batches of an epoch are equally large, up to one sample, and none is larger than `size`.
        """
        if size < 1:
            raise InputError(f"a batch of {size} samples; give a number of 1 or more")
        pools = self._pools
        rng = np.random.default_rng(seed)
        while True:
            order = [rng.permutation(len(pool)) for pool in pools]
            parts = [
                (number, rows)
                for number, own in enumerate(order)
                for rows in np.array_split(own, -(-len(own) // size))
            ]
            for number in rng.permutation(len(parts)) if len(pools) > 1 else range(len(parts)):
                pool, rows = parts[number]
                batch = rows_of(pools[pool], torch.from_numpy(rows))
                yield batch.to(self.network.device)

    @cached_property
    def _pools(self) -> list[Batch]:
        """The samples in memory: those of equal shapes in one batch."""
        data = self.network.data[self._split]
        first = next(iter(data.batches(self.network.batch)))
        count = max(1, min(data.split.count, HELD_BYTES * len(first) // max(1, _bytes(first))))
        if count < data.split.count:
            self._notes[
                f"The search saw {count} of the {data.split.count} samples of the split "
                f"'{self._split}', as more do not fit into memory."
            ] = None
        groups: dict[object, list[Batch]] = {}
        for batch in self._drawn(count).batches:
            groups.setdefault(_shapes(batch), []).append(batch)
        return [joined(parts) for parts in groups.values()]

    def _drawn(self, samples: int) -> Drawn:
        return draw_batches(self.network, samples, self._seed)

    def fixed(self, samples: int) -> Sequence[Batch]:
        """Return the same samples in every call; see `Evidence.fixed`."""
        if samples not in self._fixed:
            batches = self._drawn(samples).batches
            self._fixed[samples] = tuple(batch.to(self.network.device) for batch in batches)
        return self._fixed[samples]

    def loss(self, tensors: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the mean loss of a batch; see `Evidence.loss`."""
        return batch_loss(self.network, tensors, batch)


def _inputs(batch: Batch) -> tuple[Tensor, ...]:
    return tuple(batch.inputs.values() if isinstance(batch.inputs, Mapping) else batch.inputs)


def _bytes(batch: Batch) -> int:
    return sum(int(x.nbytes) for x in (*_inputs(batch), batch.targets))


def _shapes(batch: Batch) -> object:
    return tuple((x.dtype, x.shape[1:]) for x in (*_inputs(batch), batch.targets))
