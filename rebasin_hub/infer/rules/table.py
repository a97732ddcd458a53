"""The table of rules, one for each operator."""

from __future__ import annotations

from collections.abc import Callable

from rebasin_hub.infer.step import Rule

__all__ = ["RULES", "operators", "rule"]

RULES: dict[str, Rule] = {}
"""By operator; every module of rules adds its own."""


def operators(prefix: str, names: str) -> list[str]:
    """Return the operators of a front end whose names stand in a text, apart by spaces."""
    return [f"{prefix}.{name}" for name in names.split()]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(function: Rule) -> Rule:
        for operator in names:
            assert operator not in RULES
            RULES[operator] = function
        return function

    return register
