"""Runs of an ONNX model that show what every value in it is like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from rebasin_hub.infer.graph import Array, Shape
from rebasin_hub.infer.onnx_flat import SHAPES, known_values
from rebasin_hub.infer.onnx_graph import weights_of
from rebasin_hub.infer.onnx_session import Apart, open_session
from rebasin_hub.infer.onnx_turns import NO_TENSOR, SHAPE
from rebasin_hub.tensors import Header

__all__ = ["Place", "Probe", "Seen"]


@dataclass(frozen=True)
class Place:
    """Where a model comes from: its file, its tensors, and the values that its message lacks."""

    path: Path
    header: Header
    apart: Apart


@dataclass(frozen=True)
class Seen:
    """What a run showed: values, and of those that are as large as weights the shapes alone."""

    values: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a value, as far as it was seen."""
        array = self.values.get(name)
        return self.shapes.get(name) if array is None else array.shape


class Probe:
    """A session that shows every value outside the subgraphs of a form of a model.

    Raises:
        InputError: onnxruntime cannot run it.

    """

    def __init__(self, place: Place, model: ModelProto) -> None:
        probe = ModelProto()
        probe.CopyFrom(model)
        graph = probe.graph
        known = {o.name for o in graph.output}
        large = _large(place, model)
        for node in model.graph.node:
            for name in node.output:
                if name and name not in known:
                    known.add(name)
                    if name in large:
                        graph.node.append(helper.make_node("Shape", [name], [SHAPE + name]))
                    shown = SHAPE + name if name in large else name
                    graph.output.append(ValueInfoProto(name=shown))
        self._shapes = {SHAPE + name: name for name in large}
        self._session = open_session(place.path, probe, place.apart)
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> Seen:
        """Return what is seen with some inputs; onnxruntime may raise anything."""
        seen = Seen()
        for name, value in zip(
            self._names, self._session.run(self._names, dict(feeds)), strict=True
        ):
            if name in self._shapes:
                seen.shapes[self._shapes[name]] = tuple(int(n) for n in value)
            elif isinstance(value, np.ndarray):
                seen.values[name] = value
        return seen


def _large(place: Place, model: ModelProto) -> frozenset[str]:
    """Return the values that are made of large weights and of nothing that is an input."""
    if not place.apart:
        return frozenset()
    nodes = model.graph.node
    made = known_values(nodes, {tensor.name for tensor in model.graph.initializer})
    large = {n for n in weights_of(model.graph, place.header) if n in place.apart}
    weights = frozenset(large)
    for node in nodes:
        plain = node.op_type not in SHAPES | NO_TENSOR
        if plain and any(name in large for name in node.input):
            large.update(name for name in node.output if name in made)
    return frozenset(large - weights)
