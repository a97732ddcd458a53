"""The story of the demo: every step through the product's own code, as one types it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rebasin_hub.barrier import Curve, removed
from rebasin_hub.demo.digits import EPOCHS, WIDTHS, evaluate, line, load_digits, train
from rebasin_hub.errors import OutputError
from rebasin_hub.formats import open_checkpoint, save_safetensors
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.compare import verify
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.merging import merge
from rebasin_hub.plot import save_curves, terminal_curves
from rebasin_hub.report import show

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["run_demo"]

FILES = (
    "a.safetensors",
    "b.safetensors",
    "a.canonical.safetensors",
    "b-to-a.safetensors",
    "b.rebased.safetensors",
    "merged.safetensors",
    "barrier.png",
)


def run_demo(folder: Path, *, seed: int = 0, force: bool = False) -> tuple[Curve, Curve]:
    """Train two networks on digits, canonicalize, align, merge, and show what it does.

    Args:
        folder: where the checkpoints and the picture go.
        seed: the first network's seed; the second one's is the next.
        force: replace files of an earlier run.

    Returns the loss on the test images along the straight line, naive and aligned.

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
    return _barrier(console, folder, digits.test)


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
    matching = Matching(device="cpu")

    _prompt(console, f"rebasin-hub canonicalize {a}")
    show(canonicalize(a, ordered, force=force))
    _prompt(console, f"rebasin-hub verify {a} {ordered}")
    show(verify(a, ordered))
    _prompt(console, f"rebasin-hub align {b} {a} -o {permutations}")
    show(align_models(b, a, permutations, matching=matching, force=force))
    _prompt(console, f"rebasin-hub apply {permutations} {b} -o {rebased}")
    show(apply_file(permutations, b, rebased, force=force))
    _prompt(console, f"rebasin-hub merge {a} {b} -o {folder / 'merged.safetensors'}")
    show(merge([a, b], folder / "merged.safetensors", matching=matching, force=force))


def _prompt(console: Console, command: str) -> None:
    console.print(f"\n[bold cyan]$ {command}[/bold cyan]")


def _barrier(console: Console, folder: Path, test: tuple[Tensor, Tensor]) -> tuple[Curve, Curve]:
    a, b = _weights(folder / "a.safetensors"), _weights(folder / "b.safetensors")
    rebased, merged = (_weights(folder / f"{x}.safetensors") for x in ("b.rebased", "merged"))
    naive, aligned = line(a, b, test), line(a, rebased, test)
    mean = {name: a[name].lerp(b[name], 0.5) for name in a}
    console.print("\nTest loss on the straight line between the two networks:\n")
    console.print(terminal_curves({"as trained": naive, "B re-based": aligned}), markup=False)
    picture = folder / "barrier.png"
    save_curves(
        {"as trained": naive, "B re-based onto A": aligned},
        picture,
        title="Test loss between two networks trained on digits",
    )
    console.print(f"\nbarrier as trained {naive.entezari:.4f}, re-based {aligned.entezari:.4f}")
    share = removed(naive, aligned)
    if share is None or share <= 0:
        console.print("Alignment did not help here.")
    else:
        console.print(f"Alignment removed {100 * share:.0f} % of the barrier.")
    for name, weights in (("mean as trained", mean), ("merged", merged)):
        loss, accuracy = evaluate(weights, test)
        console.print(f"{name}: test loss {loss:.4f}, accuracy {100 * accuracy:.1f} %")
    console.print(f"The picture is {picture}")
    return naive, aligned


def _weights(path: Path) -> dict[str, Tensor]:
    import torch

    with open_checkpoint(path) as checkpoint:
        return {name: torch.from_numpy(checkpoint.read(name)) for name in checkpoint.header}
