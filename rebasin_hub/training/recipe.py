"""How a classifier is trained, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rebasin_hub.errors import InputError

__all__ = ["Precision", "Recipe"]

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    `rate` is the learning rate: constant, or the peak of one cycle (Smith and Topin,
    arXiv:1708.07120) of which a quarter rises. SGD has Nesterov momentum 0.9 and weight decay 5e-4;
    Adam has PyTorch's defaults. Augmented images are shifted by up to four pixels and mirrored.

    `precision` is that of the products: bfloat16 makes convolutions four times as fast on CPUs that
    multiply it in hardware (AMX) and slower on others. Weights are float32 in any case. `auto` is
    bfloat16 on CUDA and float32 elsewhere.

    Raises:
        InputError: a number is out of range.

    """

    epochs: int
    batch: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = 1e-3
    one_cycle: bool = False
    augment: bool = False
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name, value, least in (("epochs", self.epochs, 0), ("batch", self.batch, 1)):
            if value < least:
                raise InputError(f"the recipe's {name} is {value}; expected {least} or more")
        if not self.rate > 0:
            raise InputError(f"the recipe's rate is {self.rate}; expected a number above 0")
        if self.optimizer not in {"adam", "sgd"}:
            raise InputError(f"the recipe's optimizer is '{self.optimizer}'; expected adam or sgd")
        if self.precision not in get_args(Precision):
            raise InputError(
                f"the recipe's precision is '{self.precision}'; "
                f"expected one of {', '.join(get_args(Precision))}"
            )

    def steps(self, images: int) -> int:
        """Return the steps of one epoch; its last batch may be smaller."""
        return -(-images // self.batch)
