"""The table of experiments."""

from __future__ import annotations

from collections.abc import Mapping

from rebasin_hub.errors import InputError
from rebasin_hub.experiments.batchnorm import BATCHNORM
from rebasin_hub.experiments.calibration import CALIBRATION
from rebasin_hub.experiments.counterexample import COUNTEREXAMPLE
from rebasin_hub.experiments.depth import DEPTH
from rebasin_hub.experiments.difficulty import DIFFICULTY
from rebasin_hub.experiments.experiment import Experiment
from rebasin_hub.experiments.many import MANY
from rebasin_hub.experiments.methods import METHODS_COMPARED
from rebasin_hub.experiments.our_model import OUR_MODEL
from rebasin_hub.experiments.pruning import PRUNING
from rebasin_hub.experiments.simplex import SIMPLEX
from rebasin_hub.experiments.split import SPLIT
from rebasin_hub.experiments.training_time import TRAINING_TIME
from rebasin_hub.experiments.trajectory import TRAJECTORY
from rebasin_hub.experiments.width import WIDTH
from rebasin_hub.spec.check import nearest

__all__ = ["EXPERIMENTS", "find_experiment"]

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one
    for one in (
        WIDTH,
        DEPTH,
        DIFFICULTY,
        TRAINING_TIME,
        OUR_MODEL,
        CALIBRATION,
        COUNTEREXAMPLE,
        METHODS_COMPARED,
        BATCHNORM,
        SPLIT,
        MANY,
        SIMPLEX,
        TRAJECTORY,
        PRUNING,
    )
}


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        InputError: there is none.

    """
    if name not in EXPERIMENTS:
        raise InputError(
            f"there is no experiment '{name}'{nearest(name, EXPERIMENTS)}; there are "
            f"{', '.join(EXPERIMENTS)}"
        )
    return EXPERIMENTS[name]
