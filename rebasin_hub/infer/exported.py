"""From a torch program to a graph: `torch.export`, core ATen operators."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node as FxNode
from torch.nn import Module

from rebasin_hub.errors import InputError
from rebasin_hub.infer.graph import Array, Graph, Node, Shape, Stored
from rebasin_hub.prove.models import Inputs

__all__ = ["CHECKS", "export_module", "first_names", "graph_of", "quiet"]

CHECKS = frozenset(
    {"aten._assert_tensor_metadata", "aten._assert_async", "aten.sym_constrain_range"}
)
"""Operators that compute nothing."""

MOST_CONSTANT = 1 << 24
"""Elements of the largest constant that is looked at; larger ones count as fixed."""


def export_module(module: Module, inputs: Inputs, name: str) -> ExportedProgram:
    """Trace a module in evaluation mode on inputs, down to core ATen operators.

    Raises:
        InputError: it cannot be exported.

    """
    args, kwargs = _arguments(inputs)
    try:
        with torch.no_grad(), quiet():
            program = export(module.eval(), args, kwargs, strict=False)
            core: ExportedProgram = program.run_decompositions()
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{name} cannot be exported by torch.export: {type(error).__name__}: {reason}"
        ) from error
    return core


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter warns and logs of itself, such as the whole graph on an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


def _arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match inputs:
        case Tensor():
            return (inputs,), {}
        case Mapping():
            return (), dict(inputs)
        case _:
            return tuple(inputs), {}


def graph_of(program: ExportedProgram, state: Mapping[str, Tensor], source: str) -> Graph:
    """Translate an exported program.

    Args:
        program: with core ATen operators.
        state: the module's state dict; of tensors that are tied, the first name counts.
        source: what messages call it.

    """
    builder = _Builder(program, state)
    for node in program.graph.nodes:
        builder.add(node)
    return builder.graph(source)


@dataclass(eq=False)
class _Builder:
    program: ExportedProgram
    state: Mapping[str, Tensor]
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, Array | None] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    alias: dict[str, str] = field(default_factory=dict)
    """Values by the names of the FX nodes that give them."""
    value_of: dict[str, str] = field(default_factory=dict)
    """Values by stored names."""

    def __post_init__(self) -> None:
        self.first_name = first_names(self.state)
        self.specs = {
            spec.arg.name: spec
            for spec in self.program.graph_signature.input_specs
            if hasattr(spec.arg, "name")
        }

    def add(self, node: FxNode) -> None:
        if node.op == "placeholder":
            self.placeholder(node)
        elif node.op == "get_attr":
            self.constant(node, _attribute(self.program.graph_module, str(node.target)))
        elif node.op == "output":
            self.ends(node)
        elif node.target is operator.getitem:
            source, number = node.args[0], node.args[1]
            assert isinstance(source, FxNode)
            self.alias[node.name] = f"{self.alias.get(source.name, source.name)}.{number}"
        elif node.op == "call_function":
            self.call(node)

    def placeholder(self, node: FxNode) -> None:
        spec = self.specs.get(node.name)
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return
        self.shapes[node.name] = _shape(value)
        if spec is None or spec.kind == InputKind.USER_INPUT:
            self.inputs.append(node.name)
        elif spec.target in self.first_name:
            name = self.first_name[spec.target]
            self.alias[node.name] = self.value_of.setdefault(name, node.name)
        else:
            # A buffer that is not stored, or a tensor lifted out of the program.
            self.constant(node, _held(self.program, str(spec.target)))

    def constant(self, node: FxNode, tensor: object) -> None:
        if not isinstance(tensor, Tensor):
            return
        self.shapes[node.name] = tuple(tensor.shape)
        if tensor.numel() <= MOST_CONSTANT and tensor.device.type != "meta":
            self.constants[node.name] = _array(tensor.detach())
        else:
            self.constants[node.name] = None

    def ends(self, node: FxNode) -> None:
        specs = self.program.graph_signature.output_specs
        for value, spec in zip(_nodes(node.args[0], nested=True), specs, strict=False):
            if isinstance(value, FxNode) and spec.kind != OutputKind.TOKEN:
                name = self.alias.get(value.name, value.name)
                if name in self.shapes:
                    self.outputs.append(name)

    def call(self, node: FxNode) -> None:
        op = _name_of(node.target)
        if op in CHECKS:
            return
        inputs, attributes = self.arguments(node)
        outputs = tuple(self.result(node.name, node.meta.get("val")))
        tags = getattr(node.target, "tags", ())
        random = torch.Tag.nondeterministic_seeded in tags
        pointwise = torch.Tag.pointwise in tags and not random
        self.nodes.append(Node(op, node.name, inputs, outputs, attributes, pointwise))

    def result(self, name: str, value: object) -> Iterator[str]:
        """Yield the values that a node gives, and note their shapes."""
        match value:
            case Tensor():
                self.shapes[name] = _shape(value)
                yield name
            case tuple() | list():
                for number, item in enumerate(value):
                    yield from self.result(f"{name}.{number}", item) if item is not None else [""]
            case _:
                yield ""

    def arguments(self, node: FxNode) -> tuple[tuple[str | None, ...], dict[str, Any]]:
        """Return the tensors among a node's arguments, in order, and the others by name."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            found = [self.name(n) for n in _nodes([node.args, dict(node.kwargs)], nested=True)]
            return tuple(found), {}
        inputs: list[str | None] = []
        attributes: dict[str, Any] = {}
        for number, argument in enumerate(schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            given = (
                node.args[number]
                if number < len(node.args)
                else node.kwargs.get(argument.name, default)
            )
            if "Tensor" in str(argument.type):
                listed = given if isinstance(given, Sequence) else [given]
                inputs += [self.name(item) for item in listed]
                if not isinstance(given, FxNode | Sequence) and given is not None:
                    attributes[argument.name] = given
            else:
                attributes[argument.name] = _concrete(given)
        return tuple(inputs), attributes

    def name(self, item: object) -> str | None:
        if not isinstance(item, FxNode):
            return None
        name = self.alias.get(item.name, item.name)
        return name if name in self.shapes else None

    def graph(self, source: str) -> Graph:
        buffers = set(self.program.graph_signature.buffers)
        stored = {
            name: Stored(
                shape=tuple(tensor.shape),
                value=self.value_of.get(name),
                floating=tensor.is_floating_point(),
                statistic=name in buffers,
            )
            for name, tensor in self.state.items()
            if self.first_name[name] == name
        }
        return Graph(
            tuple(self.nodes),
            self.shapes,
            stored,
            self.constants,
            tuple(self.inputs),
            tuple(self.outputs),
            source,
        )


def first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for each name the first one of the same tensor."""
    first: dict[object, str] = {}
    names: dict[str, str] = {}
    for name, tensor in state.items():
        # Tensors without memory are known by being the same object.
        meta = tensor.device.type == "meta"
        place = (id(tensor) if meta else tensor.data_ptr(), tensor.shape)
        names[name] = name if tensor.numel() == 0 else first.setdefault(place, name)
    return names


def _name_of(target: object) -> str:
    overload = getattr(target, "overloadpacket", None)
    if overload is not None:
        return str(overload)
    return f"python.{getattr(target, '__name__', target)}"


def _shape(value: Tensor) -> Shape:
    return tuple(_whole(n) for n in value.shape)


def _whole(size: object) -> int:
    """Return a size, or what a symbolic one was while the program was traced.

    Raises:
        InputError: it was not known then, since it is computed from values.

    """
    found = size if isinstance(size, int) else size.node.hint  # type: ignore[attr-defined]
    if found is None:
        raise InputError("the program has shapes that are computed from values; none can be told")
    return int(found)


def _concrete(value: object) -> Any:  # noqa: ANN401 - any argument
    match value:
        case FxNode():
            return _concrete(value.meta.get("val"))
        case torch.SymInt():
            return value.node.hint
        case list() | tuple():
            return [_concrete(item) for item in value]
        case _:
            return value


def _nodes(value: object, *, nested: bool = False) -> Iterator[object]:
    match value:
        case list() | tuple():
            for item in value:
                yield from _nodes(item, nested=nested)
        case Mapping():
            for item in value.values():
                yield from _nodes(item, nested=nested)
        case _:
            yield value


def _held(program: ExportedProgram, name: str) -> object:
    return program.constants.get(name, program.state_dict.get(name))


def _attribute(module: Module, name: str) -> object:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _array(tensor: Tensor) -> Array:
    """Return a tensor's elements; types that NumPy lacks are widened."""
    plain = tensor.cpu()
    if plain.dtype in {torch.bfloat16, torch.float16}:
        plain = plain.float()
    result: Array = np.asarray(plain.numpy())
    return result
