"""What the `spec` commands report of specs and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.models import Choice, all_specs

__all__ = ["Detected", "ListedSpec", "detected", "listed"]


@dataclass(frozen=True)
class ListedSpec:
    """A shipped spec in one line."""

    name: str
    description: str
    permutations: tuple[str, ...]
    model_types: tuple[str, ...]


def listed() -> list[ListedSpec]:
    """Describe every shipped spec."""
    return [
        ListedSpec(
            spec.name,
            spec.description,
            tuple(
                f"{p.name}[{','.join(p.indices)}]" if p.indices else p.name
                for p in spec.permutations.values()
            ),
            tuple(spec.match.get("model_type", ())),
        )
        for spec in all_specs()
    ]


@dataclass(frozen=True)
class Detected:
    """The spec that fits a checkpoint, and what it finds there."""

    model: Path
    spec: str
    tensors: int
    ignored: Mapping[str, str]
    sizes: Mapping[str, int]
    permutations: Mapping[str, int]


def detected(path: Path, choice: Choice) -> Detected:
    """Find the spec of a checkpoint from its header.

    Raises:
        FormatError: the file is damaged or of an unknown kind.
        DetectionError: no spec fits, or more than one; says how near the nearest came.

    """
    with open_checkpoint(path) as checkpoint:
        binding = choice.bind(checkpoint)
        return Detected(
            model=path,
            spec=binding.spec.name,
            tensors=len(checkpoint.header),
            ignored=binding.ignored,
            sizes=binding.sizes,
            permutations={n: f.size for n, f in binding.group.factors.items()},
        )
