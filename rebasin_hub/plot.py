"""Pictures of loss curves: in the terminal, and as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rebasin_hub.barrier import Curve
from rebasin_hub.errors import MissingExtraError

__all__ = ["save_curves", "terminal_curves"]

MARKS = "●○▲△"


def terminal_curves(curves: Mapping[str, Curve], *, width: int = 64, height: int = 12) -> str:
    """Draw loss curves over λ with characters; later curves are drawn over earlier ones."""
    top = max(max(curve.losses) for curve in curves.values())
    rows = [[" "] * width for _ in range(height)]
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for x, loss in zip(curve.lambdas, curve.losses, strict=True):
            level = round((height - 1) * loss / top) if top > 0 else 0
            rows[height - 1 - level][round(x * (width - 1))] = mark
    lines = [
        f"{top * (height - 1 - number) / (height - 1):8.3f} ┤{''.join(row).rstrip()}"
        if number % 3 == 0 or number == height - 1
        else f"{'':8} │{''.join(row).rstrip()}"
        for number, row in enumerate(rows)
    ]
    axis = f"{'':8} └{'─' * width}\n{'loss':>8}  λ = 0, model A{'λ = 1, model B':>{width - 14}}"
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False))
    return "\n".join([*lines, axis, f"{'':10}{legend}"])


def save_curves(curves: Mapping[str, Curve], path: Path, *, title: str) -> None:
    """Write loss curves over λ as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise MissingExtraError("drawing a picture", "plot") from problem
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(curve.lambdas, curve.losses, marker="o", markersize=3, label=name)
    axes.set(xlabel="λ (0: model A, 1: model B)", ylabel="loss", title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=150)
