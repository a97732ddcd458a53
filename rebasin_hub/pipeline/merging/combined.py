"""Read a merged model tensor by tensor, as it would be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rebasin_hub.merge import all_finite, clashes, combine, no_mean, overflowed
from rebasin_hub.pipeline.merging.plan import Weights
from rebasin_hub.pipeline.merging.recipe import Recipe
from rebasin_hub.pipeline.models import Model
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["Combined"]


@dataclass(eq=False)
class Combined:
    """Reads the merged model, and keeps count of what the stored type cannot hold.

    readers: of each model, in the common numbering.
    weights: of each model in each tensor.
    models: as they are stored, the first one first.
    header: the types in which the merge is stored.
    """

    readers: Sequence[Read]
    weights: Weights
    models: Sequence[Model]
    header: Header
    recipe: Recipe
    overflows: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str) -> Array:
        """Return one merged tensor.

        Raises:
            NotFiniteError: it is infinite in one model, and not in the same way in another.

        """
        arrays = [read(name) for read in self.readers]
        dtype, weights = self.header[name].dtype, self.weights[name]
        merged = combine(arrays, weights, method=self.recipe.method, dtype=dtype, reuse=True)
        del arrays
        if DTYPES[dtype].floating and not all_finite(merged):  # hardly ever, so they are read again
            again = [read(name) for read in self.readers]
            if clashes([array for array, weight in zip(again, weights, strict=True) if weight]):
                raise no_mean(name)
            if count := overflowed(again, merged):
                self.overflows[name] = count
        return merged

    def cost(self, name: str) -> int:
        """Return the bytes in memory while a tensor is merged: those of all models, renumbered."""
        models = sum(model.header[name].nbytes for model in self.models)
        copies = 2 if self.recipe.align else 1
        same = self.header[name].dtype == self.models[0].header[name].dtype
        return copies * models + (0 if same else self.header[name].nbytes)

    def notes(self) -> tuple[str, ...]:
        """Say which tensors hold values that became infinite."""
        return tuple(
            f"{name}: {count:,} finite values are too large for {self.header[name].dtype} and "
            "became infinite; choose a larger --dtype"
            for name, count in sorted(self.overflows.items())
        )
