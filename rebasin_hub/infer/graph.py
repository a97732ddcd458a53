"""A computation as inference sees it: values of known shapes, and the operators between them.

Front ends translate ONNX files and exported torch programs into this form; everything after them
knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Graph", "Node", "Shape", "Stored"]

Shape = tuple[int, ...]
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Node:
    """One operator.

    Args:
        op: its name, with the front end's prefix: `aten.addmm`, `onnx.Gemm`.
        name: what messages call it.
        inputs: names of values; None stands for an optional input that is not given.
        outputs: names of values; empty for an output that nobody reads.
        attributes: every argument that is no value, by name.
        pointwise: whether each element of the output depends on the elements of the inputs at the
            same place alone, after broadcasting.

    """

    op: str
    name: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    pointwise: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """The inputs that are given."""
        return tuple(name for name in self.inputs if name)


@dataclass(frozen=True)
class Stored:
    """One tensor of the checkpoint.

    Args:
        shape: its shape.
        value: the value of the graph that it is; None if the graph does not read it.
        floating: whether its elements are numbers that can be randomized.
        statistic: whether it is a running statistic, which weight matching leaves out.

    """

    shape: Shape
    value: str | None
    floating: bool = True
    statistic: bool = False


@dataclass(frozen=True)
class Graph:
    """A computation with static shapes.

    Args:
        nodes: the operators, every one after those that it reads from.
        shapes: the shape of every value.
        stored: the checkpoint's tensors by their stored names.
        constants: values that are part of the program, with their elements where they are known.
        inputs: values that the caller gives.
        outputs: values that the caller gets.
        source: what messages call it.

    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    stored: Mapping[str, Stored]
    constants: Mapping[str, Array | None]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: str = ""
