"""Pictures and text show what a record holds."""

from __future__ import annotations

import builtins
import io

import pytest
import record_examples as examples
from rich.console import Console

from rebasin_hub.barrier import Curve
from rebasin_hub.errors import MissingExtraError, OutputError
from rebasin_hub.plot import save_record, terminal_curves
from rebasin_hub.report.render import render


def text_of(record, width: int = 100) -> str:
    out = io.StringIO()
    render(record, Console(file=out, width=width, highlight=False, soft_wrap=True, emoji=False))
    return out.getvalue()


@pytest.mark.parametrize(
    "make", [examples.barrier_record, examples.null_record, examples.plane_record]
)
def test_a_picture_is_a_png_and_the_same_each_time(make, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one.png", "two.png"):
        save_record(make(), tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png"))
    assert one.startswith(b"\x89PNG")
    assert one == two
    with pytest.raises(OutputError, match="exists already"):
        save_record(make(), tmp_path / "one.png")


def test_the_picture_draws_each_column_in_its_place(tmp_path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    record = examples.barrier_record(planes=examples.plane_record().planes)
    save_record(record, tmp_path / "a.png")
    panels = [axes for axes in drawn[0].axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "cross-entropy (in nats), test",
        "error rate, test",
        "cross-entropy (in nats), train",
        "error rate, train",
        "loss, naive, test",
        "error, naive, test",
        "loss, aligned, test",
        "error, aligned, test",
    ]
    error = panels[3].get_lines()
    train = [curve for curve in record.curves if curve.split == "train"]
    assert [list(line.get_ydata()) for line in error[:8]] == [curve.error for curve in train]
    assert len({(line.get_color(), line.get_linestyle()) for line in error[:8]}) == 8


def test_names_are_no_formulas(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    record = examples.hostile_record()
    task = record.task.model_copy(update={"loss": "$x_{1", "error": "a\x1bb"})
    save_record(record.model_copy(update={"task": task}), tmp_path / "a.png")


def test_a_plane_of_one_value_is_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    plane = examples.plane("naive", points=3)
    for value in (0.0, 2.5, None):
        flat = plane.model_copy(update={key: [[value] * 3] * 3 for key in ("loss", "error")})
        save_record(examples.plane_record(planes=[flat]), tmp_path / "a.png", force=True)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"rebasin-hub\[plot\]"):
        save_record(examples.barrier_record(), tmp_path / "a.png")


def test_losses_below_zero_are_drawn_below_zero() -> None:
    curve = Curve((0.0, 0.5, 1.0), (-1.0, 2.0, -1.0))
    lines = terminal_curves({"naive": curve}, width=41, height=4).splitlines()
    assert lines[0] == "   2.000 ┤" + " " * 20 + "●"
    assert lines[3] == "  -1.000 ┤●" + " " * 39 + "●"


def test_the_text_has_a_row_for_each_column_and_fits() -> None:
    text = text_of(examples.barrier_record())
    assert max(map(len, text.splitlines())) <= 100
    rows = [line.split() for line in text.splitlines()]
    row = "naive as is 1.4170 39.3 % 1.3400 [1.2328, 1.4472] 35.0 % [32.2, 37.8] 1.3400"
    assert row.split() in rows
    assert ["ensemble", "0.0610", "3.6", "%"] in rows
    assert "● naive, test   ○ aligned, test" in text
    assert "Alignment removed 93 % of the loss barrier." in text
    assert "note         BatchNorm statistics were recomputed" in text


def test_the_text_says_what_is_not_finite() -> None:
    text = text_of(examples.null_record())
    assert "naive as is not finite 39.3 % not finite 35.0 %" in " ".join(text.split())


def test_the_text_of_a_plane_gives_its_range() -> None:
    assert "naive test 25×25 0.0730 5.9267" in " ".join(text_of(examples.plane_record()).split())


def test_names_cannot_command_the_terminal() -> None:
    text = text_of(examples.hostile_record())
    assert "[bold]$x_{1}$" in text
    assert not {"\x1b", "\u2028", "\u202e"} & set(text)
