"""Write the tables of `docs/performance.md` from the latest results.

Each table stands between two comments of the page, `<!-- table: NAME -->` and `<!-- end -->`; what
is between them is replaced.

    python benchmarks/performance_page.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from table import SIZES, Figure, figures, growth, latest

__all__ = ["filled"]

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOISES = ("0.0", "0.1", "1.0")
SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))

Rows = Iterator[tuple[object, ...]]


def seconds(value: float) -> str:
    """Return a duration with three digits and a unit."""
    scale, unit = next((s for s in SCALES if value >= s[0]), SCALES[-1])
    return f"{number(value / scale)} {unit}"


def number(value: float) -> str:
    """Return a number with three digits; large ones whole, with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def times(value: float) -> str:
    """Return a ratio."""
    return f"{value:.0f}×" if value >= 10 else f"{value:.2g}×"


def found(name: str) -> Mapping[str, Any]:
    """Return the newest results of a benchmark; empty before it has run."""
    return latest(name) or {}


def memory() -> Rows:
    yield "", "seconds", "peak memory"
    for what, runs in found("memory")["repeats"].items():
        middle = {key: median(run[key] for run in runs) for key in ("seconds", "peak_mb")}
        yield f"`{what}`", number(middle["seconds"]), f"{middle['peak_mb']:,.0f} MB"


def startup() -> Rows:
    yield "", "median of 15"
    for command, runs in found("startup")["seconds"].items():
        yield f"`{command}`", seconds(median(runs))


def canonical() -> Rows:
    yield "weights", "order", "canonical digest", "hashlib's SHA-256"
    for case, own in found("canonical").items():
        if isinstance(own, Mapping) and "gb_per_s" in own:
            yield case, *(number(own["gb_per_s"][key]) for key in ("order", "digest", "sha256"))


def planted() -> Rows:
    results = found("planted_recovery")["summary"]
    networks = [f"{n} blocks, {ends} ends" for n in (3, 8) for ends in ("fixed", "no fixed")]
    yield "found of 50, with noise 0 / 0.1 / 1", *networks
    methods = dict.fromkeys(key.partition(": ")[2] for key in results)
    for method in methods:
        shares = [
            [
                results[f"{net}, noise {noise}: {method}"].split()[0]
                for noise in ("0.0", "0.1", "1.0")
            ]
            for net in networks
        ]
        yield method, *map(" / ".join, shares)


def _against_scipy(name: str) -> Iterator[tuple[str, str, str, str]]:
    for case, own in found(name).items():
        if isinstance(own, Mapping) and "ratio_to_scipy" in own:
            theirs, ours = own["medians"]["scipy"], own["medians"]["rebasin-hub"]
            yield case, seconds(theirs), seconds(ours), times(own["ratio_to_scipy"])


def assignment() -> Rows:
    yield "matrices", "SciPy", "ours", ""
    for size in SIZES:
        for family, *measured in _against_scipy(f"assignment_{size}"):
            yield f"{size:,}, {family.replace('_', ' ')}", *measured


def special() -> Rows:
    yield "matrices", "SciPy", "ours", ""
    for case, *measured in _against_scipy("assignment_special"):
        yield case.replace("_", " "), *measured


def weight_matching() -> Rows:
    yield (
        "network", "descent", "with two threads", "literal descent", "ratio", "sweeps",
        "default, with reading",
    )  # fmt: skip
    paired = found("weight_matching_2_threads")
    for case, own in found("weight_matching").items():
        if isinstance(own, Mapping) and "literal_over_descent" in own:
            spent = own["cpu_seconds"]
            two = paired[case]["wall_seconds"]["descent"] if case in paired else None
            yield (
                case, seconds(spent["descent"]), "" if two is None else seconds(two),
                seconds(spent["literal"]), times(own["literal_over_descent"]),
                own["sweeps"]["descent"], seconds(spent["default"]),
            )  # fmt: skip


def peer() -> Rows:
    yield "ResNet-18", "CPU seconds", "objective"
    results = found("weight_matching")
    for case, own in results.items():
        if isinstance(own, Mapping) and "program" in own:
            ours = results[case.removesuffix(f", {own['program']}")]
            yield own["program"], seconds(own["seconds"][0]), f"{own['objective']:.1f}"
            spent, objective = ours["cpu_seconds"]["descent"], ours["objective"]["descent"]
            yield "rebasin-hub, one descent", seconds(spent), f"{objective:.1f}"
            yield "ratio", times(own["seconds"][0] / spent), ""


def lineage() -> Rows:
    heading = ["noise 0.02", "noise 0.1", "noise 0.3", "product"]
    yield "", *heading
    for case, own in found("weight_matching").items():
        if case.startswith("lineage, "):
            # Of each repeat: processor seconds, and those of the wall.
            spent = (seconds(median(run[0] for run in own[key])) for key in heading)
            yield case.removeprefix("lineage, "), *spent


def stream() -> Rows:
    results = found("stream")
    largest = results["sizes"][-1]
    yield f"{largest['bytes'] / 1e9:.2f} GB", "seconds", "CPU seconds", "peak memory"
    for label, own in largest["median"].items():
        figures = number(own["seconds"]), number(own["cpu_seconds"])
        yield label, *figures, f"{own['peak_mb']:,.0f} MB"


def stream_ratios() -> Rows:
    yield "within this run", "ratio"
    for what, ratio in found("stream")["ratios"].items():
        yield what, f"{ratio:.2f}"


def whole_model() -> Rows:
    (own,) = found("stream_32_layers")["sizes"]
    yield f"{own['bytes'] / 1e9:.1f} GB", "seconds", "CPU seconds", "peak memory"
    for label, middle in own["median"].items():
        figures = number(middle["seconds"]), number(middle["cpu_seconds"])
        yield label, *figures, f"{middle['peak_mb']:,.0f} MB"


def merging() -> Rows:
    yield "two models", "rebasin-hub", "mergekit 0.1.5", "times as fast", "share of the memory"
    for own in found("merge_peers")["cases"]:
        ours, theirs = own["median"]["rebasin-hub"], own["median"]["mergekit"]
        yield (
            f"{own['case']} ({own['gigabytes_each']:.2f} GB each)",
            *(f"{number(m['seconds'])} s, {m['peak_mb']:,.0f} MB" for m in (ours, theirs)),
            f"{theirs['seconds'] / ours['seconds']:.2f}",
            f"{ours['peak_mb'] / theirs['peak_mb']:.2f}",
        )


def align_stream() -> Rows:
    yield "`--max-memory`", "peak memory", "seconds", "CPU seconds"
    for run in found("align_stream")["repeats"]:
        spent = number(run["seconds"]), number(run["cpu_seconds"])
        where = f"{run['kind']}, {run['bound'] or 'all in memory'}"
        yield where, f"{run['peak_mb']:,.0f} MB", *spent


def goals() -> Rows:
    yield "what", "found", "goal", ""
    aimed = [figure for figure in figures() if figure.goal is not None]
    worst: dict[str, Figure] = {}
    for figure in aimed:
        what = figure.what
        if what.startswith("assignment, "):  # of all kinds of matrices of a size, the worst
            what = f"assignment, the worst kind of {what.split(' ', 2)[2]}"
        if what not in worst or figure.found < worst[what].found:
            worst[what] = replace(figure, what=what)
    for figure in worst.values():
        yield figure.what, number(figure.found), figure.aim, figure.distance


def exponents() -> Rows:
    yield "seconds of", "grow with", "to the power of"
    for what, size, power in growth():
        yield what, size, f"{power:.2f}"


TABLES: Mapping[str, Callable[[], Rows]] = {
    "memory": memory,
    "startup": startup,
    "canonical": canonical,
    "planted": planted,
    "assignment": assignment,
    "special": special,
    "weight-matching": weight_matching,
    "peer": peer,
    "lineage": lineage,
    "stream": stream,
    "stream-ratios": stream_ratios,
    "whole-model": whole_model,
    "align-stream": align_stream,
    "merging": merging,
    "goals": goals,
    "growth": exponents,
}


def filled(page: str) -> str:
    """Return a page with its tables made anew.

    Raises:
        KeyError: a place has a name that no table has.

    """

    def table(place: re.Match[str]) -> str:
        heading, *rows = TABLES[place[2]]()
        rule = ("---", *("---:" for _ in heading[1:]))
        lines = ("| " + " | ".join(map(str, row)) + " |\n" for row in (heading, rule, *rows))
        return place[1] + "".join(lines) + place[3]

    return PLACE.sub(table, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
