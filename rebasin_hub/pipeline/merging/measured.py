"""Choose a merge's weight on a task, and correct the merged network on its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rebasin_hub.barrier import grid
from rebasin_hub.errors import InputError
from rebasin_hub.pipeline.models import Model
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.tasks import Network, Options, State, Task
from rebasin_hub.tensors import DTYPES, Header

if TYPE_CHECKING:
    from rebasin_hub.repair import Layer
    from rebasin_hub.tasks.network import TorchNetwork

__all__ = ["Corrected", "Measured", "Meter", "Selected", "correct", "inspectable", "select"]

At: TypeAlias = Callable[[float], Read]
"""Reads the merge at λ, from 0, the first model, to 1, the second one."""

SHOWN = 5
"""Layers that a note lists."""


@dataclass(frozen=True)
class Measured:
    """A task as a user names it, and how many samples statistics are measured on."""

    task: str
    options: Options = field(default_factory=Options)
    samples: int = 5000


@dataclass(frozen=True, eq=False)
class Meter:
    """A task with the network that runs the models."""

    measured: Measured
    task: Task
    network: Network

    @classmethod
    def of(cls, measured: Measured, model: Model, device: str) -> Meter:
        """Find the task and build the network.

        Raises:
            InputError: there is no such task, or it does not fit the model.

        """
        from rebasin_hub.tasks.find import find_task

        task = find_task(measured.task, measured.options)
        return cls(measured, task, task.network(model.subject, device))

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of the task."""
        return {
            "name": self.task.name,
            "splits": {
                name: {"count": split.count, "digest": split.digest}
                for name, split in self.task.splits.items()
            },
        }


@dataclass(frozen=True)
class Selected:
    """The weight with the least loss: λ = 0 is the first model, 1 the second one.

    losses: one for each of `lambdas`, of the merge as it would be stored.
    """

    value: float
    split: str
    lambdas: tuple[float, ...]
    losses: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def weights(self) -> tuple[float, float]:
        """The weight of each model."""
        return 1 - self.value, self.value

    @property
    def loss(self) -> float:
        """The least loss."""
        return min(self.losses)


def select(meter: Meter, at: At, progress: Progress | None) -> Selected:
    """Measure the merge at 25 weights, and choose the best one.

    Of equal losses the one nearest to the middle counts. The loss is that on the task's `train`
    split; on its `test` split, where there is no other, it is optimistic.

    Raises:
        InputError: the loss is not a number at any weight.

    """
    split = "train" if "train" in meter.task.splits else next(iter(meter.task.splits))
    lambdas, losses = grid(), []
    for number, value in enumerate(lambdas):
        if progress is not None:
            progress("selecting the weight", number, len(lambdas))
        state = meter.network.state(at(value))
        losses.append(meter.network.score([state], split, calibrate=False)[0].loss)
    finite = [
        (loss, abs(x - 0.5), x)
        for loss, x in zip(losses, lambdas, strict=True)
        if np.isfinite(loss)
    ]
    if not finite:
        raise InputError(
            f"the loss on the task '{meter.task.name}' is infinite or not a number at every "
            "weight; check the models"
        )
    optimistic = (
        f"the weight was selected on the split '{split}', there being no 'train': its loss there "
        "is optimistic"
    )
    notes = () if split == "train" else (optimistic,)
    return Selected(min(finite)[2], split, lambdas, tuple(losses), notes)


def inspectable(meter: Meter, option: str) -> TorchNetwork:
    """Return the network of a task as one whose layers can be looked into.

    Raises:
        InputError: they cannot be, with the option that needs it.

    """
    from rebasin_hub.tasks.network import TorchNetwork

    if isinstance(meter.network, TorchNetwork):
        return meter.network
    raise InputError(
        f"the network of the task '{meter.task.name}' cannot be looked into, which {option} needs; "
        f"choose another task or leave {option} out"
    )


@dataclass(frozen=True, eq=False)
class Corrected:
    """Tensors of the merged network that were set anew, in their stored types."""

    tensors: Mapping[str, Array]
    notes: tuple[str, ...]


def correct(
    meter: Meter,
    repair: str,
    merged: Read,
    *,
    models: Sequence[Read],
    weights: Mapping[str, Sequence[float]],
    header: Header,
    seed: int,
) -> Corrected:
    """Correct the merged network's statistics, or its channels.

    Args:
        meter: the task.
        repair: `recompute` or `repair`.
        merged: reads the merge.
        models: reads each model in the common numbering.
        weights: of each tensor one for each model; of `repair` alone.
        header: the types in which the merge is stored.
        seed: of the choice of samples.

    Raises:
        InputError: the network's layers cannot be looked into.

    """
    from rebasin_hub import repair as repairs

    network = inspectable(meter, "--repair")
    batches = repairs.statistics_batches(network, samples=meter.measured.samples, seed=seed)
    before = network.state(merged)
    if repair == "recompute":
        after = repairs.recomputed(network, before, batches)
    else:
        targets = [repairs.measure(network, network.state(read), batches) for read in models]
        after = repairs.repaired(network, before, targets, weights, batches)
    tensors = {
        name: _array(after[name], info.dtype)
        for name, info in header.items()
        if name in after and not _equal(before, after, name)
    }
    told = _told(repair, repairs.layers(network), len(tensors))
    return Corrected(tensors, (*told, *([batches.note] if batches.note is not None else [])))


def _told(repair: str, layers: Sequence[Layer], tensors: int) -> Iterator[str]:
    """Say which layers were corrected and which were not."""
    recompute = repair == "recompute"
    done = [x for x in layers if (x.recomputed if recompute else x.repaired is not None)]
    if not done:
        what = "running statistics" if recompute else "layers whose channels can be set"
        yield f"--repair {repair} left the merge as it is: the network has no {what}"
        return
    yield f"--repair {repair} set {tensors} tensors of {len(done)} layers anew"
    reasons: dict[str, list[str]] = {}
    for layer in () if recompute else layers:
        if layer.reason:
            reasons.setdefault(layer.reason, []).append(layer.name)
    for reason, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"not wholly repaired: {', '.join(names[:SHOWN])}{more}: {reason}"


def _equal(before: State, after: State, name: str) -> bool:
    return np.array_equal(_numpy(before[name]), _numpy(after[name]))


def _numpy(value: Any) -> Array:  # noqa: ANN401 - of the network's library
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _array(value: Any, dtype: str) -> Array:  # noqa: ANN401 - of the network's library
    return _numpy(value).astype(DTYPES[dtype].numpy)
