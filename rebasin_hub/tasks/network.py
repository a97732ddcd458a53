"""Networks that are torch modules. Importing this module imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rebasin_hub.align.backend import select
from rebasin_hub.barrier import TEMPERATURES, Scores, joined
from rebasin_hub.errors import IncompatibleError
from rebasin_hub.merge import no_mean
from rebasin_hub.rearrange import Read
from rebasin_hub.tasks.scoring import IGNORED
from rebasin_hub.tasks.task import Advance, Network, Split, State, Subject

__all__ = [
    "IGNORED",
    "Batch",
    "Data",
    "Loss",
    "TensorData",
    "TorchNetwork",
    "logits_of",
    "names_of",
    "score_logits",
    "torch_device",
]

COUNTER = "num_batches_tracked"
PIECE = 1 << 20
"""Numbers that logits are scaled to at a time."""
SHOWN = 10
"""Names that a message lists."""
STATES_ON_CUDA = 25
"""States scored at once on a GPU: a whole line, so that small networks fill it."""

Returned: TypeAlias = Any
"""What a module returns: a tensor, or one of transformers' outputs."""
Loss: TypeAlias = Callable[[Returned, Tensor], tuple[Tensor, Tensor]]
"""From a module's output and the targets to the loss and the error of each sample, (samples,)."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of a module, positional or by keyword, and the targets of its logits.

    inputs: tensors whose first axis is the sample.
    targets: (samples,) or (samples, positions) int64 classes; `IGNORED` ones do not count.
    """

    inputs: tuple[Tensor, ...] | Mapping[str, Tensor]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        if isinstance(self.inputs, Mapping):
            inputs = {name: x.to(device) for name, x in self.inputs.items()}
            return Batch(inputs, self.targets.to(device))
        return Batch(tuple(x.to(device) for x in self.inputs), self.targets.to(device))


class Data(Protocol):
    """One split's samples."""

    @property
    def split(self) -> Split:
        """What is known of them."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all samples in their order, `size` at a time, always in the same way."""


@dataclass(frozen=True, eq=False)
class TensorData:
    """Samples that are held in memory."""

    split: Split
    inputs: tuple[Tensor, ...]
    targets: Tensor

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the samples, `size` at a time."""
        for start in range(0, len(self.targets), size):
            part = slice(start, start + size)
            yield Batch(tuple(x[part] for x in self.inputs), self.targets[part])


class TorchNetwork(Network):
    """A module that is run with the weights of any state.

    Args:
        module: with the shapes of the checkpoint; it is put into evaluation mode. Its own values
            serve for what the checkpoint does not store.
        data: the samples of each split.
        names: from the names in the module's state dict to the checkpoint's; see `names_of`.
        device: see `torch_device`.
        batch: samples of one forward pass.
        logits: takes the logits, (samples, …, classes), out of what the module returns.
        loss: where the loss is not the cross-entropy of logits; then there is no temperature.
        together: states scored at once; by default one on a CPU, and on a GPU a whole line as far
            as memory allows.

    """

    inspectable = True

    def __init__(
        self,
        module: nn.Module,
        data: Mapping[str, Data],
        names: Mapping[str, str],
        *,
        device: str = "cpu",
        batch: int = 256,
        logits: Callable[[Returned], Tensor] | None = None,
        loss: Loss | None = None,
        together: int | None = None,
    ) -> None:
        self.device = torch_device(device)
        self.device_name = _described(self.device)
        self.module = module.to(self.device).eval().requires_grad_(False)
        self.data = data
        self.names = dict(names)
        self.batch = batch
        self.logits = logits or logits_of
        self.loss = loss
        self.calibrates = loss is None
        self.together = together or _together(self.module, self.device)

    def state(self, read: Read) -> dict[str, Tensor]:
        """Read the weights of a model onto the device; see `Network.state`."""
        return {name: self._tensor(read(name)) for name in dict.fromkeys(self.names.values())}

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        if array.dtype.kind not in "biu" and array.dtype not in (np.float64, np.complex64):
            array = array.astype(np.float32)
        return torch.from_numpy(np.array(array)).to(self.device)

    def mix(self, states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
        """Return the weighted sum of states; see `Network.mix`."""
        heaviest = max(range(len(weights)), key=weights.__getitem__)
        others = [
            (state, weight)
            for number, (state, weight) in enumerate(zip(states, weights, strict=True))
            if weight and number != heaviest
        ]
        mixed = {}
        for name, first in states[0].items():
            base = states[heaviest][name]
            if not first.is_floating_point() or not others:
                mixed[name] = base if first.is_floating_point() else first
                continue
            # As a sum over differences: states that are equal give themselves back.
            mixed[name] = base + sum(weight * (state[name] - base) for state, weight in others)
            if not math.isfinite(mixed[name].sum()):  # hardly ever
                mixed[name] = _kept(name, mixed[name], base, [state[name] for state, _ in others])
        return mixed

    def score(
        self,
        states: Sequence[State],
        split: str,
        advance: Advance | None = None,
        *,
        calibrate: bool = True,
    ) -> list[Scores]:
        """Score several states on a split; see `Network.score`."""
        scores: list[Scores] = []
        for start in range(0, len(states), self.together):
            group = states[start : start + self.together]
            scores += self._score_together(group, split, advance, calibrate)
        return scores

    def _score_together(
        self, states: Sequence[State], split: str, advance: Advance | None, calibrate: bool
    ) -> list[Scores]:
        parts: list[list[Scores]] = [[] for _ in states]
        for batch, outputs in self._outputs(states, split):
            for part, output in zip(parts, outputs, strict=True):
                part.append(self._scores(output, batch.targets, calibrate))
                if advance is not None:
                    advance(len(batch))
        return [joined(part) for part in parts]

    def ensemble(
        self, states: Sequence[State], split: str, advance: Advance | None = None
    ) -> Scores:
        """Score the mean of the logits of several states; see `Network.ensemble`."""
        parts = []
        for batch, outputs in self._outputs(states, split):
            logits = torch.stack([self.logits(output) for output in outputs]).mean(0)
            parts.append(self._scores(logits, batch.targets, calibrate=False))
            if advance is not None:
                advance(len(batch) * len(states))
        return joined(parts)

    def _scores(self, output: Returned, targets: Tensor, calibrate: bool) -> Scores:
        if self.loss is None:
            return score_logits(self.logits(output), targets, calibrate=calibrate)
        losses, errors = (x.double().cpu().numpy() for x in self.loss(output, targets))
        return Scores(losses, errors, np.ones(len(targets)))

    def _outputs(
        self, states: Sequence[State], split: str
    ) -> Iterator[tuple[Batch, Sequence[Returned]]]:
        """Yield each batch with what every state makes of it."""
        inner = [self.inner(state) for state in states]
        stacked = self._stacked(inner) if self.together > 1 and len(inner) > 1 else None
        for stored in self.data[split].batches(self.batch):
            batch = stored.to(self.device)
            if stacked is not None:
                try:
                    outputs = self._at_once(stacked, batch)
                except RuntimeError:  # vmap has no rule for an operation, or memory ran out
                    stacked, self.together = None, 1
                else:
                    yield batch, outputs
                    continue
            yield batch, [self.forward(state, batch) for state in inner]

    def inner(self, state: State) -> dict[str, Tensor]:
        """Return a state by the names of the module's own state dict."""
        return {name: state[stored] for name, stored in self.names.items()}

    def forward(self, inner: Mapping[str, Tensor], batch: Batch) -> Returned:
        """Run the module with weights by its own names, in its present mode, without gradients.

        Running statistics that the module changes are changed in `inner`.
        """
        args, kwargs = _arguments(batch)
        with exact():
            return functional_call(self.module, dict(inner), args, kwargs)

    def _stacked(self, inner: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([state[name] for state in inner]) for name in inner[0]}

    def _at_once(self, stacked: Mapping[str, Tensor], batch: Batch) -> Sequence[Tensor]:
        args, kwargs = _arguments(batch)

        def run(weights: dict[str, Tensor]) -> Tensor:
            output = functional_call(self.module, weights, args, kwargs)
            return self.logits(output) if self.loss is None else output

        with exact():
            return list(vmap(run)(dict(stacked)))


def _kept(name: str, mixed: Tensor, base: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return what is mixed with infinite values that all have as they are: they differ by NaN.

    Raises:
        NotFiniteError: infinite values are not the same in all.

    """
    alike, infinite = torch.ones_like(base, dtype=torch.bool), torch.isinf(base)
    for other in others:
        alike, infinite = alike & (other == base), infinite | torch.isinf(other)
    if (infinite & ~alike).any():
        raise no_mean(name)
    return torch.where(infinite, base, mixed)


def _arguments(batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    if isinstance(batch.inputs, Mapping):
        return (), dict(batch.inputs)
    return batch.inputs, {}


@contextmanager
def exact() -> Iterator[None]:
    """Compute without gradients, repeatably, and in full float32 (cuDNN takes TF32 by default)."""
    with torch.no_grad(), torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
        yield


def torch_device(device: str) -> torch.device:
    """Return the device of a name that `--device` takes.

    Raises:
        InputError: there is no such device.

    """
    return torch.device(select(device).device or "cpu")


def _together(module: nn.Module, device: torch.device) -> int:
    """Return how many states are scored at once: as many as fill a GPU, and a quarter of its room.

    On a CPU one at a time is as fast, but for the smallest networks.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    state = sum(int(x.nbytes) for x in module.state_dict().values())
    return max(1, min(STATES_ON_CUDA, int(free) // 4 // max(1, state)))


def _described(device: torch.device) -> str:
    """Return a device's name with the GPU's: results differ by it in their last digits."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def logits_of(output: Returned) -> Tensor:
    """Return a module's output, or its `logits` where that is one of transformers' outputs."""
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def score_logits(logits: Tensor, targets: Tensor, *, calibrate: bool = True) -> Scores:
    """Score logits against classes.

    Args:
        logits: (samples, classes) or (samples, positions, classes), any float type.
        targets: (samples,) or (samples, positions) int64; those that are `IGNORED` do not count.
        calibrate: whether to score at every temperature too.

    The loss is the cross-entropy, in nats; sums are made in float64.

    """
    targets = targets.to(logits.device)
    if targets.ndim == 1:
        logits, targets = logits.unsqueeze(1), targets.unsqueeze(1)
    counted = targets != IGNORED
    chosen = targets.where(counted, 0).unsqueeze(-1)
    right = logits.gather(-1, chosen).squeeze(-1)

    def losses(temperatures: Tensor) -> Tensor:
        """Return (temperatures, samples) sums."""
        divisors = temperatures.to(logits).reshape(-1, 1, 1)
        each = (logits / divisors.unsqueeze(-1)).logsumexp(-1) - right / divisors
        return each.where(counted, 0).double().sum(-1)

    temperatures = torch.tensor(TEMPERATURES if calibrate else (1.0,))
    # As many at once as make a good piece of work: one for a large vocabulary, all for ten classes.
    step = max(1, PIECE // max(1, logits.numel()))
    tempered = torch.cat([losses(some) for some in torch.split(temperatures, step)]).cpu().numpy()
    wrong = (logits.argmax(-1) != targets) & counted
    return Scores(
        losses=tempered[TEMPERATURES.index(1.0) if calibrate else 0],
        errors=wrong.double().sum(1).cpu().numpy(),
        counts=counted.double().sum(1).cpu().numpy(),
        tempered=tempered if calibrate else None,
    )


def names_of(
    module: nn.Module, subject: Subject, renamed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Match the names in a module's state dict to a checkpoint's.

    Args:
        module: the network.
        subject: the checkpoint.
        renamed: from names of the module to those of the checkpoint, where they differ.

    Counters may be missing, and names whose memory the module shares with a name that is there.

    Raises:
        IncompatibleError: tensors of the module are missing or have another shape, or the
            checkpoint has tensors that the module does not use.

    """
    header, renamed = subject.binding.header, renamed or {}
    names, problems = {}, []
    state = module.state_dict()
    pointers = {x.data_ptr() for n, x in state.items() if renamed.get(n, n) in header and x.numel()}
    for name, tensor in state.items():
        stored = renamed.get(name, name)
        if stored in header:
            names[name] = stored
            if header[stored].shape != tuple(tensor.shape):
                problems.append(
                    f"{stored}: has the shape {list(header[stored].shape)}, the network "
                    f"{list(tensor.shape)}"
                )
        elif tensor.data_ptr() not in pointers and not name.endswith(COUNTER):
            problems.append(f"{stored}: is missing in the checkpoint")
    used = set(names.values()) | set(subject.binding.ignored) | set(subject.tied)
    problems += [
        f"{stored}: is not used by the network"
        for stored in header
        if stored not in used and not stored.endswith(COUNTER)
    ]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise IncompatibleError(
            f"{subject.path}: does not fit {type(module).__name__} "
            f"({len(problems)} tensors differ):\n{shown}{more}"
        )
    # Torch takes one tensor for parameters that the module ties.
    own = module.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    return {name: first.setdefault(id(own[name]), stored) for name, stored in names.items()}
