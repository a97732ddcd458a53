"""The story of the demo: every step through the product's own code, as one types it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rebasin_hub.demo.digits import EPOCHS, WIDTHS, evaluate, load_digits, train
from rebasin_hub.errors import OutputError
from rebasin_hub.formats import save_safetensors
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.compare import verify
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.merging import merge
from rebasin_hub.record import Record
from rebasin_hub.report import save_report, show

__all__ = ["run_demo"]

FILES = (
    "a.safetensors",
    "b.safetensors",
    "a.canonical.safetensors",
    "b-to-a.safetensors",
    "b.rebased.safetensors",
    "merged.safetensors",
    "barrier",
)
MATCHING = Matching(device="cpu")


def run_demo(folder: Path, *, seed: int = 0, force: bool = False) -> Record:
    """Train two networks on digits, canonicalize, align, merge, and show what it does.

    Args:
        folder: where the checkpoints and the report go.
        seed: the first network's seed; the second one's is the next.
        force: replace files of an earlier run.

    Returns the record of the loss along the straight line, naive and aligned.

    Raises:
        MissingExtraError: torch, scikit-learn or matplotlib is not installed.
        OutputError: files of an earlier run are there, or the folder cannot be written.

    """
    digits = load_digits()
    _prepare(folder, force=force)
    console = Console(highlight=False, soft_wrap=True)
    a, b = folder / "a.safetensors", folder / "b.safetensors"
    console.print(
        f"Training two networks {'-'.join(map(str, WIDTHS))} on {len(digits.train[1]):,} images of "
        f"digits, {EPOCHS} epochs each, from seeds {seed} and {seed + 1} …"
    )
    for path, number in ((a, seed), (b, seed + 1)):
        weights = train(digits, number)
        save_safetensors(path, {name: w.numpy() for name, w in weights.items()}, force=force)
        loss, accuracy = evaluate(weights, digits.test)
        console.print(f"  {path}: test loss {loss:.4f}, accuracy {100 * accuracy:.1f} %")
    _commands(console, folder, force=force)
    return _barrier(console, folder, force=force)


def _prepare(folder: Path, *, force: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be made: {problem.strerror}") from problem
    there = [name for name in FILES if (folder / name).exists()]
    if there and not force:
        raise OutputError(
            f"{folder} holds {', '.join(there)} of an earlier run; choose another -o, "
            "or give --force"
        )


def _commands(console: Console, folder: Path, *, force: bool) -> None:
    a, b = folder / "a.safetensors", folder / "b.safetensors"
    ordered = folder / "a.canonical.safetensors"
    permutations, rebased = folder / "b-to-a.safetensors", folder / "b.rebased.safetensors"

    _prompt(console, f"rebasin-hub canonicalize {a}")
    show(canonicalize(a, ordered, force=force))
    _prompt(console, f"rebasin-hub verify {a} {ordered}")
    show(verify(a, ordered))
    _prompt(console, f"rebasin-hub align {b} {a} -o {permutations}")
    show(align_models(b, a, permutations, matching=MATCHING, force=force))
    _prompt(console, f"rebasin-hub apply {permutations} {b} -o {rebased}")
    show(apply_file(permutations, b, rebased, force=force))
    _prompt(console, f"rebasin-hub merge {a} {b} -o {folder / 'merged.safetensors'}")
    show(merge([a, b], folder / "merged.safetensors", matching=MATCHING, force=force))


def _prompt(console: Console, command: str) -> None:
    console.print(f"\n[bold cyan]$ {command}[/bold cyan]")


def _barrier(console: Console, folder: Path, *, force: bool) -> Record:
    a, b, out = folder / "a.safetensors", folder / "b.safetensors", folder / "barrier"
    command = f"rebasin-hub barrier {a} {b} --task digits -o {out}"
    _prompt(console, command)
    request = Request((a, b), "digits", matching=MATCHING)
    record = measure_barrier(request, out, command=command, force=force)
    assert isinstance(record, Record)
    save_report(record, out, force=force)
    show(record)
    console.print(f"The report is {out / 'report.html'}")
    return record
