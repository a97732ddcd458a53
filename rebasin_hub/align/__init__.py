"""Find the renumbering that brings a model to a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from rebasin_hub.align.activation import Activation, match_activations
from rebasin_hub.align.anneal import AnnealSettings, anneal
from rebasin_hub.align.backend import Backend, narrowed, select
from rebasin_hub.align.blend import Blend, match_blend
from rebasin_hub.align.evidence import Evidence, Features
from rebasin_hub.align.frank_wolfe import FrankWolfeSettings, frank_wolfe
from rebasin_hub.align.functional import Functional, match_functional
from rebasin_hub.align.greedy import greedy
from rebasin_hub.align.method import Found, Method, Models, NoSettings, Options, Search
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.result import Alignment, Goal, Progress, Report
from rebasin_hub.align.sinkhorn import SinkhornSettings, sinkhorn
from rebasin_hub.align.state import State
from rebasin_hub.align.straight_through import StraightThroughSettings, straight_through
from rebasin_hub.align.streamed import streamed
from rebasin_hub.align.trivial import keep, shuffle
from rebasin_hub.align.watch import Watch
from rebasin_hub.align.weight import match_weights
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import Read

__all__ = [
    "METHODS",
    "RESTARTS",
    "Alignment",
    "Evidence",
    "Features",
    "Found",
    "Goal",
    "Method",
    "Options",
    "Progress",
    "Report",
    "Search",
    "State",
    "Watch",
    "align",
    "check_streams",
    "parse_method",
]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "weight": Method(
            match_weights,
            "coordinate descent on the distance of the weights",
            source="Git Re-Basin (arXiv:2209.04836), section 3.2",
            streams=True,
        ),
        "straight-through": Method(
            straight_through,
            "gradient descent on the loss at the midpoint, projected by matching weights",
            StraightThroughSettings,
            needs="evidence",
            source="Git Re-Basin (arXiv:2209.04836), section 3.3",
        ),
        "sinkhorn": Method(
            sinkhorn,
            "gradient descent on soft permutations, for the weights or the loss between",
            SinkhornSettings,
            "either",
            source="Sinkhorn re-basin (arXiv:2212.12042)",
        ),
        "anneal": Method(
            anneal,
            "simulated annealing by swaps, on the loss at the midpoint",
            AnnealSettings,
            needs="evidence",
            source="Entezari et al. (arXiv:2110.06296)",
        ),
        "greedy": Method(
            greedy, "coordinate descent that pairs the most similar units first", streams=True
        ),
        "frank-wolfe": Method(
            frank_wolfe,
            "all permutations together over soft numberings, then coordinate descent",
            FrankWolfeSettings,
            source="C²M³ (arXiv:2405.17897), section 3, for two models",
        ),
        "activation": Method(
            match_activations,
            "units that react to the same inputs",
            Activation,
            "evidence",
            "Git Re-Basin (arXiv:2209.04836), section 3.1",
        ),
        "blend": Method(
            match_blend,
            "coordinate descent on weights and activations together",
            Blend,
            "evidence",
            "Git Re-Basin (arXiv:2209.04836), sections 3.1 and 3.2",
        ),
        "functional": Method(
            match_functional,
            "units whose exchange changes the layer's outputs least",
            Functional,
            "evidence",
            "Multi-Task Zipping (He et al., NeurIPS 2018), section 3",
        ),
        "identity": Method(keep, "no renumbering, or the one to start from", streams=True),
        "random": Method(
            shuffle, "a random renumbering: what a match has to be better than", streams=True
        ),
    }
)
"""All methods by their names."""

RESTARTS = 3
"""Descents by default: from comparable features, from all features, and from the identity."""


def parse_method(text: str) -> tuple[str, object]:
    """Read a method's name and settings, as in `straight-through:rate=0.01,steps=200`.

    Raises:
        InputError: an unknown method or setting, or a value of another type.

    """
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise InputError(f"method '{name}' is none of {', '.join(METHODS)}; choose one")
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"method '{text}': '{part}' is no setting; write KEY=VALUE")
        given[key.strip()] = value.strip()
    return name, METHODS[name].with_settings(name, given)


def align(
    binding: Binding,
    read_reference: Read,
    read_model: Read,
    *,
    method: str | Search | Element = "weight",
    device: str = "cpu",
    seed: int = 0,
    restarts: int = RESTARTS,
    max_sweeps: int = 100,
    start: Element | None = None,
    evidence: Evidence | None = None,
    watch: Watch | None = None,
    memory: int | None = None,
) -> Alignment:
    """Find an element p so that `rearranged(binding, p, read_model)` is close to the reference.

    Most methods maximize the sum of ⟨A, apply(p, B)⟩ over the tensors that count, which is to
    minimize the Frobenius distance: all floats but those that a spec calls statistics. Others have
    a goal of their own, which the result names, and look at what the network computes (`evidence`).
    Both models are held in memory, in float32, or float64 where they are stored so, unless `memory`
    says how much may be; sums are made in float64.

    Args:
        binding: the binding of both checkpoints, which have the same names and shapes.
        read_reference: reads a tensor of the reference A.
        read_model: reads a tensor of the model B.
        method: a key of `METHODS`, with settings if need be (`weight`, `anneal:steps=1000`); a
            function of the same signature; or a ready element.
        device: where to compute; see `backend.select`.
        seed: the same seed, device and inputs give the same result, unless there is a time limit.
        restarts: searches from different starts, of which the best counts.
        max_sweeps: sweeps of one descent after which it is stopped.
        start: an element to start from, before all others.
        evidence: the network with data, for the methods that need it.
        watch: has the time limit, and is told of progress and of the best element so far.
        memory: hold so many bytes of weights and of matrices at a time, as they are stored, and
            read them again when they are needed; both models whole by default. The result is the
            same, bit for bit. What one update works on is held in any case.

    The law: the objective of `weight`, or the goal of a method that has one, is no worse than at
    `start`, or than at the identity without a `start` (the method `random` excepted).

    Raises:
        InputError: unknown method or device, numbers out of range, no evidence where there has to
            be some, or `memory` for a method that holds both models.
        MissingExtraError: the device or the method needs a package that is not installed.
        NotFiniteError: tensors that count hold NaN or infinity, or a loss became so.
        PermutationError: `start` or `method` is no element of the binding's group.
        ProofError: the objective fell, which is a bug.

    Source: Git Re-Basin (arXiv:2209.04836), section 3.2, for the objective.

    """
    name, search, settings = _resolved(method, evidence)
    for what, value, least in (("restarts", restarts, 1), ("max_sweeps", max_sweeps, 0)):
        if value < least:
            raise InputError(f"{what} is {value}, expected {least} or more")
    if isinstance(method, Mapping):
        start = method
    if start is not None:
        binding.group.check(start)
    if memory is not None and not _streams(search):
        raise _holds_both(name)
    options = Options(
        seed=seed,
        restarts=restarts,
        max_sweeps=max_sweeps,
        start=start,
        settings=settings,
        models=Models(binding, read_reference, read_model),
        evidence=evidence,
        watch=watch or Watch(),
    )
    backend = select(device)
    if _streams(search):  # others compute with blocks themselves
        backend = narrowed(backend)
    with _state(binding, read_reference, read_model, backend, memory) as state:
        return _searched(state, name, search, options)


def _searched(state: State, name: str, search: Search, options: Options) -> Alignment:
    at_identity, problem, evidence = state.objective, state.problem, options.evidence
    found = search(state, options)
    if not problem.group.equal(state.element, found.element):
        state.jump(found.element)
    return Alignment(
        element=found.element,
        method=name,
        seed=options.seed,
        objective=state.objective,
        start_objective=at_identity,
        norm_a=problem.norm_a,
        norm_b=problem.norm_b,
        history=found.history,
        restarts=found.restarts,
        converged=found.converged,
        goal=found.goal,
        notes=tuple(dict.fromkeys((*found.notes, *(evidence.notes if evidence else ())))),
    )


@contextmanager
def _state(
    binding: Binding, read_reference: Read, read_model: Read, backend: Backend, memory: int | None
) -> Iterator[State]:
    """Yield the two models as a search sees them, at the identity."""
    if memory is None:
        yield State(*read_problem(binding, read_reference, read_model, backend))
    else:
        with streamed(binding, read_reference, read_model, backend, memory) as state:
            yield state


def check_streams(method: str) -> None:
    """Refuse a method that holds both models in memory.

    Args:
        method: see `parse_method`.

    Raises:
        InputError: naming those that do not, or the method is unknown.

    """
    name, _ = parse_method(method)
    if not METHODS[name].streams:
        raise _holds_both(name)


def _streams(search: Search) -> bool:
    return any(known.search is search and known.streams for known in METHODS.values())


def _holds_both(name: str) -> InputError:
    able = ", ".join(name for name, known in METHODS.items() if known.streams)
    return InputError(
        f"method '{name.partition(':')[0]}' holds both models in memory, which cannot be bounded; "
        f"leave out --max-memory, or take one of {able}"
    )


def _resolved(
    method: str | Search | Element, evidence: Evidence | None
) -> tuple[str, Search, object]:
    """Return a method's name, its search and its settings."""
    if isinstance(method, Mapping):
        return "given", keep, NoSettings()
    if not isinstance(method, str):
        return getattr(method, "__name__", "own"), method, NoSettings()
    name, settings = parse_method(method)
    if METHODS[name].needs == "evidence" and evidence is None:
        raise InputError(
            f"method '{name}' looks at what the network computes, and there is no data; name a "
            "task, as in --task mnist --data DIR"
        )
    return method, METHODS[name].search, settings
