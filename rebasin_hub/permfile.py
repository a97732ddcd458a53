"""Permutation files: an element of a model's group on disk, small and publishable.

A permutation file is a safetensors file with one int32 tensor for each factor of the group and
text metadata that says what the permutations belong to and where they come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from rebasin_hub.errors import FormatError, PermutationError
from rebasin_hub.formats import open_checkpoint, save_safetensors
from rebasin_hub.permute import Element, Factor, SymmetryGroup

__all__ = ["FORMAT", "PermutationFile"]

FORMAT = "rebasin-permutation"
VERSION = "1"


@dataclass(frozen=True, eq=False)
class PermutationFile:
    """Permutations, the group that they are an element of, and their provenance.

    Args:
        element: index arrays; applying them to the model `source` gives the model `result`.
        group: the group of the architecture at these sizes.
        spec: the spec's name; `spec_digest` tells whether it is still the same spec.
        source: plain digest of the model that is renumbered.
        result: plain digest of the renumbered model.
        method: how the permutations were found.
        details: further facts as text: reference's digest, objective, seed, restarts.

    """

    element: Element
    group: SymmetryGroup
    spec: str
    spec_digest: str
    source: str
    result: str
    method: str
    details: Mapping[str, str]

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write the file.

        Raises:
            OutputError: the file exists and `force` is not given, or cannot be written.

        """
        tensors = {name: self.element[name].astype(np.int32) for name in self.group.factors}
        parents = {name: factor.parent for name, factor in self.group.factors.items()}
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "spec": self.spec,
            "spec_digest": self.spec_digest,
            "source": self.source,
            "result": self.result,
            "method": self.method,
            "parents": json.dumps(parents),
            **{f"detail.{key}": value for key, value in self.details.items()},
        }
        save_safetensors(path, tensors, metadata, force=force)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a permutation file and check that it holds permutations.

        Raises:
            FormatError: the file is damaged or no permutation file.
            PermutationError: an array in it is no permutation.

        """
        with open_checkpoint(path) as checkpoint:
            metadata = checkpoint.metadata
            if metadata.get("format") != FORMAT:
                raise FormatError(
                    f"{path} is no permutation file; 'rebasin-hub align' and "
                    "'canonicalize --permutations' write them"
                )
            if metadata.get("version") != VERSION:
                raise FormatError(
                    f"{path} is a permutation file of version {metadata.get('version')!r:.40}, "
                    f"this program reads version {VERSION}; update rebasin-hub"
                )
            arrays = {name: checkpoint.read(name) for name in checkpoint.header}
        return cls._from_parts(path, arrays, metadata)

    @classmethod
    def _from_parts(
        cls, path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
    ) -> Self:
        if missing := sorted({*_FACTS, "parents"} - metadata.keys()):
            raise FormatError(f"{path}: its metadata lacks {', '.join(missing)}; align again")
        for name, array in arrays.items():
            if array.dtype != np.int32 or array.ndim == 0:
                raise PermutationError(
                    f"{path}: '{name}' holds {array.dtype} {list(array.shape)}, expected int32 "
                    "index arrays"
                )
        element = {name: array.astype(np.int64) for name, array in arrays.items()}
        try:
            group = _group(_parents(metadata["parents"]), element)
            group.check(element)
        except PermutationError as problem:
            raise PermutationError(f"{path}: {problem}") from problem
        details = {
            key.removeprefix("detail."): value
            for key, value in metadata.items()
            if key.startswith("detail.")
        }
        facts = {key: metadata[key] for key in _FACTS}
        return cls(element=element, group=group, details=details, **facts)

    def inverted(self) -> Self:
        """Return the permutations that lead back from the result to the source."""
        return replace(
            self,
            element=self.group.invert(self.element),
            source=self.result,
            result=self.source,
            method=f"inverse of {self.method}",
        )

    def after(self, earlier: PermutationFile) -> Self:
        """Return what applying `earlier` first and this one next amounts to.

        Seeds, objectives and references belong to one search, and are not carried over.

        Raises:
            PermutationError: they belong to different specs or sizes, or this one does not start
                from the model that `earlier` leads to.

        """
        self.check_group(earlier.group, "the earlier permutation file")
        if self.spec_digest != earlier.spec_digest:
            raise PermutationError(
                f"the permutation files belong to different specs: '{earlier.spec}' "
                f"({earlier.spec_digest[:12]}) and '{self.spec}' ({self.spec_digest[:12]})"
            )
        if self.source != earlier.result:
            raise PermutationError(
                f"the earlier permutation file leads to model {earlier.result[:12]}, "
                f"the later one starts from {self.source[:12]}; give files that follow one "
                "another, the one that is applied first before the other"
            )
        return replace(
            self,
            element=self.group.compose(self.element, earlier.element),
            source=earlier.source,
            method=f"{earlier.method}, then {self.method}",
            details={},
        )

    def check_group(self, group: SymmetryGroup, whose: str) -> None:
        """Refuse to be used with another group.

        Raises:
            PermutationError: with the first difference.

        """
        for name in dict.fromkeys([*self.group.factors, *group.factors]):
            mine, theirs = self.group.factors.get(name), group.factors.get(name)
            if mine != theirs:
                raise PermutationError(
                    f"the permutation file does not fit: '{name}' is {_shown(mine)} in the file "
                    f"and {_shown(theirs)} in {whose}"
                )


_FACTS = ("spec", "spec_digest", "source", "result", "method")


def _parents(text: str) -> dict[str, str | None]:
    """Read the parent of each permutation, parents before children."""
    try:
        parents = json.loads(text)
    except (ValueError, RecursionError):
        parents = None
    if not isinstance(parents, dict) or not all(
        isinstance(parent, str | None) for parent in parents.values()
    ):
        raise PermutationError("its metadata 'parents' is no table of permutations; align again")
    return parents


def _group(parents: Mapping[str, str | None], element: Element) -> SymmetryGroup:
    if parents.keys() != element.keys():
        name = sorted(parents.keys() ^ element.keys())[0]
        raise PermutationError(f"'{name}' stands in the metadata or among the arrays alone")
    return SymmetryGroup({n: Factor(element[n].shape[-1], p) for n, p in parents.items()})


def _shown(factor: Factor | None) -> str:
    if factor is None:
        return "absent"
    return f"of size {factor.size}" + (f" within {factor.parent}" if factor.parent else "")
