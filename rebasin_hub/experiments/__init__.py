"""The experiments of the field, each one command: `rebasin-hub experiment run NAME`.

How to add one. Write a module beside this one that ends in an `Experiment` (see `width.py`, which
is the shortest), and name it in `catalogue.py`. An experiment is

- `scales`: for `quick` and `paper` the settings as plain JSON values: `task` (None where no data
  are needed), `seeds` (the number of networks per place), and whatever else it likes;
- `cells(settings)`: everything that has to be measured, a list of dicts of plain JSON values. A
  cell says *everything* that decides its figures (network, width, recipe, seeds, method, …): it
  is kept under the digest of these values, the data, the device and the versions;
- `measure(lab, cell)`: the figures of one cell, a flat dict of plain JSON values (None for what is
  not finite). `lab.train` gives checkpoints on disk, `lab.line` and `measure.py` go through the
  product's own pipeline. Stop it anywhere: what was trained is kept, and so is every cell;
- `columns`: how rows (a cell with its figures) are brought together in the table: those with
  `key=True` tell places apart, all others are means over the rows of a place, with their range;
- `findings(rows, table)`: sentences in which every number is computed from the figures;
- `picture`: what is drawn over what.

Raise `version` when `measure` begins to give other figures. Modules here are imported to list the
experiments: they import torch and the pipeline only inside functions.
"""

from rebasin_hub.experiments.catalogue import EXPERIMENTS, find_experiment
from rebasin_hub.experiments.experiment import Column, Experiment, Picture
from rebasin_hub.experiments.result import ExperimentPlan, ExperimentResult
from rebasin_hub.experiments.run import run_experiment

__all__ = [
    "EXPERIMENTS",
    "Column",
    "Experiment",
    "ExperimentPlan",
    "ExperimentResult",
    "Picture",
    "find_experiment",
    "run_experiment",
]
