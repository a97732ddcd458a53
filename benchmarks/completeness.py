"""Inference finds every group of the specs that people wrote, or the difference is explained.

Each example of each shipped spec is built small and exported; its spec is inferred and certified,
and both are compared by where their groups stand. The table goes to `docs/inferring.md`, between
its two marks.

    OMP_NUM_THREADS=1 python benchmarks/completeness.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rebasin_hub import __version__
from rebasin_hub.bind import bind
from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.compare import Comparison, compare
from rebasin_hub.infer.exported import export_module, graph_of
from rebasin_hub.infer.sources import TorchRunner
from rebasin_hub.prove.models import build
from rebasin_hub.specfile import find_spec, parse_spec, shipped_specs

PAGE = Path(__file__).parent.parent / "docs" / "inferring.md"
MARKS = ("<!-- completeness -->", "<!-- end of completeness -->")
SEED = 0

EXPLAINED: Mapping[tuple[str, str], str] = {
    ("resnet-cifar-a", "smaller"): "Channels on both sides of the zero-padded shortcut could trade "
    "places; inference keeps the sides apart.",
    ("bert", "larger"): "The hand-written one is narrower on purpose: names do not tell whether "
    "the pooler's output, or that of the head's first layer where the decoder is not tied, is the "
    "stream, so it says that both are. The graph tells.",
}
"""Why an inferred spec is not the hand-written one; a difference without a reason is an error."""


@dataclass(frozen=True)
class Case:
    """One example of a shipped spec, compared."""

    spec: str
    model: str
    found: Comparison
    deviation: float
    removed: int


def cases() -> Iterator[Case]:
    for name in sorted(shipped_specs()):
        spec = find_spec(name)
        for number, example in enumerate(spec.examples):
            print(f"{name} {number}", file=sys.stderr)
            yield case(name, number, example)


def case(name: str, number: int, example: Mapping[str, Any]) -> Case:
    spec = find_spec(name)
    subject = build(spec.examples[number], SEED)
    program = export_module(subject.module, subject.inputs, name)
    state = subject.module.state_dict(keep_vars=True)
    flow = run_rules(graph_of(program, state, name))
    result = infer_spec(flow, "inferred", name, TorchRunner(subject), seed=SEED)
    assert result.certificate is not None
    written = bind(spec, subject.header, config=subject.config)
    inferred = bind(parse_spec(result.written.text), subject.header)
    model = str(example.get("transformers") or example.get("zoo"))
    certificate = result.certificate
    return Case(
        name, model, compare(written, inferred), certificate.together, len(certificate.removed)
    )


def table(found: list[Case]) -> Iterator[str]:
    yield "| spec | model | in both | written alone | inferred alone | inferred is | deviation |"
    yield "| --- | --- | ---: | ---: | ---: | --- | ---: |"
    for c in found:
        yield (
            f"| {c.spec} | {c.model} | {c.found.same} | {c.found.only_first} | "
            f"{c.found.only_second} | {c.found.relation} | {c.deviation:.0e} |"
        )


def section(found: list[Case]) -> str:
    """Return what stands between the marks."""
    versions = ", ".join(
        [f"rebasin-hub {__version__}"]
        + [f"{package} {metadata.version(package)}" for package in ("torch", "transformers")]
    )
    kinds = dict.fromkeys((c.spec, c.found.relation) for c in found if c.found.relation != "equal")
    equal = sum(c.found.relation == "equal" for c in found)
    lines = [
        f"Written by `benchmarks/completeness.py` on {datetime.now(UTC):%Y-%m-%d} with {versions}: "
        f"{len(found)} models of {len({c.spec for c in found})} shipped specs, "
        f"{equal} of them with the same groups, "
        f"{sum(c.removed for c in found)} groups taken out by a certificate.",
        "",
        *table(found),
        "",
        *(f"- {spec}, {relation}: {EXPLAINED[spec, relation]}" for spec, relation in kinds),
    ]
    return "\n".join(lines)


def main() -> None:
    text = section(list(cases()))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
