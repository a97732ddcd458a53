"""The sizes of a spec's words in one checkpoint: solved, checked on every axis, explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rebasin_hub.bind.instances import Instances, NamedTensor, columns, instance_key
from rebasin_hub.errors import Mismatch
from rebasin_hub.spec import Spec
from rebasin_hub.spec.check import nearest
from rebasin_hub.spec.pattern import words
from rebasin_hub.spec.sizes import Equation, config_size, expression, polynomial, solve
from rebasin_hub.tensors import Header

__all__ = ["Sizes"]


class Sizes:
    """The size of every concrete word of a checkpoint.

    Sizes that the user gives and those from config.json go before the shapes; all must agree.

    Args:
        spec: where sizes come from.
        header: the shapes.
        instances: what stands on every axis.
        config: the model's config.json.
        given: sizes given by the user.

    """

    def __init__(
        self,
        spec: Spec,
        header: Header,
        instances: Instances,
        config: Mapping[str, Any],
        given: Mapping[str, int],
    ) -> None:
        self.spec = spec
        self.instances = instances
        self.config = config
        self.given = given
        # The parts of a permutation are equal in size, unless sizes are declared for them.
        self.alias = {
            key: instance_key(f"{spec.part_of[word.name]}.part", instance)
            for key, (word, instance) in instances.words.items()
            if word.name in spec.part_of and word.name not in spec.sizes
        }
        self.equations = [
            Equation(tensor.first, number, axis, header[tensor.first].shape[number])
            for tensor in instances.tensors
            for number, axis in enumerate(tensor.pattern)
        ]
        solution = solve(self.equations, self._known(), self.alias)
        self.solved, self.shown_by = solution.sizes, solution.shown_by

    def __getitem__(self, key: str) -> int:
        """Return the size of a concrete word."""
        return self.solved[self.alias.get(key, key)]

    def mismatches(self, *, whole: bool) -> Iterator[Mismatch]:
        """Yield what contradicts the sizes.

        Where the checkpoint is not `whole`, because tensors are missing or unknown, nothing is said
        of sizes that do not follow.
        """
        for word in self.given:
            if word not in self._words():
                hint = nearest(word, self._words())
                yield Mismatch("config", "", f"the spec has no size '{word}'{hint}")
        yield from self._against_config()
        for equation in self.equations:
            total = polynomial(equation.expression, self.solved, self.alias)
            if total.keys() <= {()}:
                if total.get((), 0) != equation.length:
                    yield self._contradiction(equation)
            elif whole:
                yield self._unsolved(equation)
        for tensor in self.instances.tensors:
            yield from self._too_few_names(tensor)

    def _against_config(self) -> Iterator[Mismatch]:
        """Find given sizes that config.json contradicts: such a group may change the function."""
        for word, size in self.given.items():
            source = self.spec.sizes.get(word)
            if not isinstance(source, str):
                continue
            said = config_size(source, self.config, defaults=False)
            if said is not None and said != size:
                message = (
                    f"'{word}' was given as {size}, but is {said} ({source} in config.json); "
                    "leave it out"
                )
                yield Mismatch("config", "", message)

    def _known(self) -> dict[str, int]:
        known: dict[str, int] = {}
        for key, (word, _) in self.instances.words.items():
            size = self._source(word.name)
            if size is not None:
                known[key] = size
        for tensor in self.instances.tensors:
            for variable, column in zip(
                self.spec.variables_renumbered(tensor.line), columns(tensor.names), strict=True
            ):
                known.setdefault(self.instances.name_key(variable, tensor), len(column))
        return known

    def _source(self, word: str) -> int | None:
        """Return the size that a word has without the shapes."""
        if word in self.given:
            return self.given[word]
        source = self.spec.sizes.get(word)
        return config_size(source, self.config) if isinstance(source, str) else source

    def _words(self) -> set[str]:
        return {word.name for word, _ in self.instances.words.values()} | set(self.spec.sizes)

    def _contradiction(self, equation: Equation) -> Mismatch:
        return Mismatch(
            "size",
            equation.tensor,
            f"axis {equation.axis} is {equation.length}, expected {self._expression(equation)}",
        )

    def _unsolved(self, equation: Equation) -> Mismatch:
        """Explain an axis whose sizes do not follow: a size must be given, or nothing divides."""
        named = {
            self.instances.words[w.name][0].name
            for w in words(equation.expression)
            if w.name in self.instances.words and self.alias.get(w.name, w.name) not in self.solved
        }
        wanted = sorted(name for name in named if self.spec.sizes.get(name) is not None)
        if wanted:
            sources = " and ".join(f"'{w}' ({self.spec.sizes[w]} in config.json)" for w in wanted)
            options = " ".join(f"--size {w}=N" for w in wanted)
            message = f"the shapes do not tell {sources}; give config.json or {options}"
            return Mismatch("unsolved", "", message)
        return Mismatch(
            "size",
            equation.tensor,
            f"axis {equation.axis} is {equation.length}, which does not solve "
            f"{self._expression(equation)}",
        )

    def _expression(self, equation: Equation) -> str:
        """Show an axis' expression, its numbers, and where they come from."""
        shown = expression(equation.expression, self.solved, self.alias)
        origins = dict.fromkeys(
            o for w in words(equation.expression) if (o := self._origin(w.name))
        )
        return f"{shown} ({'; '.join(origins)})" if origins else shown

    def _origin(self, key: str) -> str:
        """Say where the size of a concrete word comes from."""
        key = self.alias.get(key, key)
        name = self.instances.words[key][0].name if key in self.instances.words else key
        if name in self.given:
            return f"{name} = {self.given[name]} was given"
        if isinstance(source := self.spec.sizes.get(name), str) and self._source(name) is not None:
            return f"{name} = {self._source(name)} is {source} in config.json"
        if key in self.shown_by:
            return f"{key} = {self.solved[key]} as in {self.shown_by[key]}"
        return ""

    def _too_few_names(self, tensor: NamedTensor) -> Iterator[Mismatch]:
        for variable, column in zip(
            self.spec.variables_renumbered(tensor.line), columns(tensor.names), strict=True
        ):
            wanted = self.solved[self.instances.name_key(variable, tensor)]
            if len(column) != wanted:
                message = f"has {len(column)} siblings {{{variable}}}, expected {wanted}"
                yield Mismatch("missing", tensor.first, message)
