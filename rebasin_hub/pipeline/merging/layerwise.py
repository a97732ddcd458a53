"""Choose a weight for each layer of a merge on a task. What runs the network needs torch.

Adilova et al., "Layer-wise linear mode connectivity" (arXiv:2307.06966), show that layers differ in
how far they can be interpolated; Yang et al., "AdaMerging" (arXiv:2310.02575), learn a coefficient
for each. Here they are learned on the task's loss, and their mean is held: a network that has
learned its training data by heart would else be taken whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.errors import NotFiniteError
from rebasin_hub.merge import balanced
from rebasin_hub.pipeline.merging.measured import Meter, inspectable
from rebasin_hub.pipeline.models import Model
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.rearrange import Read
from rebasin_hub.tensors import DTYPES, Header

if TYPE_CHECKING:
    from torch import Tensor

    from rebasin_hub.align import Evidence
    from rebasin_hub.tasks.network import TorchNetwork

__all__ = ["Layered", "layers_of", "select_layers"]

STEPS = 60
"""Of Adam; 8,000 samples, which is enough for some dozens of numbers."""
RATE = 0.05
SLOWEST = 0.1
"""The share of the rate that is left at the end."""
BATCH = 128
SAMPLES = 1000
"""Fixed ones, on which weights are compared."""
EVERY = 10
"""Steps after which they are."""
STAGE = "selecting the layers' weights"
OPTION = "--select-layer-weights"


@dataclass(frozen=True)
class Layered:
    """The weight of the second model in each layer, with the least loss that was found.

    shares: from 0, the first model, to 1, the second one, by layer.
    tensors: of each layer, by the checkpoint's names.
    mean: of all weights' shares: what it was before, and is.
    loss_name: what was made small, and on which split.
    samples: that shares were compared on.
    history: the loss there with one share for all layers, and after every few steps.
    """

    shares: Mapping[str, float]
    tensors: Mapping[str, tuple[str, ...]]
    mean: float
    loss_name: str
    samples: int
    history: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def start(self) -> float:
        """The loss with one share for all layers."""
        return self.history[0]

    @property
    def loss(self) -> float:
        """The least loss."""
        return min(self.history)

    def weights(self, header: Header) -> dict[str, tuple[float, float]]:
        """Return the weight of each model in every tensor; those of no layer have the mean."""
        share = dict.fromkeys(header, self.mean)
        for layer, names in self.tensors.items():
            share |= dict.fromkeys(names, self.shares[layer])
        return {name: (1 - value, value) for name, value in share.items()}


def layers_of(network: TorchNetwork, header: Header) -> dict[str, tuple[str, ...]]:
    """Return the floating tensors of each layer, which is a module that has some of its own.

    Layers are named as the checkpoint names their tensors, without the last part; a tensor that
    several modules share is the first one's.
    """
    layers: dict[str, dict[str, None]] = {}
    first = {stored: inner for inner, stored in reversed(network.names.items())}
    for stored, inner in reversed(first.items()):
        if DTYPES[header[stored].dtype].floating:
            layers.setdefault(inner.rpartition(".")[0], {})[stored] = None
    labels = [next(iter(names))[: _cut(next(iter(names)))] for names in layers.values()]
    if "" in labels or len(set(labels)) < len(labels):  # then they do not tell layers apart
        labels = list(layers)
    return dict(zip(labels, map(tuple, layers.values()), strict=True))


def _cut(name: str) -> int:
    """Return where the last part of a tensor's name begins, with its dot or slash."""
    return max(name.rfind("."), name.rfind("/"), 0)


def select_layers(
    meter: Meter,
    model: Model,
    readers: Sequence[Read],
    *,
    mean: float = 0.5,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Layered:
    """Find one weight for each layer by gradient descent on the loss of the merge.

    Args:
        meter: the task; the loss is that on its `train` split, or on another where there is none.
        model: the first one, whose binding and header both share.
        readers: of both models, in one numbering.
        mean: of the second model's shares, counted by parameters: it stays as it is.
        seed: of the samples, and of their order.
        steps: of the descent; 60 by default.
        progress: told of the steps.

    Norms normalize by the statistics of each batch, as in training, which is what recomputed
    statistics come to. The shares are compared on fixed samples, and the best ones are returned:
    the loss there is no more than with one share for all.

    Raises:
        InputError: the network cannot be looked into, or there are no samples.
        NotFiniteError: the loss is infinite or not a number.

    """
    from rebasin_hub.evidence import evidence_of

    network = inspectable(meter, OPTION)
    evidence = evidence_of(network, meter.task, model.binding, seed=seed)
    line = _Line(evidence, readers, model.header, layers_of(network, model.header), seed)
    shares, history = _descended(line, mean, STEPS if steps is None else steps, progress)
    return Layered(
        shares=dict(zip(line.layers, shares, strict=True)),
        tensors=line.layers,
        mean=mean,
        loss_name=evidence.loss_name,
        samples=sum(map(len, line.fixed)),
        history=history,
        notes=evidence.notes,
    )


class _Line:
    """Two models, and the loss of what lies between them under a share for each layer."""

    def __init__(
        self,
        evidence: Evidence,
        readers: Sequence[Read],
        header: Header,
        layers: Mapping[str, tuple[str, ...]],
        seed: int,
    ) -> None:
        self.evidence = evidence
        self.a, self.b = (evidence.tensors(read) for read in readers)
        self.layers = layers
        self.sizes = [sum(header[name].size for name in names) for names in layers.values()]
        self.fixed = evidence.fixed(SAMPLES)
        self.batches = evidence.minibatches(BATCH, seed)
        self._number = {name: k for k, names in enumerate(layers.values()) for name in names}

    def at(self, shares: Tensor) -> dict[str, Tensor]:
        number = self._number
        return {
            name: a.lerp(self.b[name], shares[number[name]]) if name in number else a
            for name, a in self.a.items()
        }

    def loss(self, shares: Tensor) -> float:
        """Return the mean loss over the fixed samples."""
        import torch

        with torch.no_grad():
            point = self.at(shares)
            total = math.fsum(len(x) * float(self.evidence.loss(point, x)) for x in self.fixed)
        return total / sum(map(len, self.fixed))


def _descended(
    line: _Line, mean: float, steps: int, progress: Progress | None
) -> tuple[list[float], tuple[float, ...]]:
    """Return the best shares that were compared, and the loss of all that were."""
    import torch

    device = next(iter(line.a.values())).device
    best = np.full(len(line.sizes), mean)
    shares = torch.tensor(best, dtype=torch.float32, device=device, requires_grad=True)
    parts = torch.tensor(line.sizes, device=device) / sum(line.sizes)
    optimizer = torch.optim.Adam([shares], lr=RATE)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, SLOWEST, max(1, steps))
    history = [_finite(line.loss(shares), 0)]
    for step in range(1, steps + 1):
        if progress is not None:
            progress(f"{STAGE}: {min(history):.4g}", step - 1, steps)
        loss = line.evidence.loss(line.at(shares), next(line.batches))
        _finite(loss.item(), step)
        (gradient,) = torch.autograd.grad(loss, [shares])
        # Without what would move the mean: it is taken back afterwards, and would drown the rest.
        shares.grad = gradient - parts * gradient.sum()
        optimizer.step()
        slower.step()
        found = balanced(shares.detach().cpu().double().numpy(), line.sizes, mean)
        with torch.no_grad():
            shares.copy_(torch.from_numpy(found))
        if step % EVERY == 0 or step == steps:
            history.append(_finite(line.loss(shares), step))
            best = found if history[-1] < min(history[:-1]) else best
    return best.tolist(), tuple(history)


def _finite(value: float, step: int) -> float:
    if math.isfinite(value):
        return value
    raise NotFiniteError(
        f"{STAGE}: the loss is {value} at step {step}, expected a finite number; check the models, "
        f"or leave {OPTION} out"
    )
