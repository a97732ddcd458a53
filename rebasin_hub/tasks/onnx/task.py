"""The task of ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.arrays import Array, Samples, as_classes, check_range, draw, read_npz
from rebasin_hub.tasks.onnx.graph import Graph, Port, read_graph
from rebasin_hub.tasks.onnx.network import CUDA, ONNXNetwork, providers
from rebasin_hub.tasks.settings import read_settings
from rebasin_hub.tasks.task import Options, Subject, Task
from rebasin_hub.yamlfile import Strict

__all__ = ["OnnxTask"]

SHOWN = 10
COUNTER = "num_batches_tracked"


class Settings(Strict):
    """What a user may set."""

    graph: str
    """The .onnx file."""
    inputs: str | dict[str, str] | None = None
    """The name of the inputs' array in the .npz file; of several inputs, one name for each."""
    labels: str = "labels"
    """The name of the labels' array in the .npz file."""
    output: str | None = None
    """The graph's output that holds the logits; the first one by default."""


class OnnxTask(Task):
    """A graph that gives logits, measured on an .npz file of inputs and labels.

    Weights of a checkpoint take the place of the graph's initializers of the same names. An
    initializer that the checkpoint lacks keeps its value, and is told in a note; a tensor of the
    checkpoint that the graph lacks is an error, as the graph would not compute with it.

    Args:
        options: `data` is the .npz file, see `arrays.read_npz`; for `settings` see `Settings`. An
            input is named `inputs` there, or, of several, as in the graph.

    Raises:
        InputError: the graph, the data or a setting cannot be used.
        MissingExtraError: onnx or onnxruntime is not installed.

    """

    def __init__(self, options: Options) -> None:
        self.name = "onnx"
        self.given = read_settings("onnx", Settings, options.settings)
        if options.data is None:
            raise InputError("--task onnx needs data: give --data FILE.npz")
        self.batch = options.batch
        self.graph = read_graph(Path(self.given.graph))
        self.output = _output(self.graph, self.given.output)
        names = _array_names(self.graph, self.given.inputs)
        parts = read_npz(options.data, names, self.given.labels)
        self.data = {
            split: self._samples(split, *part, str(options.data), options)
            for split, part in parts.items()
        }
        self.splits = {split: samples.split for split, samples in self.data.items()}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else decides a result."""
        return {
            "graph": self.graph.path.name,
            "graph_digest": self.graph.digest,
            "output": self.output,
        }

    def _samples(
        self, split: str, inputs: dict[str, Array], targets: Array, source: str, options: Options
    ) -> Samples:
        labels = as_classes(targets, f"{source}: '{self.given.labels}' of the {split} split")
        ports = {port.name: port for port in self.graph.inputs}
        fitting = {
            name: _fitting(array, ports[name], f"{source}: the {split} split")
            for name, array in inputs.items()
        }
        return draw(split, fitting, labels, source, options)

    def network(self, subject: Subject, device: str) -> ONNXNetwork:
        """Put a checkpoint's weights into the graph; see `Task.network`."""
        names = _names(self.graph, subject)
        network = ONNXNetwork(
            self.graph,
            names,
            self.data,
            batch=self.batch,
            output=self.output,
            device=device,
            notes=(*_kept(self.graph, names), *_elsewhere(device)),
        )
        session = network.session(network.blank())
        for samples in self.data.values():
            first = next(samples.batches(1))
            logits = session.logits(first, network.batch)
            shape = (len(samples), *logits.shape[1:])
            check_range(samples.targets, shape, f"{samples.split.source}: {samples.split.name}")
            if _are_probabilities(logits):
                raise InputError(
                    f"{self.graph.path}: '{self.output}' seems to hold probabilities; expected "
                    "logits, from before the softmax; name them in the setting 'output'"
                )
        return network


def _are_probabilities(logits: Array) -> bool:
    """Tell probabilities from logits, which do not sum to one for a network of zeros."""
    several = logits.shape[-1] > 1
    return several and bool((logits >= 0).all()) and np.allclose(logits.sum(-1), 1, atol=1e-3)


def _output(graph: Graph, name: str | None) -> str:
    names = [port.name for port in graph.outputs]
    if name is not None and name not in names:
        raise InputError(
            f"{graph.path}: has no output '{name}'{nearest(name, names)}; it has {', '.join(names)}"
        )
    return name or names[0]


def _array_names(graph: Graph, given: str | dict[str, str] | None) -> dict[str, str]:
    """Return the array's name in the data of each input of the graph."""
    ports = [port.name for port in graph.inputs]
    several = len(ports) > 1
    if isinstance(given, str) and several:
        raise InputError(
            f"{graph.path}: has the inputs {', '.join(ports)}; the setting 'inputs' has to give "
            "the name of an array for each"
        )
    if isinstance(given, dict):
        for name in given:
            if name not in ports:
                raise InputError(
                    f"{graph.path}: has no input '{name}'{nearest(name, ports)}; it has "
                    f"{', '.join(ports)}"
                )
        return {name: given.get(name, name) for name in ports}
    return {name: name if several else given or "inputs" for name in ports}


def _fitting(array: Array, port: Port, place: str) -> Array:
    """Return inputs as a graph takes them: of its float or integer type, and of its shape."""
    expected = port.shape
    if expected is not None and (
        len(expected) != array.ndim
        or any(w not in {None, n} for w, n in zip(expected[1:], array.shape[1:], strict=True))
    ):
        shown = ", ".join("any" if n is None else str(n) for n in ("samples", *expected[1:]))
        raise InputError(
            f"{place}: '{port.name}' has the shape {list(array.shape)}, the graph takes ({shown})"
        )
    kinds = {array.dtype.kind, port.dtype.kind}
    if array.dtype != port.dtype and kinds not in ({"f"}, {"i"}, {"u"}, {"i", "u"}):
        raise InputError(
            f"{place}: '{port.name}' holds {array.dtype}, the graph takes {port.dtype}; store the "
            "inputs as the graph takes them"
        )
    return array.astype(port.dtype, copy=False)


def _names(graph: Graph, subject: Subject) -> dict[str, str]:
    """Match a graph's initializers to a checkpoint's tensors.

    Axes, shapes and settings are the graph's own.

    Raises:
        IncompatibleError: a tensor is not in the graph, or has another shape there.

    """
    header = subject.binding.header
    names, structural, problems = {}, set(), []
    for name, weight in graph.weights.items():
        stored = name if name in header else subject.tied.get(name, name)
        if stored not in header:
            continue
        if weight.structural:
            structural.add(stored)
        else:
            names[name] = stored
        if header[stored].shape != weight.shape:
            problems.append(
                f"{stored}: has the shape {list(header[stored].shape)}, the graph's initializer "
                f"{list(weight.shape)}"
            )
    used = {*names.values(), *structural, *subject.binding.ignored, *subject.tied}
    for stored, info in header.items():
        if stored not in used and not stored.endswith(COUNTER):
            problems.append(f"{stored}: is no initializer of the graph{_hint(graph, info.shape)}")
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise IncompatibleError(
            f"{subject.path}: does not fit {graph.path} ({len(problems)} tensors differ):\n"
            f"{shown}{more}\nThe graph has to be exported with its weights as they are: without "
            "constant folding, transposing and fusing, and with their names"
        )
    return names


def _hint(graph: Graph, shape: tuple[int, ...]) -> str:
    """Point at an initializer that may be a weight's transpose, as exporters write it."""
    for name, weight in graph.weights.items():
        if len(shape) > 1 and weight.shape == shape[::-1]:
            return f", which has '{name}' {list(weight.shape)}; that may be its transpose"
    return ""


def _kept(graph: Graph, names: Mapping[str, str]) -> tuple[str, ...]:
    kept = [
        name
        for name, weight in graph.weights.items()
        if name not in names and np.issubdtype(weight.dtype, np.floating)
    ]
    if not kept:
        return ()
    shown = ", ".join(kept[:SHOWN]) + (" …" if len(kept) > SHOWN else "")
    return (f"The graph's own values are used for what the checkpoint does not have: {shown}.",)


def _elsewhere(device: str) -> tuple[str, ...]:
    if device.startswith(("auto", "cpu")) or CUDA in dict(providers(device)):
        return ()
    return (f"The graph was run on the CPU: this onnxruntime cannot use '{device}'.",)
