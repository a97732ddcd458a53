"""Points with statistics measured anew, or repaired. Importing this module imports torch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from functools import cached_property

from rebasin_hub.repair import (
    StatisticsBatches,
    Targets,
    layers,
    measure,
    recomputed,
    repaired,
    statistics_batches,
)
from rebasin_hub.tasks import Network, State
from rebasin_hub.tasks.network import TorchNetwork

__all__ = ["Repairs"]

ENDS = 8
"""Whose statistics are kept: enough for a line or a plane, and bounded where there are many."""


class Repairs:
    """Corrects states of one network by statistics of its own data.

    Args:
        network: a `TorchNetwork`.
        samples: how many samples statistics are measured on.
        seed: of their choice.

    """

    def __init__(self, network: Network, samples: int, seed: int) -> None:
        assert isinstance(network, TorchNetwork)
        self._network = network
        self._samples = samples
        self._seed = seed
        self._layers = layers(network)
        self._ends: deque[tuple[State, Targets]] = deque(maxlen=ENDS)

    @property
    def has_statistics(self) -> bool:
        """Whether there are running statistics to measure anew."""
        return any(layer.recomputed for layer in self._layers)

    @property
    def has_channels(self) -> bool:
        """Whether there are channels to correct."""
        return any(layer.repaired is not None for layer in self._layers)

    @cached_property
    def _batches(self) -> StatisticsBatches:
        return statistics_batches(self._network, self._samples, self._seed)

    @property
    def notes(self) -> list[str]:
        """What a user should know of the samples, and of layers that are corrected in part."""
        told = []
        if (self.has_statistics or self.has_channels) and "train" not in self._network.data:
            told.append("statistics are measured on inputs that losses are measured on too")
        partly = Counter(layer.reason for layer in self._layers if layer.repaired == "deviation")
        told += [
            f"of {count} layers REPAIR sets only the deviation: {reason}"
            for reason, count in partly.items()
        ]
        return told

    def recompute(self, ends: Sequence[State], weights: Sequence[float]) -> State:
        """Return the interpolated state with running statistics measured anew."""
        return recomputed(self._network, self._network.mix(ends, weights), self._batches)

    def repair(self, ends: Sequence[State], weights: Sequence[float]) -> State:
        """Return the interpolated state with the statistics of the ends interpolated."""
        targets = [self._targets(end) for end in ends]
        state = self._network.mix(ends, weights)
        return repaired(self._network, state, targets, weights, self._batches)

    def _targets(self, end: State) -> Targets:
        """Measure an end once."""
        for known, targets in self._ends:
            if known is end:
                return targets
        self._ends.append((end, measure(self._network, end, self._batches)))
        return self._ends[-1][1]
