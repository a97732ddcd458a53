"""What two programs of torch.export have in common that compute the same function of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.program import ProgramCheckpoint
from rebasin_hub.infer.outline import Outline

__all__ = ["program_outline"]

ASIDE = frozenset({"metadata", "requires_grad", "module_call_graph"})
"""Keys of what says where a node came from, and how weights are trained."""


def program_outline(checkpoint: ProgramCheckpoint) -> Outline:
    """Read the outline of a program.

    Raises:
        FormatError: it is damaged.

    """
    names = [name for name in checkpoint.members if name.startswith(f"{checkpoint.root}/models/")]
    try:
        documents = [json.loads(bytes(checkpoint.member(name))) for name in names]
        parts = tuple(_parts(*documents))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{checkpoint.path}: holds no program that can be read ({type(error).__name__})"
        ) from None
    return Outline((*parts, *_constants(checkpoint)))


def _parts(program: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    module = program["graph_module"]
    graph = module["graph"]
    yield "the versions of operators", _bare(program["opset_version"])
    for number, said in enumerate(module["signature"]["input_specs"]):
        yield f"input {number}", _bare(said)
    for number, said in enumerate(module["signature"]["output_specs"]):
        yield f"output {number}", _bare(said)
    for number, node in enumerate(graph["nodes"]):
        yield f"operator {number}, {node['target']},", _bare(node)
    for name, value in sorted(graph["tensor_values"].items()):
        yield f"the value '{name}'", _bare(value)
    yield "the bounds of sizes", _bare(program.get("range_constraints"))


def _constants(checkpoint: ProgramCheckpoint) -> Iterator[tuple[str, bytes]]:
    for name in sorted(checkpoint.members):
        place = name.partition("/")[2]
        if place.startswith("data/constants/"):
            digest = hashlib.sha256(checkpoint.member(name).data).digest()
            yield f"the constant '{place.rpartition('/')[2]}'", digest


def _bare(said: Any) -> bytes:  # noqa: ANN401 - any JSON
    return json.dumps(_stripped(said), sort_keys=True).encode()


def _stripped(said: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(said, dict):
        return {key: _stripped(value) for key, value in said.items() if key not in ASIDE}
    return [_stripped(value) for value in said] if isinstance(said, list) else said
