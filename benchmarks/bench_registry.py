"""With 10,000 versions, list, lineage and looking up digests take under 100 ms; add is hashing.

`which` of an unknown file also detects its spec and computes its canonical digest.

Versions of 1,000 made-up models, each a fine-tune of the one before it and a merge every tenth;
one real model of 268 MB is registered to see where the time of `add` goes.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from _record import record
from safetensors.numpy import save_file

from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.models import AUTOMATIC, Model
from rebasin_hub.pipeline.ordering import canonical_digest_of
from rebasin_hub.pipeline.registry import Adding, add, facts_of, which
from rebasin_hub.registry import Facts, FileFacts, Kept, Parent, ParentKind, Registry
from rebasin_hub.registry.store import digest_of_file

MODELS, VERSIONS = 1000, 10
REPEATS = 15
WIDTHS = (4096,) * 5
SEED = 0


def made_up(text: str) -> Facts:
    def digest(what: str) -> str:
        return hashlib.sha256(f"{what} {text}".encode()).hexdigest()

    name = "model.safetensors"
    file = FileFacts(name, Path(f"/models/{text}/{name}"), digest("file"), 1000, 0, weights=True)
    return Facts(
        files=(file,),
        main=name,
        format="safetensors",
        digest=digest("plain"),
        canonical=digest("canonical"),
        exact=True,
        spec="mlp",
        spec_digest=hashlib.sha256(b"spec").hexdigest(),
        signature=hashlib.sha256(b"signature").hexdigest(),
        sizes={"hidden[1]": 8},
        dtypes={"F32": 100},
        parameters=100,
        nbytes=1000,
    )


def fill(registry: Registry) -> list[float]:
    """Add every version; return the seconds of each."""
    seconds = []
    for number in range(MODELS):
        for version in range(1, VERSIONS + 1):
            parents = [Parent(ParentKind.FINE_TUNED_FROM, f"m{number}:{version - 1}")]
            if version == 1:
                other = Parent(ParentKind.MERGED_FROM, f"m{number - 1}:{VERSIONS}")
                parents = [other] if number % 10 else []
            start = time.perf_counter()
            registry.add(
                f"m{number}",
                made_up(f"{number} {version}"),
                parents=parents,
                tags={"n": str(number)},
            )
            seconds.append(time.perf_counter() - start)
        registry.alias(f"m{number}:{VERSIONS}", "best")
    return seconds


def timed(work: Callable[[], object]) -> list[float]:
    seconds = []
    for repeat in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if repeat:  # the first round warms the cache
            seconds.append(time.perf_counter() - start)
    return seconds


def small(path: Path) -> Path:
    rng = np.random.default_rng(SEED)
    shapes = {"fc1.weight": (8, 6), "fc1.bias": (8,), "fc2.weight": (3, 8), "fc2.bias": (3,)}
    save_file({n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}, path)
    return path


def large(path: Path) -> Path:
    rng = np.random.default_rng(SEED)
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(WIDTHS), start=1):
        tensors[f"fc{number}.weight"] = rng.standard_normal((outputs, inputs), np.float32)
        tensors[f"fc{number}.bias"] = rng.standard_normal(outputs, np.float32)
    save_file(tensors, path)
    return path


def parts_of_add(root: Path, path: Path) -> dict[str, float]:
    """Return the seconds of each part of registering one large model."""
    seconds: dict[str, float] = {}

    def clock(name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - start

    clock("SHA-256 of the file", lambda: digest_of_file(path))
    with open_checkpoint(path) as checkpoint:
        model = Model(checkpoint, AUTOMATIC.bind(checkpoint))
        clock("plain digest", model.digest)
        clock("canonical order and digest", lambda: canonical_digest_of(model, None))
    with Registry(root) as registry:
        facts = facts_of(path)
        clock("database, in place", lambda: registry.add("large", facts))
        clock("store and database", lambda: registry.add("stored", facts, keep=Kept.STORED))
        clock("add, in place, as a whole", lambda: add(registry, path, "whole"))
        clock("add --store, as a whole", lambda: add(registry, path, "more", Adding(Kept.STORED)))
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Registry(folder / "registry") as registry:
            adds = fill(registry)
            known = small(folder / "known.safetensors")
            add(registry, known, "known")
            unknown = small(folder / "unknown.safetensors")
            with unknown.open("r+b") as file:
                file.seek(-1, 2)
                file.write(b"\x3f")
            seconds = {
                "list": timed(registry.models),
                "list NAME": timed(lambda: registry.versions("m500")),
                "show": timed(lambda: registry.show("m500@best")),
                "which, by its file": timed(lambda: which(registry, known)),
                "which, unknown": timed(lambda: which(registry, unknown)),
                "look-up of a canonical digest": timed(lambda: registry.by_canonical("0" * 64)),
                "lineage of 100": timed(lambda: registry.lineage("m505:5")),
                "duplicates": timed(registry.duplicates),
            }
        parts = parts_of_add(folder / "large", large(folder / "large.safetensors"))
    for what, values in seconds.items():
        print(f"{1e3 * statistics.median(values):8.1f} ms  {what}")
    print(f"{1e3 * statistics.median(adds):8.1f} ms  the database's part of add, median")
    for what, value in parts.items():
        print(f"{value:8.3f} s   {what}")
    assert __doc__ is not None
    settings = {"models": MODELS, "versions": VERSIONS, "widths": WIDTHS, "seed": SEED}
    rows = {"median": statistics.median(adds), "first": adds[:100], "last": adds[-100:]}
    measured = {"seconds": seconds, "database_of_add": rows, "parts_of_add": parts}
    record("registry", __doc__.splitlines()[0], {"settings": settings, **measured})


if __name__ == "__main__":
    main()
