"""What a barrier is measured on: data, and a runnable network for each architecture.

A task knows its data before any model is there: its splits, counts and digests. For a checkpoint
(`Subject`) it builds a `Network`, which turns weights into a state and scores states. Importing
this module imports neither torch nor any reader of data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from rebasin_hub.barrier import Scores
from rebasin_hub.bind import Binding
from rebasin_hub.rearrange import Read

__all__ = ["Advance", "Network", "Options", "Split", "State", "Subject", "Task"]

State: TypeAlias = Mapping[str, Any]
"""The weights of one network, by the checkpoint's names, as arrays of the network's library."""

Advance: TypeAlias = Callable[[int], None]
"""Told how many more forward passes of one sample are done."""


@dataclass(frozen=True)
class Split:
    """A part of the data that losses are averaged over.

    `count` samples of `available` are measured; `digest` is the SHA-256 of exactly those (their
    inputs as the task reads them, and their targets); `source` names the files that they are from.
    """

    name: str
    count: int
    available: int
    digest: str
    source: str


@dataclass(frozen=True)
class Options:
    """What a user says of a task beside its name.

    `data` is the file or directory that holds the samples; `limit` the number of samples that are
    measured of each split, drawn with `seed`; `batch` the samples of one forward pass; `settings`
    what only some tasks know (see each task), as a task file gives it.
    """

    data: Path | None = None
    limit: int | None = None
    batch: int = 256
    seed: int = 0
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """What a task may know of a checkpoint to build the network that runs it.

    `path` is its file or directory; `binding` has its header, spec and solved sizes; `config` is
    its config.json; `tied` the names that share another name's memory.
    """

    path: Path
    binding: Binding
    config: Mapping[str, Any] | None
    tied: Mapping[str, str]


class Network(ABC):
    """A runnable architecture with the data of its task."""

    inspectable: ClassVar[bool] = False
    """Whether its layers can be looked into and corrected (`repair`): a `TorchNetwork`."""
    calibrates: bool = True
    """Whether the loss is one of logits, so that `Scores.tempered` is there."""
    together: int = 1
    """States that are best scored in one call."""
    device_name: str = "cpu"
    """Where it computes, for the record."""
    notes: tuple[str, ...] = ()
    """What a user should know, in whole sentences."""

    @abstractmethod
    def state(self, read: Read) -> State:
        """Read the weights of a model into the network's library, on its device.

        Floating-point tensors are computed with in float32 (float64 where stored so).
        """

    @abstractmethod
    def mix(self, states: Sequence[State], weights: Sequence[float]) -> State:
        """Return the weighted sum of states; integers and booleans are the first one's.

        A weight of one among zeros gives that state's values bit for bit. Infinite values that all
        states have stay.

        Raises:
            NotFiniteError: other infinite values, which have no mean.

        """

    @abstractmethod
    def score(
        self,
        states: Sequence[State],
        split: str,
        advance: Advance | None = None,
        *,
        calibrate: bool = True,
    ) -> list[Scores]:
        """Score several states on a split, together where that is faster.

        Args:
            states: at least one.
            split: a key of the task's splits.
            advance: told `len(samples)` after each batch of each state.
            calibrate: whether to score at every temperature too (`Scores.tempered`).

        Losses may be infinite or NaN where a state overflows; nothing is raised for that.
        """

    @abstractmethod
    def ensemble(
        self, states: Sequence[State], split: str, advance: Advance | None = None
    ) -> Scores:
        """Score the mean of the logits of several states."""


class Task(ABC):
    """Data with a loss and an error, and the networks that can be measured on them."""

    name: str
    """As a user names it."""
    splits: Mapping[str, Split]
    """`test`, `train` or both, in the order in which they are shown; never empty."""
    loss_name: str = "cross-entropy"
    """What the loss is, for axes and records; in nats unless it says otherwise."""
    error_name: str = "error rate"
    """What the error is; a share from 0 to 1."""
    notes: tuple[str, ...] = ()
    """What a user should know, in whole sentences."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else decides a result, as plain JSON values, for the record."""
        return {}

    @abstractmethod
    def network(self, subject: Subject, device: str) -> Network:
        """Build the network that runs a checkpoint's architecture.

        Args:
            subject: the checkpoint.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

        Raises:
            InputError: no network is known for the architecture, or it does not fit the data
                (number of classes, shape of an input, vocabulary).
            MissingExtraError: a package that it needs is not installed.

        """
