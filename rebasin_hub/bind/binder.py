"""Bind a spec to a checkpoint: match every tensor, solve every size, name every permutation.

Only the header is needed (names, element types, shapes), so a checkpoint that does not fit is
refused before any weight is read, with every mismatch in one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind.axes import Atom, BoundTensor, build_axis
from rebasin_hub.bind.instances import (
    Instance,
    Instances,
    NamedTensor,
    columns,
    instance_key,
    order,
)
from rebasin_hub.bind.names import match_names
from rebasin_hub.bind.solving import Sizes
from rebasin_hub.errors import BindingError, Mismatch
from rebasin_hub.permute import Factor, SymmetryGroup
from rebasin_hub.spec import Permutation, Spec
from rebasin_hub.spec.pattern import Word
from rebasin_hub.tensors import Header

__all__ = ["Binding", "bind"]


@dataclass(frozen=True, eq=False)
class Binding:
    """A spec bound to the header of one checkpoint.

    `group` is the whole group of renumberings that keep the checkpoint's function; its factors are
    named like `embed`, `ff[3]`. `tensors` describes every tensor but those in `ignored`, which maps
    their names to the reason. `sizes` holds every solved size.
    """

    spec: Spec
    header: Header
    group: SymmetryGroup
    tensors: tuple[BoundTensor, ...]
    ignored: Mapping[str, str]
    sizes: Mapping[str, int]

    @cached_property
    def of_name(self) -> Mapping[str, BoundTensor]:
        """The bound tensor that a stored name belongs to."""
        return {str(name): tensor for tensor in self.tensors for name in tensor.names.flat}


def bind(
    spec: Spec,
    header: Header,
    *,
    config: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Binding:
    """Bind a spec to a checkpoint's header.

    Args:
        spec: a spec that `check_spec` finds nothing in.
        header: the checkpoint's tensors.
        config: the model's config.json, where the spec's sizes are looked up.
        sizes: sizes given by the user, for those that config.json does not tell.

    Raises:
        BindingError: with every mismatch.

    """
    matches = match_names(spec, header)
    instances = Instances(spec, header, matches)
    whole = not matches.mismatches
    # Where tensors are missing, so are the indices that others count from: no news.
    found = [*instances.mismatches, *instances.visible()] if whole else matches.mismatches
    solved = Sizes(spec, header, instances, config or {}, sizes or {})
    _stop_if_any(spec, [*found, *solved.mismatches(whole=whole)])
    group, problems = _group(spec, instances, solved)
    _stop_if_any(spec, problems)
    bound = tuple(_bound(spec, instances, solved, group, t) for t in instances.tensors)
    _stop_if_any(spec, [m for tensor in bound for m in _without_parent(tensor)])
    return Binding(spec, header, group, bound, matches.ignored, solved.solved)


def _stop_if_any(spec: Spec, mismatches: Iterable[Mismatch]) -> None:
    if distinct := dict.fromkeys(mismatches):
        raise BindingError(spec.name, list(distinct))


def _group(spec: Spec, instances: Instances, sizes: Sizes) -> tuple[SymmetryGroup, list[Mismatch]]:
    """Return the group of a checkpoint, and the factors that depend on one that is not there."""
    factors: dict[str, Factor] = {}
    orphans: list[Mismatch] = []
    for name in _parents_first(spec):
        permutation = spec.permutations[name]
        members = instances.members.get(name, ())
        for instance in sorted(members, key=lambda m: [order(v) for v in m]):
            if instances.is_end(permutation, instance):
                continue
            key, parent = instance_key(name, instance), _parent(spec, permutation, instance)
            if parent is not None and parent not in factors:
                orphans.append(Mismatch("index", key, f"depends on {parent}, which is not there"))
            else:
                size = _size(permutation, instance, sizes)
                factors[key] = Factor(size, _moving(factors, parent))
    return SymmetryGroup(factors), orphans


def _moving(factors: Mapping[str, Factor], parent: str | None) -> str | None:
    """Return the nearest ancestor with more than one index: the others tie nothing together.

    A convolution in one group is an ordinary one, whose two axes are renumbered by themselves.
    """
    while parent is not None and factors[parent].size == 1:
        parent = factors[parent].parent
    return parent


def _parents_first(spec: Spec) -> list[str]:
    def depth(name: str) -> int:
        parent = spec.permutations[name].within
        return 0 if parent is None else 1 + depth(parent)

    return sorted(spec.permutations, key=depth)


def _parent(spec: Spec, permutation: Permutation, instance: Instance) -> str | None:
    if permutation.within is None:
        return None
    parent = spec.permutations[permutation.within]
    values = dict(zip(permutation.indices, instance, strict=True))
    return instance_key(parent.name, tuple(values[i] for i in parent.indices))


def _size(permutation: Permutation, instance: Instance, sizes: Sizes) -> int:
    words = permutation.parts or (permutation.name,)
    return sum(sizes[instance_key(word, instance)] for word in words)


def _bound(
    spec: Spec, instances: Instances, sizes: Sizes, group: SymmetryGroup, tensor: NamedTensor
) -> BoundTensor:
    def atom_of(key: str, size: int) -> Atom:
        word, instance = instances.words.get(key, (Word(key), ()))
        if word.name in spec.part_of:
            return Atom(key, size, instance_key(spec.part_of[word.name], instance), True)
        return Atom(key, size, key if key in group.factors else None)

    variables = spec.variables_renumbered(tensor.line)
    keys = [instances.name_key(variable, tensor) for variable in variables]
    return BoundTensor(
        label=tensor.label,
        names=_array_of(tensor.names),
        name_atoms=tuple(Atom(key, sizes[key], key) for key in keys),
        axes=tuple(build_axis(axis, sizes.__getitem__, atom_of) for axis in tensor.pattern),
        statistic=tensor.line.statistic,
        parent_of={k: f.parent for k, f in group.factors.items() if f.parent is not None},
    )


def _without_parent(tensor: BoundTensor) -> list[Mismatch]:
    """Find a dependent permutation that stands where its parent does not."""
    try:
        _ = tensor.blocks
    except LookupError as problem:
        return [Mismatch("index", str(tensor.names.flat[0]), str(problem))]
    return []


def _array_of(names: Mapping[Instance, str]) -> NDArray[np.object_]:
    array = np.empty([len(column) for column in columns(names)], dtype=object)
    for position, key in enumerate(sorted(names, key=lambda key: [order(v) for v in key])):
        array.reshape(-1)[position] = names[key]
    return array
