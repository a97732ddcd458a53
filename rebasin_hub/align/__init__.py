"""Find the renumbering that brings a model to a reference."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rebasin_hub.align.backend import select
from rebasin_hub.align.method import Found, Method, Options
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.result import Alignment, Progress, Report
from rebasin_hub.align.state import State
from rebasin_hub.align.trivial import keep, shuffle
from rebasin_hub.align.weight import match_weights
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import Read

__all__ = [
    "METHODS",
    "RESTARTS",
    "Alignment",
    "Found",
    "Method",
    "Options",
    "Progress",
    "Report",
    "State",
    "align",
]

METHODS: Mapping[str, Method] = MappingProxyType(
    {"weight": match_weights, "identity": keep, "random": shuffle}
)

RESTARTS = 3
"""Descents by default: from comparable features, from all features, and from the identity."""


def align(
    binding: Binding,
    read_reference: Read,
    read_model: Read,
    *,
    method: str = "weight",
    device: str = "cpu",
    seed: int = 0,
    restarts: int = RESTARTS,
    max_sweeps: int = 100,
    start: Element | None = None,
    progress: Report | None = None,
) -> Alignment:
    """Find an element p so that `rearranged(binding, p, read_model)` is close to the reference.

    It maximizes the sum of ⟨A, apply(p, B)⟩ over the tensors that count, which is to minimize the
    Frobenius distance: all floats but those that a spec calls statistics. Both models are held
    in memory, in float32, or float64 where they are stored so; sums are made in float64.

    Args:
        binding: the binding of both checkpoints, which have the same names and shapes.
        read_reference: reads a tensor of the reference A.
        read_model: reads a tensor of the model B.
        method: a key of `METHODS`.
        device: where to compute; see `backend.select`.
        seed: the same seed, device and inputs give the same result.
        restarts: descents of the method `weight`, of which the best counts.
        max_sweeps: sweeps of one descent after which it is stopped.
        start: an element to start from, before all others.
        progress: called after each sweep.

    The law: the objective is at least that of `start`, or of the identity without a `start`
    (the method `random` excepted).

    Raises:
        InputError: unknown method or device, or numbers out of range.
        MissingExtraError: the device needs torch, which is not installed.
        NotFiniteError: tensors that count hold NaN or infinity.
        PermutationError: `start` is no element of the binding's group.
        ProofError: the objective fell, which is a bug.

    Source: Git Re-Basin (arXiv:2209.04836), section 3.2, for the objective.

    """
    if method not in METHODS:
        raise InputError(f"method '{method}' is none of {', '.join(METHODS)}; choose one")
    for name, value, least in (("restarts", restarts, 1), ("max_sweeps", max_sweeps, 0)):
        if value < least:
            raise InputError(f"{name} is {value}, expected {least} or more")
    if start is not None:
        binding.group.check(start)
    problem, model = read_problem(binding, read_reference, read_model, select(device))
    state = State(problem, model)
    at_identity = state.objective
    found = METHODS[method](state, Options(seed, restarts, max_sweeps, start, progress))
    return Alignment(
        element=found.element,
        method=method,
        seed=seed,
        objective=found.history[-1],
        start_objective=at_identity,
        norm_a=problem.norm_a,
        norm_b=problem.norm_b,
        history=found.history,
        restarts=found.restarts,
        converged=found.converged,
    )
