"""Inference finds the groups of the architectures in transformers, and every certificate holds.

A small model of every architecture is exported, its spec is inferred, and certified in float64, in
a process of its own with limits on time and memory. One line of JSON for each class goes to
`results/census.jsonl`; classes that stand there for the same versions are left out, so that a run
can be stopped and taken up again. Then `docs/census.md` is written from these lines.

    OMP_NUM_THREADS=1 python benchmarks/census.py [--workers 2] [--heads] [--again] [CLASS ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from census_models import classes, small_configs
from census_page import write_page
from census_trace import without_grids
from census_workers import Row, first_line, run

from rebasin_hub import __version__
from rebasin_hub.bind import bind
from rebasin_hub.bind.detect import detect
from rebasin_hub.errors import BindingError, DetectionError, RebasinError
from rebasin_hub.infer import Inferred, infer_spec, run_rules
from rebasin_hub.infer.compare import compare
from rebasin_hub.infer.dummies import dummy_inputs
from rebasin_hub.infer.sources import TorchRunner, TorchSource, from_model
from rebasin_hub.specfile import find_spec, parse_spec, shipped_specs
from rebasin_hub.tensors import Header

RESULTS = Path(__file__).parent / "results" / "census.jsonl"
VERSIONS = {
    "rebasin-hub": __version__,
    **{package: metadata.version(package) for package in ("torch", "transformers")},
}
MOST_PARAMETERS = 50_000_000
SEED = 0


def examine(model_type: str, name: str) -> Row:
    """Infer the spec of one class from a small model of it, and certify it."""
    row: Row = {"class": name, "model_type": model_type}
    try:
        row["model_type"] = own_type(name)
        module, inputs, config = small_model(name)
    except UnbuiltError as problem:
        return row | {"outcome": "failed", "stage": problem.stage, "reason": str(problem)}
    row |= {
        "inputs": sorted(inputs),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    started = time.process_time()
    try:
        known = without_grids(module, inputs)
        source = exported_source(module, known, config, several=1 < len(known) == len(inputs))
        if source is None:
            generator = torch.Generator().manual_seed(SEED)
            inputs = dummy_inputs(module, config, generator, main=True)
            row["inputs"] = sorted(inputs)
            source = from_model(module, inputs, config, generator)
        exported = time.process_time()
        flow = run_rules(source.graph)
        ruled = time.process_time()
        found = infer_spec(flow, "census", name, source.runner, seed=SEED)
    except RebasinError as error:
        traced = "cannot be exported" in str(error) or "computed from values" in str(error)
        stage = "export" if traced else "run"
        return row | {"outcome": "failed", "stage": stage, "reason": str(error)}
    done = time.process_time()
    certificate = found.certificate
    assert certificate is not None
    if certificate.removed and not repeats(source.runner):
        reason = "its outputs change from run to run, with the same weights and inputs"
        return row | {"outcome": "failed", "stage": "run", "reason": reason}
    groups = found.written.folded.members
    deviation = max([certificate.together, *(t.deviation for t in certificate.trials)], default=0.0)
    return row | {
        "outcome": outcome(len(groups), deviation, certificate.tolerance),
        "nodes": len(flow.graph.nodes),
        "permutations": len(groups),
        "factors": sum(map(len, groups.values())),
        "share": found.layout.share,
        "deviation": deviation,
        "removed": dict(certificate.removed),
        "unnoticed": list(certificate.unnoticed),
        "unruled": dict(flow.unruled),
        "seconds": {
            "export": exported - started,
            "rules": ruled - exported,
            "certificate": done - ruled,
        },
        "fixed": main_reasons(found.layout.fixed),
        "shipped": against_shipped(found, source.runner.header, config),
    }


def exported_source(
    module: Any,  # noqa: ANN401 - any model
    inputs: dict[str, torch.Tensor],
    config: dict[str, Any],
    *,
    several: bool,
) -> TorchSource | None:
    """Export a model; None if that fails with several inputs, of which one may be enough."""
    try:
        return from_model(module, inputs, config, torch.Generator().manual_seed(SEED))
    except RebasinError:
        if not several:
            raise
        return None


def repeats(runner: TorchRunner) -> bool:
    """Say whether a model gives the same outputs twice; one that draws random numbers does not."""
    state = runner.state()
    first, again = runner.run(state), runner.run(state)
    return all(np.array_equal(first[key], again[key]) for key in first)


def outcome(groups: int, deviation: float, tolerance: float) -> str:
    if not groups:
        return "nothing found"
    return "certified" if deviation <= tolerance else "wrong"


def against_shipped(found: Inferred, header: Header, config: dict[str, Any]) -> list[str] | None:
    """Return the shipped spec of a model and what the inferred one is beside it; None without."""
    specs = [find_spec(name) for name in shipped_specs()]
    try:
        written = detect(header, config, specs)
    except (DetectionError, BindingError):
        return None
    inferred = bind(parse_spec(found.written.text), header)
    return [written.spec.name, compare(written, inferred).relation]


def main_reasons(fixed: tuple[Any, ...]) -> dict[str, int]:
    """Count the axes of tensors that stay, by reason."""
    found: dict[str, int] = {}
    for item in fixed:
        found[item.reason.what] = found.get(item.reason.what, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1])[:6])


class UnbuiltError(Exception):
    """There is no small model that runs; `stage` says what stood in the way."""

    def __init__(self, stage: str, reason: object) -> None:
        super().__init__(str(reason))
        self.stage = stage


def own_type(name: str) -> str:
    """Return the model type that a class states itself; several may share the class."""
    try:
        return str(getattr(transformers, name).config_class.model_type)
    except (AttributeError, ImportError) as error:
        raise UnbuiltError("configuration", first_line(error)) from error


def small_model(name: str) -> tuple[Any, dict[str, torch.Tensor], dict[str, Any]]:
    """Return the first small model of a class that runs, its inputs and its settings."""
    problem: UnbuiltError | None = None
    try:
        for config in small_configs(name):
            try:
                return runnable(name, config)
            except UnbuiltError as error:
                # What is wrong with the smallest that can be built at all says most.
                if problem is None or (problem.stage, error.stage) == ("configuration", "inputs"):
                    problem = error
    except Exception as error:
        raise UnbuiltError("configuration", first_line(error)) from error
    raise problem or UnbuiltError("configuration", "no small configuration is accepted")


def runnable(
    name: str, config: transformers.PreTrainedConfig
) -> tuple[Any, dict[str, torch.Tensor], dict[str, Any]]:
    try:
        prepare(config, name)
        kind = getattr(transformers, name)
        with torch.device("meta"):
            size = sum(p.numel() for p in kind(config).parameters())
        if size <= MOST_PARAMETERS:
            torch.manual_seed(SEED)
            module = kind(config)
    except Exception as error:
        raise UnbuiltError("configuration", first_line(error)) from error
    if size > MOST_PARAMETERS:
        raise UnbuiltError("configuration", f"the model is not small: {size:,} parameters")
    generator = torch.Generator().manual_seed(SEED)
    try:
        return module, dummy_inputs(module, config.to_dict(), generator), config.to_dict()
    except RebasinError as error:
        raise UnbuiltError("inputs", error) from error


def prepare(config: transformers.PreTrainedConfig, name: str) -> None:
    config._attn_implementation = "eager"
    config._experts_implementation = "batched_mm"
    config.architectures = [name]
    parts = [config]
    while parts:
        part = parts.pop()
        part.use_cache = False
        parts += [p for p in vars(part).values() if isinstance(p, transformers.PreTrainedConfig)]


def stored(path: Path) -> dict[str, Row]:
    """Return the last row of each class for these versions."""
    rows = map(json.loads, whole(path).splitlines())
    return {row["class"]: row for row in rows if row["versions"] == VERSIONS}


def whole(path: Path) -> bytes:
    """Return the lines of a file but for one at the end that a run that was stopped left open."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("classes", nargs="*", help="examine these, whatever is stored")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--heads", action="store_true", help="more than one class of each type")
    parser.add_argument("--again", action="store_true", help="those that failed, once more")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="write the page alone")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    done = stored(given.results)
    everything = classes(heads=given.heads or bool(given.classes))
    if given.classes:
        wanted = [row for row in everything if row[1] in given.classes]
    else:
        good = {n for n, row in done.items() if not given.again or row["outcome"] == "certified"}
        wanted = [row for row in everything if row[1] not in good]
    if not given.page:
        # What the first model loads, such as the compiler's tables, all processes begin with.
        examine("bert", "BertModel")
        with given.results.open("ab") as file:
            file.truncate(len(whole(given.results)))
            for number, row in enumerate(run(examine, wanted, given.workers)):
                row |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": VERSIONS}
                file.write(f"{json.dumps(row)}\n".encode())
                file.flush()
                told = row.get("reason") or f"{row['permutations']} permutations"
                line = f"{number + 1}/{len(wanted)} {row['class']}: {row['outcome']}: {told}"
                print(line[:200], file=sys.stderr)
    total = len(classes(heads=False))
    write_page(list(stored(given.results).values()), VERSIONS, total)


if __name__ == "__main__":
    main()
