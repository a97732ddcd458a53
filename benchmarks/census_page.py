"""Write `docs/census.md` from the rows of the census."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

PAGE = Path(__file__).parent.parent / "docs" / "census.md"
LONGEST = 110
Row = Mapping[str, Any]

STAGES = {
    "configuration": "no small configuration is accepted",
    "inputs": "it does not run on the inputs that were tried",
    "export": "torch.export cannot trace it",
    "run": "it does not run in float64, or its output cannot be compared",
    "time": "it takes too long",
    "crash": "something unforeseen",
}

CAUSES = (
    (r"requires the (\w+) library", "needs a package that is not installed"),
    (r"data-dependent|computed from values", "shapes depend on values, which no trace can follow"),
    (r"is not small", "no rule makes a small model of it"),
    (r"nothing is known about the inputs", "no rule for any of its inputs"),
    (
        r"missing \d+ required|must be|cannot be `?None|have to specify|NoneType",
        "lacks an argument",
    ),
    (r"has no attribute|KeyError", "its default configuration is not whole"),
    (r"shape|size|dimension|channels|out of range|expected", "sizes that do not fit each other"),
    (r"takes more than", "takes too long"),
)
"""What the reasons of failures have in common, by what they say; the first that fits counts."""

INTRODUCTION = (
    "# A census of transformers\n"
    "\n"
    "A small model of every architecture was made on a CPU and run on random inputs; "
    "`torch.export` traced it, the rules said which axes can be renumbered, and the certificate "
    "tried it with random weights in float64. Sizes are set by the names of settings, and inputs "
    "made by the names of arguments: nothing is written by hand for one model, and a class fails "
    "where these rules do not fit it. A class counts as certified if it has at least one "
    "permutation, and random elements of all of them together changed the outputs by rounding "
    "alone.\n"
    "\n"
    "What the columns say:\n"
    "\n"
    "- *permutations*: declarations of the inferred spec; those of all layers of one kind "
    "count once, in brackets one by one.\n"
    "- *share*: of the parameters, those that lie on at least one renumbered axis. It is low "
    "where a part of the model was not run, such as the vision tower of a model that was "
    "given text alone.\n"
    "- *deviation*: the largest relative change of an output, after random elements of each "
    "declaration and of all.\n"
    "- *out*: permutations that the certificate took out, since they changed an output; each "
    "one is a rule that says too much.\n"
    "- *inputs*: what the model was given.\n"
    "- *seconds*: of processor time: tracing, and everything after it.\n"
)


def write_page(rows: list[Row], versions: Mapping[str, str], total: int) -> None:
    """Write the page anew; `total` architectures are there to look at."""
    rows = sorted(rows, key=lambda row: str(row["class"]).lower())
    lines = [INTRODUCTION, *summary(rows, versions, total), *certified(rows), *others(rows)]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary(rows: list[Row], versions: Mapping[str, str], total: int) -> Iterator[str]:
    """Yield the counts."""
    named = ", ".join(f"{package} {version}" for package, version in versions.items())
    days = sorted({str(row["date"]) for row in rows}) or ["no day"]
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    counts = Counter(str(row["outcome"]) for row in rows)
    kinds = {row["model_type"] for row in rows if row["outcome"] == "certified"}
    out = sum(len(row.get("removed", ())) for row in rows)
    yield "## Counts"
    yield ""
    yield f"Written by `benchmarks/census.py` on {when} with {named}."
    yield ""
    yield "| | classes |"
    yield "| --- | ---: |"
    yield f"| main classes of all architectures | {total} |"
    yield f"| looked at so far | {len(rows)} |"
    yield f"| inferred and certified | {counts['certified']} ({len(kinds)} model types) |"
    yield f"| ran, but no permutation was found | {counts['nothing found']} |"
    yield f"| certificate failed, whatever was taken out | {counts['wrong']} |"
    for stage, meaning in STAGES.items():
        number = sum(row["outcome"] == "failed" and row["stage"] == stage for row in rows)
        yield f"| failed: {meaning} | {number} |"
    yield ""
    yield f"Permutations that certificates took out: {out}."
    compared = Counter(row["shipped"][1] for row in rows if row.get("shipped"))
    told = ", ".join(f"{relation} for {number}" for relation, number in compared.most_common())
    yield f"Beside a shipped spec that fits the same model, the inferred one is {told or 'unseen'}."
    yield ""
    yield from causes(rows)


def causes(rows: list[Row]) -> Iterator[str]:
    """Yield the table of what stood in the way most often."""
    failed = [str(row["reason"]) for row in rows if row["outcome"] == "failed"]
    counts = Counter(map(cause, failed))
    yield "| what stood in the way | classes |"
    yield "| --- | ---: |"
    for told, number in counts.most_common():
        yield f"| {told} | {number} |"
    yield ""


def cause(reason: str) -> str:
    """Return what kind of reason it is."""
    return next((told for said, told in CAUSES if re.search(said, reason)), "something else")


def certified(rows: list[Row]) -> Iterator[str]:
    """Yield the table of what was inferred."""
    yield "## Inferred"
    yield ""
    yield table_row(
        *("class", "inputs", "permutations", "share", "deviation", "out", "seconds"),
        "beside a shipped spec",
    )
    yield table_row("---", "---", *["---:"] * 5, "---")
    for row in rows:
        if row["outcome"] == "failed":
            continue
        seconds = row["seconds"]
        shipped = row.get("shipped")
        beside = f"{shipped[1]} ({shipped[0]})" if shipped else ""
        note = "" if row["outcome"] == "certified" else f" ({row['outcome']})"
        rest = seconds["rules"] + seconds["certificate"]
        yield table_row(
            f"{row['class']}{note}",
            ", ".join(row["inputs"]),
            f"{row['permutations']} ({row['factors']})",
            f"{row['share']:.0%}",
            f"{row['deviation']:.0e}",
            str(len(row["removed"])),
            f"{seconds['export']:.1f} + {rest:.1f}",
            beside,
        )
    yield ""


def others(rows: list[Row]) -> Iterator[str]:
    """Yield the table of what failed, and why."""
    yield "## Failed"
    yield ""
    yield "| class | at | reason |"
    yield "| --- | --- | --- |"
    for row in rows:
        if row["outcome"] == "failed":
            reason = " ".join(str(row["reason"]).split()).replace("|", "\\|")
            reason = reason.removesuffix(
                "; give a Python file that returns the module and its inputs"
            )
            short = reason if len(reason) <= LONGEST else f"{reason[: LONGEST - 1]}…"
            yield table_row(row["class"], row["stage"], short.replace("<", "&lt;"))


def table_row(*cells: str) -> str:
    """Return one row of a table."""
    return f"| {' | '.join(cells)} |"
