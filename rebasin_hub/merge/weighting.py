"""The weight of each model in each tensor: by parts of names, and along the layers.

The rules are those of mergekit's parameters: of a list, the first entry counts whose filter is a
part of the tensor's name; a list of numbers is a gradient, interpolated over the layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rebasin_hub.bind import Binding
from rebasin_hub.bind.names import Values, match_names
from rebasin_hub.errors import InputError
from rebasin_hub.spec import Line, Spec

__all__ = ["Rule", "Setting", "Weighting", "depths", "normalized"]

EVERYTHING = "*"
"""The filter that every name passes, as none does."""


@dataclass(frozen=True)
class Rule:
    """A number, or several along the layers, for tensors whose name holds `filter`."""

    values: tuple[float, ...]
    filter: str | None = None

    def fits(self, name: str) -> bool:
        """Tell whether the rule is for a tensor."""
        return self.filter in {None, EVERYTHING} or str(self.filter) in name

    def at(self, depth: float) -> float:
        """Return the value at a depth from 0, the first layer, to 1, the last one."""
        place = depth * (len(self.values) - 1)
        before = min(int(place), max(len(self.values) - 2, 0))
        after, share = min(before + 1, len(self.values) - 1), place - before
        return (1 - share) * self.values[before] + share * self.values[after]


Setting: TypeAlias = tuple[Rule, ...]
"""One parameter: of its rules, the first that fits counts."""


@dataclass(frozen=True)
class Weighting:
    """The weight of each model in each tensor.

    `models` has for each model its settings, its own before what it shares with others: the
    first one with a rule that fits counts. Where `normalize`, the weights of a tensor are divided
    by their sum.
    """

    models: tuple[tuple[Setting, ...], ...]
    normalize: bool = True

    @classmethod
    def constant(cls, weights: Sequence[float]) -> Weighting:
        """Return the same weights for every tensor."""
        return cls(tuple(((Rule((float(weight),)),),) for weight in weights))

    def at(self, name: str, depth: float) -> tuple[float, ...]:
        """Return the weight of each model in one tensor.

        Raises:
            InputError: a model has no rule that fits, or the weights cannot be normalized.

        """
        weights = tuple(
            _value(settings, name, depth, number) for number, settings in enumerate(self.models)
        )
        if self.normalize:
            return normalized(weights, len(weights), f" of {name}")
        if not all(math.isfinite(weight) for weight in weights):
            raise InputError(f"the weights of {name} must be finite, found {_shown(weights)}")
        return weights

    def resolved(self, binding: Binding) -> dict[str, tuple[float, ...]]:
        """Return the weights of every tensor of a checkpoint.

        Raises:
            InputError: as `at`; or a filter is a part of no tensor's name.

        """
        self._check_filters(binding)
        layers = depths(binding)
        return {name: self.at(name, layers[name]) for name in binding.header}

    def _check_filters(self, binding: Binding) -> None:
        rules = [rule for settings in self.models for setting in settings for rule in setting]
        for rule in rules:
            if not any(rule.fits(name) for name in binding.header):
                example = next(iter(binding.header), "none")
                raise InputError(
                    f"the filter '{rule.filter}' is part of no tensor's name (one is {example}); "
                    "correct it or remove it"
                )


def _value(settings: Iterable[Setting], name: str, depth: float, number: int) -> float:
    for setting in settings:
        for rule in setting:
            if rule.fits(name):
                return rule.at(depth)
    raise InputError(
        f"model {number + 1} has no weight for {name}; end its list with a value without filter"
    )


def normalized(weights: Sequence[float] | None, count: int, place: str = "") -> tuple[float, ...]:
    """Return one weight for each model, with sum one; equal ones by default.

    Args:
        weights: one for each model.
        count: how many models there are.
        place: whose weights they are, for messages.

    Raises:
        InputError: their number is not `count`, or they are negative, not finite or all zero.

    """
    if weights is None:
        return (1 / count,) * count
    if len(weights) != count:
        raise InputError(
            f"{count} models take {count} weights, and not {len(weights)}; give one for each"
        )
    total = math.fsum(weights) if all(map(math.isfinite, weights)) else math.nan
    if not (math.isfinite(total) and total > 0 and min(weights) >= 0):
        raise InputError(
            f"the weights {_shown(weights)}{place} must not be negative, must be finite and must "
            "have a positive sum"
        )
    return tuple(weight / total for weight in weights)


def _shown(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)


def depths(binding: Binding) -> Mapping[str, float]:
    """Return how deep each tensor lies in its stack of layers, from 0, the first, to 1, the last.

    A layer is what the first variable of the spec's line numbers: a transformer's layers, a
    ResNet's stages. Each stack counts by itself (`features`, `classifier`). Tensors outside of
    layers, embeddings and heads, are at 0, and a stack of one layer is at 1, as in mergekit.
    """
    found = match_names(binding.spec, binding.header).found
    layers = {
        name: layer
        for name, (line, values) in found.items()
        if (layer := _layer(binding.spec, line, values)) is not None
    }
    stacks: dict[str, list[int]] = {}
    for stack, number in sorted(set(layers.values())):
        stacks.setdefault(stack, []).append(number)
    places = {
        (stack, number): place / (len(numbers) - 1) if len(numbers) > 1 else 1.0
        for stack, numbers in stacks.items()
        for place, number in enumerate(numbers)
    }
    return {n: places[layers[n]] if n in layers else 0.0 for n in binding.header}


def _layer(spec: Spec, line: Line, values: Values) -> tuple[str, int] | None:
    """Return the stack that a tensor belongs to, and the number of its layer."""
    renumbered, before = spec.variables_renumbered(line), ""
    for part in line.template.parts:
        if isinstance(part, str):
            before += part
        elif part.name == line.template.text or isinstance(values.get(part.name), str):
            before += str(values.get(part.name, ""))
        elif part.name not in renumbered:
            return before, int(values[part.name])
    return None
