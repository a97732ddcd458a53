"""An experiment without networks, which counts what it measures."""

from __future__ import annotations

from rebasin_hub.experiments.experiment import Column, Experiment, Picture, Series


def tiny(measured, *, task=None, stop_at=None, version=1):
    """Return an experiment that notes each cell it measures, and can stop before one."""

    def measure(lab, cell):
        if cell["x"] == stop_at:
            raise KeyboardInterrupt
        lab.tell("measuring")
        measured.append(cell["x"])
        return {"y": cell["x"] ** 2 + cell["seed"], "z": None, "shape": list(lab.shape)}

    quick = {"task": task, "seeds": 2, "xs": [1, 2, 3]}
    return Experiment(
        name="tiny",
        title="Squares",
        question="How do squares grow?",
        protocol="They are computed.",
        source="Euclid",
        scales={"quick": quick, "paper": {**quick, "xs": [1, 100]}},
        cells=lambda settings: [
            {"x": x, "seed": seed} for x in settings["xs"] for seed in range(settings["seeds"])
        ],
        measure=measure,
        columns=(Column("x", "number", key=True), Column("y", "square"), Column("z", "unknown")),
        findings=lambda rows, table: [f"{len(rows)} rows, {table[-1]['y']} at last."],
        picture=Picture("x", "number", "square", (Series("y", "square"), Series("z", "z"))),
        version=version,
    )
