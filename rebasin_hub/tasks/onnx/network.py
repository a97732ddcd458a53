"""Networks that are ONNX graphs, run by onnxruntime with the weights of any checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_hub.barrier import Scores, joined
from rebasin_hub.errors import InputError
from rebasin_hub.merge import all_finite, clashes, no_mean
from rebasin_hub.rearrange import Read
from rebasin_hub.tasks.arrays import Array, Samples
from rebasin_hub.tasks.onnx.graph import Graph, Weight, first_line
from rebasin_hub.tasks.scoring import score_arrays
from rebasin_hub.tasks.task import Advance, Network, State

__all__ = ["ONNXNetwork", "Session", "providers"]

CUDA = "CUDAExecutionProvider"
FATAL = 4
"""onnxruntime's level at which nothing is logged that is not raised as well."""


class ONNXNetwork(Network):
    """A graph that is run with the weights of any state.

    Args:
        graph: the model.
        names: from initializers of the graph to the checkpoint's tensors that replace them.
        data: the samples of each split.
        batch: samples of one run, where the graph does not fix them.
        output: the output that holds the logits.
        device: see `providers`.

    """

    def __init__(
        self,
        graph: Graph,
        names: Mapping[str, str],
        data: Mapping[str, Samples],
        *,
        batch: int,
        output: str,
        device: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.graph = graph
        self.names = dict(names)
        self.data = data
        self.batch = fixed_batch(graph) or batch
        self.output = output
        self.providers = providers(device)
        self.skeleton = graph.skeleton(self.names)
        self.device_name = "cuda" if CUDA in dict(self.providers) else "cpu"
        self.notes = notes

    def state(self, read: Read) -> dict[str, Array]:
        """Read the weights of a model; see `Network.state`."""
        return {name: _widened(read(name)) for name in dict.fromkeys(self.names.values())}

    def mix(self, states: Sequence[State], weights: Sequence[float]) -> dict[str, Array]:
        """Return the weighted sum of states; see `Network.mix`."""
        heaviest = max(range(len(weights)), key=weights.__getitem__)
        mixed = {}
        for name, first in states[0].items():
            base = states[heaviest][name]
            if first.dtype.kind != "f":
                mixed[name] = first
                continue
            # As a sum over differences: states that are equal give themselves back.
            total, others = base, []
            with np.errstate(invalid="ignore"):
                for number, (state, weight) in enumerate(zip(states, weights, strict=True)):
                    if weight and number != heaviest:
                        others.append(state[name])
                        total = total + first.dtype.type(weight) * (state[name] - base)
            if others and not all_finite(total):  # hardly ever: equal infinities differ by NaN
                if clashes([base, *others]):
                    raise no_mean(name)
                total = np.where(np.isinf(base), base, total)
            mixed[name] = total
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
        return [self._score([state], split, advance, calibrate) for state in states]

    def ensemble(
        self, states: Sequence[State], split: str, advance: Advance | None = None
    ) -> Scores:
        """Score the mean of the logits of several states; see `Network.ensemble`."""
        return self._score(states, split, advance, calibrate=False)

    def _score(
        self, states: Sequence[State], split: str, advance: Advance | None, calibrate: bool
    ) -> Scores:
        sessions = [self.session(state) for state in states]
        parts = []
        for part in self.data[split].batches(self.batch):
            logits = [session.logits(part, self.batch) for session in sessions]
            parts.append(score_arrays(np.mean(logits, axis=0), part.targets, calibrate=calibrate))
            if advance is not None:
                advance(len(part) * len(states))
        return joined(parts)

    def session(self, state: State) -> Session:
        """Return the graph with the weights of a state, ready to run.

        Raises:
            InputError: onnxruntime cannot run the graph.

        """
        weights = {
            name: np.ascontiguousarray(state[stored], dtype=self.graph.weights[name].dtype)
            for name, stored in self.names.items()
        }
        return Session(self, weights)

    def blank(self) -> dict[str, Array]:
        """Return a state of zeros, to see whether the graph runs at all."""
        weights: Iterator[tuple[str, Weight]] = (
            (stored, self.graph.weights[name]) for name, stored in self.names.items()
        )
        return {stored: np.zeros(weight.shape, weight.dtype) for stored, weight in weights}


class Session:
    """A graph with its weights, in onnxruntime."""

    def __init__(self, network: ONNXNetwork, weights: Mapping[str, Array]) -> None:
        import onnxruntime

        self.network = network
        # onnxruntime reads them where they lie.
        self.weights = weights
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.use_deterministic_compute = True
        options.add_external_initializers(
            list(weights),
            [
                onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
                    array, network.graph.weights[name].onnx_type
                )
                for name, array in weights.items()
            ],
        )
        try:
            self.session = onnxruntime.InferenceSession(
                network.skeleton, options, providers=network.providers
            )
        except Exception as problem:
            raise self._told(problem) from problem

    def logits(self, samples: Samples, batch: int) -> Array:
        """Return the logits of up to `batch` samples; the graph is given exactly so many."""
        missing = batch - len(samples) if fixed_batch(self.network.graph) else 0
        inputs = {name: _padded(array, missing) for name, array in samples.inputs.items()}
        try:
            (given,) = self.session.run([self.network.output], inputs)
        except Exception as problem:
            raise self._told(problem) from problem
        logits = np.asarray(given)
        if logits.ndim == 0 or len(logits) != len(samples) + missing:
            raise InputError(
                f"{self.network.graph.path}: '{self.network.output}' has the shape "
                f"{list(logits.shape)} for {len(samples) + missing} samples; expected logits for "
                "each sample; choose another one in the setting 'output'"
            )
        return logits[: len(samples)]

    def _told(self, problem: Exception) -> InputError:
        told = first_line(problem)
        return InputError(f"{self.network.graph.path}: onnxruntime cannot run it: {told}")


def fixed_batch(graph: Graph) -> int | None:
    """Return the number of samples that a graph's inputs fix, if they do."""
    return next((port.shape[0] for port in graph.inputs if port.shape and port.shape[0]), None)


def _padded(array: Array, missing: int) -> Array:
    """Repeat the last sample, as often as samples are missing."""
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _widened(array: Array) -> Array:
    """Compute in float32, or float64 where stored so."""
    if array.dtype.kind in "biu" or array.dtype == np.float64:
        return array
    return array.astype(np.float32)


def providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """Return where onnxruntime computes: on CUDA where the device says so and it is there.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    """
    import onnxruntime

    chosen: list[tuple[str, dict[str, Any]]] = [("CPUExecutionProvider", {})]
    if device.startswith(("auto", "cuda")) and CUDA in onnxruntime.get_available_providers():
        number = device.partition(":")[2] or "0"
        chosen.insert(0, (CUDA, {"device_id": number, "use_tf32": "0"}))
    return chosen
