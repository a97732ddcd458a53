"""The models that proofs run: built small, randomized, in float64. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode

from rebasin_hub import zoo
from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tensors import Header, TensorInfo, dtype_of

__all__ = ["Inputs", "Module", "Subject", "build", "own"]

Inputs: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What a model is called with: one argument, positional ones, or keyword ones."""

LENGTH = 9
"""Tokens in a text."""

NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})


@dataclass(eq=False)
class Subject:
    """A model that a spec is proven on: its tensors, and what it computes.

    Tied tensors appear once, under their first name, as checkpoints store them.
    """

    name: str
    module: Module
    inputs: Inputs
    config: Mapping[str, Any]
    generator: Generator

    def __post_init__(self) -> None:
        self.module.double().eval()
        self._tensors: dict[str, Tensor] = {}
        seen: set[tuple[int, torch.Size]] = set()
        for name, tensor in self.module.state_dict().items():
            place = (tensor.data_ptr(), tensor.shape)
            if place not in seen or tensor.numel() == 0:
                self._tensors[name] = tensor
            seen.add(place)

    @property
    def header(self) -> Header:
        """Names, element types and shapes of the model's tensors."""
        return {
            name: TensorInfo(dtype_of(array), array.shape) for name, array in self.state().items()
        }

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the model's tensors."""
        return {name: t.detach().cpu().numpy().copy() for name, t in self._tensors.items()}

    def randomize(self, kept: Collection[str]) -> None:
        """Overwrite every floating-point tensor but those in `kept` with random values."""
        before = {name: self._tensors[name].clone() for name in kept}
        zoo.randomize(self.module, self.generator)
        for name, tensor in before.items():
            self._tensors[name].copy_(tensor)

    def first_run(self) -> dict[str, NDArray[np.float64]]:
        """Return what the model computes with its own tensors.

        Raises:
            InputError: it cannot run, or gives nothing that can be compared.

        """
        with _explained(f"{self.name} cannot run in float64"):
            outputs = self.run(self.state())
        if not outputs or not all(np.isfinite(o).all() and o.any() for o in outputs.values()):
            raise InputError(
                f"{self.name} with random weights gives no output, or one that is zero or not "
                "finite; what it computes cannot be compared"
            )
        return outputs

    def run(self, state: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float64]]:
        """Return every floating-point output of the model with other tensors."""
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(torch.from_numpy(state[name].copy()))
        with torch.no_grad(), _default_dtype(torch.float64), _Widened():  # type: ignore[no-untyped-call]
            match self.inputs:
                case Tensor():
                    result = self.module(self.inputs)
                case Mapping():
                    result = self.module(**self.inputs)
                case _:
                    result = self.module(*self.inputs)
            return {key: t.double().cpu().numpy() for key, t in _floats("output", result)}


def own(
    model: Callable[[], tuple[Module, Inputs]], config: Mapping[str, Any], seed: int
) -> Subject:
    """Take a model of the caller's."""
    module, given = model()
    inputs: Inputs
    match given:
        case Tensor():
            inputs = (_double(given),)
        case Mapping():
            inputs = {key: _double(value) for key, value in given.items()}
        case _:
            inputs = tuple(map(_double, given))
    return Subject(type(module).__name__, module, inputs, config, _generator(seed))


def build(example: Mapping[str, Any], seed: int) -> Subject:
    """Build one of a spec's examples.

    Raises:
        InputError: the example names no model, or its arguments do not fit.
        MissingExtraError: transformers is not installed.

    """
    if "transformers" in example:
        return _transformers(example["transformers"], example.get("config", {}), _generator(seed))
    return _zoo(example["zoo"], example.get("arguments", {}), _generator(seed))


def _zoo(name: str, arguments: Mapping[str, Any], generator: Generator) -> Subject:
    kinds = {n: value for n in zoo.__all__ if isinstance(value := getattr(zoo, n), type)}
    networks = [n for n, kind in kinds.items() if issubclass(kind, Module)]
    if name not in networks:
        raise InputError(f"example zoo: '{name}' is no network of the zoo{nearest(name, networks)}")
    values = {
        key: kinds.get(value, value) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    with _explained(f"example zoo: {name} cannot be built"):
        module = kinds[name](**values)
    first = next(iter(module.parameters()))
    spatial = (32, 32) if first.ndim > 2 else ()  # noqa: PLR2004 - a convolution
    inputs = torch.randn(2, first.shape[1], *spatial, dtype=torch.float64, generator=generator)
    return Subject(name, module, inputs, {}, generator)


def _transformers(name: str, config: Mapping[str, Any], generator: Generator) -> Subject:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the example {name}", "transformers") from error
    kind: Any = getattr(transformers, name, None)
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not is_model:
        known = [n for n in dir(transformers) if n.endswith(("Model", "LM")) or "For" in n]
        # `nearest` compares a bounded number; names that begin alike are the likely ones.
        known.sort(key=lambda n: not n.startswith(name[:3]))
        raise InputError(
            f"example transformers: '{name}' is no model class of it{nearest(name, known)}"
        )
    with _explained(f"example transformers: {name} cannot be built"):
        # Eager attention is the one that runs everywhere in float64.
        settings = kind.config_class(**config, use_cache=False, attn_implementation="eager")
        settings.architectures = [name]
        module = kind(settings)
    values = settings.to_dict()
    return Subject(name, module, _text(values, generator), values, generator)


def _text(config: Mapping[str, Any], generator: Generator) -> dict[str, Tensor]:
    """Return random tokens, as long as the model's positions allow."""
    positions = config.get("max_position_embeddings", config.get("n_positions", LENGTH))
    shape = (2, min(LENGTH, positions))
    inputs = {"input_ids": torch.randint(config["vocab_size"], shape, generator=generator)}
    if types := config.get("type_vocab_size"):
        inputs["token_type_ids"] = torch.randint(types, shape, generator=generator)
    return inputs


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a model says of arguments that it cannot take into one message."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {error}") from error


def _generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _floats(key: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point tensors of an output, each with its path."""
    match value:
        case Tensor():
            if value.is_floating_point():
                yield key, value
        case Mapping():
            for name, item in value.items():
                yield from _floats(f"{key}.{name}", item)
        case tuple() | list():
            for number, item in enumerate(value):
                yield from _floats(f"{key}.{number}", item)


def _double(value: object) -> object:
    return value.double() if isinstance(value, Tensor) and value.dtype in NARROW else value


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Widened(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes a model compute in float64 throughout.

    Norms and softmaxes of language models turn their input into float32 first, and its rounding
    would hide a small mistake. Here every operation that asks for a narrower type gets float64.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in NARROW:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)
