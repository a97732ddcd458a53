"""What the latest results say: each figure beside its goal, and how times grow with sizes.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from _record import RESULTS

SIZES = (4096, 8192, 14336)
LEAST_LARGE = SIZES[0]
"""Smaller and special assignments are not to be slower than SciPy's."""
PROTOTYPE = {
    "MLP 3x512": 0.08,
    "ResNet20": 0.01,
    "ResNet20 x16": 7.9,
    "VGG16, 512 wide": 1.3,
    "VGG16, 4096 wide": 6.1,
}
"""Seconds on two cores that weight matching is not to exceed."""


@dataclass(frozen=True)
class Figure:
    """One figure: at least or at most its goal, if there is one."""

    what: str
    found: float
    goal: float | None = None
    least: bool = True

    @property
    def distance(self) -> str:
        """How far from its goal it is, as a factor."""
        if self.goal is None:
            return ""
        factor = self.found / self.goal if self.least else self.goal / self.found
        return "reached" if factor >= 1 else f"missed: {factor:.2f} of it"

    @property
    def aim(self) -> str:
        """The goal, and on which side of it figures are to be."""
        return "" if self.goal is None else f"{'≥' if self.least else '≤'} {self.goal:.2g}"

    def row(self) -> str:
        """Return a line of the table."""
        return f"| {self.what} | {self.found:.3g} | {self.aim} | {self.distance} |"


def latest(name: str) -> Mapping[str, Any] | None:
    """Return the newest results of a benchmark."""
    files = sorted(RESULTS.glob(f"*-{name}.json"))
    return None if not files else json.loads(files[-1].read_text(encoding="utf-8"))


def exponent(sizes: Mapping[float, float]) -> float:
    """Return the power with which seconds grow, by least squares between logarithms."""
    slope, _ = np.polyfit(*(np.log(list(x)) for x in (sizes.keys(), sizes.values())), 1)
    return float(slope)


def assignment() -> Iterator[Figure]:
    """Yield the figures of all sizes."""
    for size in SIZES:
        for family, own in _cases(f"assignment_{size}"):
            what = f"assignment, {family} {size}: times as fast as SciPy"
            goal = 7 if size == LEAST_LARGE else 12
            yield Figure(what, own["ratio_to_scipy"], goal)
    for case, own in _cases("assignment_special"):
        yield Figure(f"assignment, {case}: times as fast as SciPy", own["ratio_to_scipy"], 1)


def _cases(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for case, own in (latest(name) or {}).items():
        if isinstance(own, Mapping) and "ratio_to_scipy" in own:
            yield case, own


def weight_matching(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, own in found.items():
        if isinstance(own, Mapping) and "program" in own:
            ours = found[name.removesuffix(f", {own['program']}")]["cpu_seconds"]["descent"]
            what = f"weight matching, {name}: CPU seconds of theirs by ours"
            yield Figure(what, own["seconds"][0] / ours, 10)


def weight_matching_2_threads(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, own in found.items():
        if name in PROTOTYPE:
            seconds = own["wall_seconds"]["descent"]
            what = f"weight matching, {name}: seconds with two threads"
            yield Figure(what, seconds, PROTOTYPE[name], least=False)


def stream(found: Mapping[str, Any]) -> Iterator[Figure]:
    ratios = found["ratios"]
    yield Figure(
        "canonicalize, its I/O: times that of cp", ratios["I/O of canonicalize / cp"], 2, False
    )
    if "mergekit / merge" in ratios:
        for what in ("merge", "merge --no-digests"):
            yield Figure(f"{what}: times as fast as mergekit", ratios[f"mergekit / {what}"], 4)
        share = 1 / ratios["memory of mergekit / of merge"]
        yield Figure("merge: its memory by mergekit's", share, 1 / 3, least=False)


def whole_model(found: Mapping[str, Any]) -> Iterator[Figure]:
    (own,) = found["sizes"]
    gigabytes = own["bytes"] / 1e9
    for label, median in own["median"].items():
        what = f"{label} of {gigabytes:.1f} GB"
        if label.startswith("digest"):
            speed = gigabytes / median["cpu_seconds"]
            yield Figure(f"{what}: GB for each second of a core", speed, 1)
        if not label.startswith("cp"):
            yield Figure(f"{what}: peak memory, GB", median["peak_mb"] / 1e3, 3, least=False)


def startup(found: Mapping[str, Any]) -> Iterator[Figure]:
    for command, repeats in found["seconds"].items():
        goal = None if command.startswith("python") else 0.4
        yield Figure(f"{command}: seconds", float(np.median(repeats)), goal, least=False)


def growth() -> Iterator[tuple[str, str, float]]:
    """Yield whose seconds grow with what, and the fitted power."""
    widths: dict[str, dict[float, float]] = {}
    for size in SIZES:
        for family, own in _cases(f"assignment_{size}"):
            widths.setdefault(family, {})[size] = own["medians"]["rebasin-hub"]
    for family, spent in widths.items():
        if len(spent) > 1:
            yield f"assignment, {family}", "the width", exponent(spent)
    for label, power in (latest("stream") or {"exponents": {}})["exponents"].items():
        yield f"{label} (CPU)", "the bytes", power
    for strategy, spent in _by_models(latest("many") or {"settings": {}}).items():
        yield f"align-many, {strategy}", "the models", exponent(spent)
    if (found := latest("inference")) is not None:
        yield "spec infer, without its certificate", "the operators", found["exponent"]


def _by_models(found: Mapping[str, Any]) -> dict[str, dict[float, float]]:
    """Return the seconds of each strategy by the number of models, at the largest width."""
    spent: dict[str, dict[float, float]] = {}
    width = max(found["settings"].get("widths", ()), default=0)
    for case, strategies in found.get("summary", {}).items():
        if case.startswith(f"width {width}, "):
            count = int(case.removeprefix(f"width {width}, ").split()[0])
            for strategy, own in strategies.items():
                if own.get("seconds"):
                    spent.setdefault(strategy, {})[count] = own["seconds"]
    return spent


READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Figure]]] = {
    "weight_matching": weight_matching,
    "weight_matching_2_threads": weight_matching_2_threads,
    "stream": stream,
    "stream_32_layers": whole_model,
    "startup": startup,
}


def figures() -> Iterator[Figure]:
    """Yield all figures that were measured."""
    yield from assignment()
    for name, read in READERS.items():
        if (found := latest(name)) is not None:
            yield from read(found)


def main() -> None:
    print("| what | found | goal | |\n| --- | ---: | ---: | --- |")
    for figure in figures():
        print(figure.row())
    for what, size, power in growth():
        print(Figure(f"{what}: seconds grow with {size} to", power).row())


if __name__ == "__main__":
    main()
