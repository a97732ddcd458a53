"""The settings of a task, as a task file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from rebasin_hub.errors import InputError
from rebasin_hub.yamlfile import Strict
from rebasin_hub.yamlfile.explain import explain

__all__ = ["read_settings"]

S = TypeVar("S", bound=Strict)


def read_settings(task: str, model: type[S], given: Mapping[str, Any] | None) -> S:
    """Check a task's settings.

    Args:
        task: its name, for messages.
        model: what settings there are.
        given: as a task file has them.

    Raises:
        InputError: with everything that is wrong.

    """
    data = dict(given or {})
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = explain(error, data, model, f"--task {task}")
    lines = []
    for path, message in findings:
        told = message.replace("is no key of a", "is no setting of", 1)
        lines.append(f"--task {task}: setting '{'.'.join(map(str, path))}': {told}")
    raise InputError("\n".join(lines))
