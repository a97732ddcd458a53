"""Prove that a spec is right: renumber a randomized model by it and compare what it computes.

A model with random weights, gains, biases and running statistics runs in float64 before and after
random elements of each permutation. What it computes may change by rounding alone. Then every
place where a permutation stands is left out in turn, and now the change must be large: a check
that passes such a broken spec would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding, bind
from rebasin_hub.bind.axes import Atom, BoundTensor, Segment
from rebasin_hub.bind.names import match_names
from rebasin_hub.errors import InputError, MissingExtraError, ProofError
from rebasin_hub.permute import Element, SymmetryGroup
from rebasin_hub.rearrange import rearranged
from rebasin_hub.spec import Line, Spec

if TYPE_CHECKING:
    from rebasin_hub.prove.models import Inputs, Module, Subject

__all__ = [
    "NOTICED",
    "TOLERANCE",
    "Builder",
    "Control",
    "ExampleProof",
    "PermutationProof",
    "Progress",
    "Proof",
    "prove_spec",
]

TOLERANCE = 1e-9
"""The largest relative deviation that counts as rounding: float64 keeps 16 digits, and small
models with weights of order one lose two or three of them."""

FLOAT32 = 1e-5
"""A relative deviation below which rounding in float32 may be all that is wrong."""

NOTICED = 1e-6
"""The smallest relative deviation that counts as a change: a thousand times `TOLERANCE`."""

Builder: TypeAlias = "Callable[[], tuple[Module, Inputs]]"
"""Makes a model and its inputs: a tensor, a tuple of positional or a mapping of keyword ones."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the stage, how many of its steps are done, and how many it has."""

State: TypeAlias = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Control:
    """One place where a permutation was left out on purpose.

    `axis` counts from 0, -1 is the name; `part` counts the parts side by side on that axis;
    `deviation` is relative. Not every place can be noticed: a key's bias adds the same to all
    scores of a query, which the softmax removes.
    """

    tensor: str
    axis: int
    part: int
    deviation: float

    @property
    def noticed(self) -> bool:
        """Whether leaving the permutation out here changed what the model computes."""
        return self.deviation > NOTICED


@dataclass(frozen=True)
class PermutationProof:
    """What random elements of one declaration did, everything else being left alone.

    `moved` is the largest number of indices that one of its permutations has (1 moves nothing);
    `deviation` is the largest relative deviation of an output.
    """

    name: str
    moved: int
    deviation: float
    controls: tuple[Control, ...]

    @property
    def preserved(self) -> bool:
        """Whether the model computed the same."""
        return self.deviation <= TOLERANCE

    @property
    def exercised(self) -> bool:
        """Whether the check could have failed: leaving a place out was noticed."""
        return any(control.noticed for control in self.controls)


@dataclass(frozen=True)
class ExampleProof:
    """What happened with one model; `deviation` belongs to random elements of the whole group."""

    model: str
    deviation: float
    permutations: tuple[PermutationProof, ...]

    @property
    def preserved(self) -> bool:
        """Whether the model computed the same under every permutation, alone and together."""
        return self.deviation <= TOLERANCE and all(p.preserved for p in self.permutations)


@dataclass(frozen=True)
class Proof:
    """Whether a spec keeps what its models compute.

    `untested` names the declarations that no example exercises, `unused` the tensor lines that no
    example has, `unnoticed` the places whose omission no example notices.
    """

    spec: str
    examples: tuple[ExampleProof, ...]
    untested: tuple[str, ...]
    unused: tuple[str, ...]
    unnoticed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every example kept its function, and every declaration was exercised by one."""
        return not self.untested and all(example.preserved for example in self.examples)

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each reason why the proof does not hold."""
        return tuple(_failures(self))

    def as_json(self) -> dict[str, Any]:
        """Return the proof as plain dictionaries, lists, strings and numbers."""
        return {**asdict(self), "holds": self.holds, "failures": list(self.failures)}

    def check(self) -> None:
        """Refuse a proof that does not hold.

        Raises:
            ProofError: with every reason.

        """
        if not self.holds:
            reasons = "\n".join(f"  {reason}" for reason in self.failures)
            raise ProofError(f"spec '{self.spec}' is not proven:\n{reasons}")


def prove_spec(
    spec: Spec,
    *,
    model: Builder | None = None,
    config: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    trials: int = 2,
    progress: Progress | None = None,
) -> Proof:
    """Run a spec's examples, or a model of the caller's, before and after renumbering.

    The law: for every element p of the group, the model with the weights `apply(p, w)` computes
    what it computes with w, up to rounding; and for every place where a permutation stands,
    leaving it out there changes what the model computes.

    Args:
        spec: a spec that `check_spec` finds nothing in.
        model: builds the model to use instead of the spec's examples; its weights are overwritten.
        config: for `model`, the config.json where the spec's sizes are looked up.
        sizes: sizes that go before the config.
        seed: of weights, inputs and permutations.
        trials: random elements tried for each declaration, and for the whole group.
        progress: told of each example and of its declarations.

    Raises:
        InputError: there is no example and no model, or an example cannot be built.
        BindingError: the spec does not fit a model.
        MissingExtraError: torch or transformers is not installed.

    """
    report = progress or (lambda _stage, _done, _total: None)
    proofs: list[ExampleProof] = []
    used: set[str] = set()
    for subject in _subjects(spec, model, config, seed):
        binding = bind(spec, subject.header, config=subject.config, sizes=sizes)
        subject.randomize(kept=binding.ignored)
        prover = _Prover(subject, binding, np.random.default_rng(seed), trials)
        proofs.append(prover.prove(report))
        used |= {str(line.template) for line in prover.lines.values()}
    return _summary(spec, proofs, used)


def _subjects(
    spec: Spec, model: Builder | None, config: Mapping[str, Any] | None, seed: int
) -> Iterator[Subject]:
    try:
        from rebasin_hub.prove import models
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("proving a spec", "torch") from error
    if model is not None:
        yield models.own(model, config or {}, seed)
        return
    if not spec.examples:
        raise InputError(
            f"spec '{spec.name}' has no example to run; give it an `example:`, or give a model"
        )
    for example in spec.examples:
        yield models.build(example, seed)


def _summary(spec: Spec, proofs: list[ExampleProof], used: set[str]) -> Proof:
    done = [p for proof in proofs for p in proof.permutations]
    exercised = {p.name for p in done if p.exercised}
    places: dict[tuple[str, str, int, int], bool] = {}
    for p in done:
        for c in p.controls:
            place = (p.name, c.tensor, c.axis, c.part)
            places[place] = places.get(place, False) or c.noticed
    return Proof(
        spec.name,
        tuple(proofs),
        untested=tuple(name for name in spec.permutations if name not in exercised),
        unused=tuple(
            dict.fromkeys(str(x.template) for x in spec.lines if str(x.template) not in used)
        ),
        unnoticed=tuple(
            f"{name} on {tensor} axis {axis} part {part}"
            for (name, tensor, axis, part), noticed in places.items()
            if not noticed
        ),
    )


def _failures(proof: Proof) -> Iterator[str]:
    for example in proof.examples:
        for p in example.permutations:
            if not p.preserved:
                yield f"{example.model}: renumbering '{p.name}' {_changes(p.deviation)}"
        if not example.preserved and all(p.preserved for p in example.permutations):
            yield (
                f"{example.model}: each permutation alone keeps what the model computes, but "
                f"renumbering by all of them {_changes(example.deviation)}"
            )
    for name in proof.untested:
        yield (
            f"'{name}' is exercised by no example: leaving it out anywhere went unnoticed; give an "
            "example that has it, with more than one index"
        )


def _changes(deviation: float) -> str:
    hint = "; does the model compute in float32?" if deviation < FLOAT32 else ""
    return (
        f"changes what the model computes by {deviation:.1e} relative (rounding in float64 stays "
        f"below {TOLERANCE:.0e}{hint})"
    )


@dataclass(eq=False)
class _Prover:
    """One model, bound; compares what it computes before and after."""

    subject: Subject
    binding: Binding
    rng: np.random.Generator
    trials: int

    def __post_init__(self) -> None:
        found = match_names(self.binding.spec, self.binding.header).found
        self.lines: dict[str, Line] = {name: line for name, (line, _) in found.items()}
        self.state = self.subject.state()
        self.outputs = self.subject.first_run()

    def prove(self, report: Progress) -> ExampleProof:
        group = self.binding.group
        proofs = []
        names = list(dict.fromkeys(map(_declaration, group.factors)))
        for done, name in enumerate(names):
            report(self.subject.name, done, len(names))
            factors = [key for key in group.factors if _declaration(key) == name]
            proofs.append(self._declaration_proof(name, factors))
        together = max(
            self._deviation(self.binding, group.moving(group.factors, self.rng))
            for _ in range(self.trials)
        )
        report(self.subject.name, len(names), len(names))
        return ExampleProof(self.subject.name, together, tuple(proofs))

    def _declaration_proof(self, name: str, factors: list[str]) -> PermutationProof:
        group = self.binding.group
        elements = [group.moving(factors, self.rng) for _ in range(self.trials)]
        return PermutationProof(
            name,
            moved=max(group.factors[key].size for key in factors),
            deviation=max(self._deviation(self.binding, element) for element in elements),
            controls=tuple(self._controls(name, elements)),
        )

    def _controls(self, name: str, elements: Sequence[Element]) -> Iterator[Control]:
        """Leave a permutation out on one axis of one line's tensors after another."""
        for line, axis, part in self._places(name):
            broken = replace(
                self.binding,
                tensors=tuple(
                    _left_out(tensor, self.binding.group, name, axis, part)
                    if self._line(tensor) is line
                    else tensor
                    for tensor in self.binding.tensors
                ),
            )
            deviation = 0.0
            for element in elements:
                deviation = max(deviation, self._deviation(broken, element))
                if deviation > NOTICED:
                    break
            yield Control(str(line.template), axis, part, deviation)

    def _places(self, name: str) -> list[tuple[Line, int, int]]:
        """Return each line, axis and part of an axis where a permutation stands."""
        places: dict[tuple[int, int, int], tuple[Line, int, int]] = {}
        for tensor in self.binding.tensors:
            line = self._line(tensor)
            for axis, part, atom in _atoms(tensor):
                if atom.permutation is not None and _declaration(atom.permutation) == name:
                    places.setdefault((id(line), axis, part), (line, axis, part))
        return list(places.values())

    def _line(self, tensor: BoundTensor) -> Line:
        return self.lines[str(tensor.names.flat[0])]

    def _deviation(self, binding: Binding, element: Element) -> float:
        """Return the largest deviation of an output, relative to the output's largest value."""
        read = rearranged(binding, element, self.state.__getitem__)
        outputs = self.subject.run({name: read(name) for name in self.state})
        return max(
            float(np.max(np.abs(outputs[key] - before)) / np.max(np.abs(before)))
            for key, before in self.outputs.items()
        )


def _declaration(factor: str) -> str:
    """Return the declaration that a factor such as `ff[3]` is an instance of."""
    return factor.partition("[")[0]


def _atoms(tensor: BoundTensor) -> Iterator[tuple[int, int, Atom]]:
    """Yield each atom of a tensor with its axis (-1: the name) and its part of the axis."""
    for atom in tensor.name_atoms:
        yield -1, 0, atom
    for axis, bound in enumerate(tensor.axes):
        for part, segment in enumerate(bound.segments):
            for atom in segment.atoms:
                yield axis, part, atom


def _left_out(
    tensor: BoundTensor, group: SymmetryGroup, name: str, axis: int, part: int
) -> BoundTensor:
    """Return a tensor on which a declaration does not act on one part of one axis.

    What depends on the declaration is taken off the whole tensor, since without its parent it has
    no meaning there; elements that move the declaration alone leave it as it is anyway.
    """

    def kept(atom: Atom, here: tuple[int, int]) -> Atom:
        lineage = group.lineages.get(atom.permutation or "", ())
        own = bool(lineage) and _declaration(lineage[-1]) == name
        below = any(_declaration(ancestor) == name for ancestor in lineage[:-1])
        return replace(atom, permutation=None) if below or (own and here == (axis, part)) else atom

    return replace(
        tensor,
        name_atoms=tuple(kept(atom, (-1, 0)) for atom in tensor.name_atoms),
        axes=tuple(
            replace(
                bound,
                segments=tuple(
                    Segment(tuple(kept(a, (number, i)) for a in segment.atoms), segment.positions)
                    for i, segment in enumerate(bound.segments)
                ),
            )
            for number, bound in enumerate(tensor.axes)
        ),
    )
