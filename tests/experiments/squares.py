"""An experiment of a module's level, which workers can import; its cells share a network."""

from __future__ import annotations

import os
from dataclasses import replace

from tiny import tiny

from rebasin_hub.errors import NotFiniteError
from rebasin_hub.training import stored


def measure(lab, cell):
    def train(folder):
        (lab.folder / f"trained-{cell['x']}-{os.getpid()}").touch()
        return {"loss": 0.25}

    lab.tell("measuring")
    kept = stored(f"net-{cell['x']}", {}, train, lab.folder / "networks")
    (lab.folder / f"measured-{cell['x']}-{cell['seed']}-{os.getpid()}").touch()
    return {"y": cell["x"] ** 2 + cell["seed"], "z": None, "loss": kept.log["loss"]}


def diverge(lab, cell):
    if cell["x"] == 3:
        raise NotFiniteError("training diverged")
    return measure(lab, cell)


def cells(settings):
    return [{"x": x, "seed": seed} for x in settings["xs"] for seed in range(settings["seeds"])]


def findings(rows, table):
    return [f"{len(rows)} rows, {table[-1]['y']} at last."]


SQUARES = replace(tiny([]), measure=measure, cells=cells, findings=findings)
DIVERGING = replace(SQUARES, measure=diverge)
