"""How models are merged, apart from which."""

from __future__ import annotations

from dataclasses import dataclass

from rebasin_hub.align.many import STRATEGIES, SYNONYMS
from rebasin_hub.errors import InputError
from rebasin_hub.merge import Weighting, check, normalized
from rebasin_hub.pipeline.merging.measured import Measured
from rebasin_hub.spec.check import nearest
from rebasin_hub.tensors import DTYPES

__all__ = ["Recipe"]

REPAIRS = ("recompute", "repair")


@dataclass(frozen=True)
class Recipe:
    """How models are merged.

    method: a key of `merge.METHODS`.
    weights: one for each model, scaled to sum one, or the weights of each tensor; equal ones by
        default.
    dtype: the stored type of the result's floating-point tensors (a key of `DTYPES`), the first
        model's by default.
    align: whether the models are brought into one numbering before.
    strategy: how many of them are, a key of `align.many.STRATEGIES`.
    measured: the task that the weight is chosen on and the repair takes its data from.
    select_weight: take the weight with the least loss on the task (two models).
    select_layer_weights: take a weight for each layer, by gradient descent on the task's loss (two
        models); `weights`, one for each model, then say what they are on average.
    repair: `recompute` the running statistics of the merged network, or `repair` each channel's
        mean and deviation.
    """

    method: str = "linear"
    weights: tuple[float, ...] | Weighting | None = None
    dtype: str | None = None
    align: bool = True
    strategy: str = "reference"
    measured: Measured | None = None
    select_weight: bool = False
    select_layer_weights: bool = False
    repair: str | None = None

    def weighting(self, count: int) -> Weighting:
        """Return the weights of each tensor.

        Raises:
            InputError: something in the recipe is wrong, or does not fit this many models.

        """
        check(self.method, count)
        self._check_type()
        self._check_strategy()
        self._check_task(count)
        if isinstance(self.weights, Weighting):
            return self.weights
        return Weighting.constant(normalized(self.weights, count))

    def _check_type(self) -> None:
        if self.dtype is not None and not _storable(self.dtype):
            known = ", ".join(name for name in DTYPES if _storable(name))
            raise InputError(f"cannot merge into '{self.dtype}'; there are {known}")

    def _check_strategy(self) -> None:
        if self.strategy not in STRATEGIES:
            hint = nearest(self.strategy, STRATEGIES)
            known = ", ".join(name for name in STRATEGIES if name not in SYNONYMS)
            raise InputError(f"strategy '{self.strategy}' is none of {known}{hint}; choose one")

    def _check_task(self, count: int) -> None:
        if self.repair is not None and self.repair not in REPAIRS:
            raise InputError(f"repair '{self.repair}' is none of {', '.join(REPAIRS)}; choose one")
        if self.measured is None:
            if self.select_weight or self.select_layer_weights:
                raise InputError("weights are selected on a task; name one with --task")
            if self.repair is not None:
                raise InputError("a repair takes the data of a task; name one with --task")
            return
        if not self.select_weight and not self.select_layer_weights and self.repair is None:
            raise InputError(
                "a task is given, but nothing that needs it; add --select-weight, "
                "--select-layer-weights or --repair"
            )
        if self.select_weight or self.select_layer_weights:
            self._check_selection(count)
        if self.repair == "repair" and not _is_mean(self.weights):
            raise InputError(
                "REPAIR goes between the models, and the recipe's weights need not have the sum "
                "one; recompute statistics instead, or let them be normalized"
            )

    def _check_selection(self, count: int) -> None:
        if self.select_weight and self.select_layer_weights:
            raise InputError("select one weight or one for each layer, not both")
        if count != 2:  # noqa: PLR2004
            raise InputError(f"weights are selected between two models, {count} were given")
        if self.select_weight and self.weights is not None:
            raise InputError("the weight is selected, so give no weights")
        if self.select_layer_weights and not _is_mean(self.weights):
            raise InputError(
                "the weights of layers are selected between the models; let the recipe's weights "
                "be normalized"
            )
        if self.select_layer_weights and self.method != "linear":
            raise InputError(
                f"the weights of layers are selected on the straight line, not with {self.method}; "
                "use --method linear"
            )


def _is_mean(weights: tuple[float, ...] | Weighting | None) -> bool:
    return not isinstance(weights, Weighting) or weights.normalize


def _storable(dtype: str) -> bool:
    return dtype in DTYPES and DTYPES[dtype].floating and DTYPES[dtype].bits >= 16  # noqa: PLR2004
