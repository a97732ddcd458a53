"""What a torch program can be inferred from: a Python file, a Hugging Face directory, a `.pt2`."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.export import ExportedProgram
from torch.nn import Module
from torch.utils._pytree import tree_map

from rebasin_hub.errors import FormatError, InputError, MissingExtraError
from rebasin_hub.infer.dummies import dummy_inputs
from rebasin_hub.infer.exported import CHECKS, export_module, first_names, graph_of, quiet
from rebasin_hub.infer.graph import Graph
from rebasin_hub.infer.program_file import read_program
from rebasin_hub.prove import TOLERANCE, Builder
from rebasin_hub.prove.models import Inputs, Subject, own
from rebasin_hub.tensors import Header

__all__ = [
    "TorchRunner",
    "TorchSource",
    "from_builder",
    "from_directory",
    "from_model",
    "from_program",
]

MOST_PARAMETERS = 2_000_000_000
"""Of a model that is built in memory to be certified."""


@dataclass(eq=False)
class TorchRunner:
    """Runs a torch module in float64, with other tensors."""

    subject: Subject
    tolerance: float = TOLERANCE

    @property
    def header(self) -> Header:
        """Names, types and shapes of the tensors."""
        return self.subject.header

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the tensors."""
        return self.subject.state()

    def randomize(self, kept: Collection[str]) -> None:
        """Overwrite every floating-point tensor but some with random values."""
        self.subject.randomize(kept)

    def first_run(self) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with its own tensors."""
        return self.subject.first_run()

    def run(self, state: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with other tensors."""
        return self.subject.run(state)


@dataclass(frozen=True)
class TorchSource:
    """A graph, and what runs it."""

    graph: Graph
    runner: TorchRunner | None
    notes: tuple[str, ...] = field(default=())


def from_builder(model: Builder, name: str, *, seed: int) -> TorchSource:
    """Export what a user's function returns: a module and its inputs.

    Raises:
        InputError: it cannot be exported.

    """
    module, inputs = model()
    if not isinstance(module, Module):
        raise InputError(f"{name} gives no torch.nn.Module with its inputs")
    graph = _graph(module, inputs, name)
    return TorchSource(graph, TorchRunner(own(lambda: (module, inputs), {}, seed)))


def from_directory(path: Path, *, seed: int, certified: bool) -> TorchSource:
    """Export the class that a Hugging Face directory's config.json names; weights are not read.

    Without a certificate the model is traced without memory for its weights.

    Raises:
        InputError: there is no such class, it needs code of its own, or it cannot be exported.
        MissingExtraError: transformers is not installed.

    """
    kind, config = _class_of(path)
    generator = Generator().manual_seed(seed)
    try:
        with torch.device("meta"):
            module = kind(config)
        size = sum(p.numel() for p in module.parameters())
        if certified:
            _check_size(path, size)
            module = kind(config)
        inputs = dummy_inputs(module, config.to_dict(), generator)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: {kind.__name__} cannot be built: {type(error).__name__}: {error}"
        ) from error
    if not certified:
        inputs = {key: value.to("meta") for key, value in inputs.items()}
    return from_model(module, inputs, config.to_dict(), generator, certified=certified)


def from_model(
    module: Module,
    inputs: Mapping[str, Tensor],
    config: Mapping[str, Any],
    generator: Generator,
    *,
    certified: bool = True,
) -> TorchSource:
    """Export a model of transformers; of one with a head, the logits alone count.

    Args:
        module: the model; its forward method is replaced.
        inputs: by the names of its arguments.
        config: its settings.
        generator: of the weights that the certificate is tried with.
        certified: whether it will be run.

    Raises:
        InputError: it cannot be exported.

    """
    _keep_main_output(module)
    name = type(module).__name__
    graph = _graph(module, inputs, name)
    if not certified:
        return TorchSource(graph, None)
    return TorchSource(
        graph, TorchRunner(Subject(name, module, _widened(inputs), config, generator))
    )


def _check_size(path: Path, size: int) -> None:
    if size > MOST_PARAMETERS:
        raise InputError(
            f"{path}: {size:,} parameters are too many to run the model in float64; give "
            "--no-certificate, or infer from a smaller config.json of the same kind"
        )


def _keep_main_output(module: Module) -> None:
    """Let a model with a head give its logits alone.

    What it gives besides, such as an encoder's last states, is a by-product, and would keep the
    residual stream from being renumbered.
    """
    whole = module.forward

    @functools.wraps(whole)
    def forward(*args: object, **kwargs: object) -> object:
        found = whole(*args, **kwargs)
        logits = getattr(found, "logits", None)
        return found if logits is None else logits

    module.forward = forward


def _class_of(path: Path) -> tuple[Any, Any]:
    """Return the class that a config.json names, and its settings."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtraError("a Hugging Face directory", "transformers") from error
    file = path / "config.json"
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{file}: cannot be read as JSON: {error}") from error
    names = stated.get("architectures") if isinstance(stated, dict) else None
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(f"{file}: names no class under 'architectures', such as [BertForMaskedLM]")
    kind: Any = getattr(transformers, names[0], None)
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not is_model:
        raise InputError(f"{file}: '{names[0]}' is no model class of transformers")
    try:
        config = kind.config_class.from_dict(stated)
        config._attn_implementation = "eager"
        config._experts_implementation = "batched_mm"
        config.use_cache = False
    except Exception as error:
        raise InputError(f"{file}: {type(error).__name__}: {error}") from error
    return kind, config


def from_program(path: Path, *, seed: int, certified: bool = True) -> TorchSource:
    """Read a program that torch.export.save wrote.

    Args:
        path: the file.
        seed: of weights.
        certified: whether it will be run.

    Raises:
        FormatError: it is none, damaged, or holds what reading it would run.

    """
    content = read_program(path)
    try:
        with quiet():
            stored = torch.export.load(content)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise FormatError(
            f"{path}: cannot be read as an exported program: {type(error).__name__}: {reason}"
        ) from error
    args, kwargs = stored.example_inputs or ((), {})
    if certified and not args and not kwargs:
        raise InputError(f"{path}: holds no example inputs; export it anew with torch.export")
    try:
        with quiet():
            program = stored.run_decompositions()
    except Exception as error:
        raise InputError(
            f"{path}: cannot be brought to core operators: {type(error).__name__}"
        ) from error
    graph = graph_of(program, stored.state_dict, path.name)
    # The file has all names of a tied tensor, and so has the checkpoint that it is.
    first = first_names(stored.state_dict)
    graph = replace(graph, stored={name: graph.stored[first[name]] for name in first})
    if not certified:
        return TorchSource(graph, None)
    module = _module_of(stored)
    both = (_widened(tuple(args)), _widened(dict(kwargs)))
    subject = Subject(path.name, module, both, {}, Generator().manual_seed(seed))
    return TorchSource(graph, TorchRunner(subject))


def _graph(module: Module, inputs: Inputs, name: str) -> Graph:
    program = export_module(module, inputs, name)
    return graph_of(program, module.state_dict(keep_vars=True), name)


def _module_of(program: ExportedProgram) -> Module:
    """Return a module that takes positional and keyword arguments, and runs in any precision."""
    module = program.module(check_guards=False)
    for node in list(module.graph.nodes):
        if any(str(node.target).startswith(check) for check in CHECKS):
            module.graph.erase_node(node)
    module.recompile()
    # The hook that compares arguments with those of the trace knows one float type only.
    module._forward_pre_hooks.clear()
    inner = module.forward
    module.forward = lambda args, kwargs: inner(*args, **kwargs)
    # The graph was traced in evaluation mode, and a graph knows no other.
    module.eval = lambda: module  # type: ignore[method-assign]
    return module


def _widened(inputs: Any) -> Any:  # noqa: ANN401 - any nest of tensors
    """Turn floating-point inputs into float64."""

    def wide(value: object) -> object:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.double() if floating else value  # type: ignore[attr-defined]

    return tree_map(wide, inputs)
