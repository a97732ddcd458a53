"""What a merge says of itself: the recipe as it was carried out, with digests of both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rebasin_hub import __version__
from rebasin_hub.align import Alignment
from rebasin_hub.align.many import Joint
from rebasin_hub.digest import digest_of, tensor_digest
from rebasin_hub.formats.attachment import Attachment
from rebasin_hub.hub.reference import name_of
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.merging.plan import MergePlan
from rebasin_hub.pipeline.merging.recipe import Recipe
from rebasin_hub.pipeline.models import Model
from rebasin_hub.rearrange import Array
from rebasin_hub.tensors import Header

__all__ = ["FILE", "KEY", "Digesting", "Facts", "provenance"]

KEY = "rebasin"
"""Of a safetensors file's metadata."""
FILE = "rebasin-merge.json"
"""In a directory."""
UNKNOWN = "0" * 64
"""Stands for a digest that is not known before everything is written."""


class Digesting:
    """Reads a model, and keeps the digest of each tensor that was read, if it is to have one."""

    def __init__(self, model: Model, *, digests: bool = True) -> None:
        self.model = model
        self.draft = UNKNOWN if digests else None
        """Stands for `digest` before everything has been read."""
        self._tensors: dict[str, str] = {}

    def __call__(self, name: str) -> Array:
        """Read one tensor."""
        array = self.model.read(name)
        if self.draft is not None and name not in self._tensors:
            self._tensors[name] = tensor_digest(array, self.model.header[name].dtype)
        return array

    @property
    def digest(self) -> str | None:
        """The plain digest of the model; tensors that nobody needed are read now."""
        if self.draft is None:
            return None
        header, tied = self.model.header, self.model.checkpoint.tied
        left = [name for name in header if name not in self._tensors and name not in tied]
        for name in left:
            self(name)
        return digest_of(header, self._tensors, tied)


@dataclass(frozen=True)
class Facts:
    """What is known before the result is written."""

    plan: MergePlan
    recipe: Recipe
    matching: Matching
    joint: Joint | None
    found: Mapping[str, Any]


def provenance(facts: Facts, models: Sequence[Digesting], header: Header) -> Attachment:
    """Return the provenance of a merge; digests are filled in when all tensors are written."""
    tied = models[0].model.checkpoint.tied

    def final(written: Mapping[str, str]) -> str:
        skipped = {n for n, to in tied.items() if written.get(n) in {None, written.get(to)}}
        result = digest_of(header, written, skipped)
        return _text(facts, models, [model.digest for model in models], result)

    draft = _text(facts, models, [model.draft for model in models], UNKNOWN)
    return Attachment(KEY, FILE, draft, final)


def _text(
    facts: Facts, models: Sequence[Digesting], digests: Sequence[str | None], result: str
) -> str:
    """Return the provenance as JSON, one line for each key."""
    plan, recipe, first = facts.plan, facts.recipe, models[0].model
    content = {
        "rebasin": 1,
        "kind": "merge",
        "tool": f"rebasin-hub {__version__}",
        "method": plan.method,
        "dtype": recipe.dtype,
        "models": [
            {"name": name_of(model.model.checkpoint.path), "digest": digest}
            for model, digest in zip(models, digests, strict=True)
        ],
        "weights": _weights(plan),
        "spec": plan.spec,
        "spec_digest": first.spec_digest,
        "alignment": _alignment(facts.joint, facts.matching),
        **facts.found,
        "result": result,
    }
    lines = [f" {json.dumps(key)}: {_json(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _weights(plan: MergePlan) -> list[dict[str, object]]:
    """Return the weights of each model, and, where tensors differ, which ones have them."""
    alone = len(plan.groups) == 1
    return [
        {"weights": list(group.weights), "tensors": "all" if alone else list(group.tensors)}
        for group in plan.groups
    ]


def _alignment(joint: Joint | None, matching: Matching) -> dict[str, object] | None:
    if joint is None:
        return None
    return {
        "strategy": joint.strategy,
        "method": matching.method,
        "seed": matching.seed,
        "converged": joint.converged,
        "distances": list(joint.distances),
        "steps": [
            {
                "models": [number + 1 for number in step.models],
                "references": [number + 1 for number in step.references],
                **_found(step.alignment),
            }
            for step in joint.steps
        ],
    }


def _found(alignment: Alignment) -> dict[str, object]:
    return {
        "restarts": len(alignment.restarts),
        "sweeps": alignment.sweeps,
        "converged": alignment.converged,
        "start_cosine": alignment.start_cosine,
        "cosine": alignment.cosine,
    }
