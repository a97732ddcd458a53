"""The demo trains, aligns, merges and tells the truth about it."""

import pytest

from rebasin_hub.barrier import Curve, grid
from rebasin_hub.errors import OutputError
from rebasin_hub.plot import terminal_curves


def curve(losses):
    return Curve(grid(len(losses)), tuple(losses))


def test_barriers_follow_their_definitions():
    hill = curve([1.0, 4.0, 2.0])
    assert hill.entezari == 4.0 - 1.5
    assert hill.frankle == 4.0 - 1.5
    slope = curve([1.0, 2.5, 3.0])
    assert slope.entezari == 0.5
    assert slope.frankle == 1.0
    assert slope.midpoint == 2.5
    assert curve([1.0, 0.0, 1.0]).entezari == 0
    assert len(grid()) == 25


def test_curves_are_drawn_where_they_are():
    lines = terminal_curves({"naive": curve([0, 3, 0])}, width=41, height=4).splitlines()
    assert lines[0] == "   3.000 ┤" + " " * 20 + "●"
    assert lines[3] == "   0.000 ┤●" + " " * 39 + "●"
    assert "● naive" in lines[-1]


def column(record, numbering):
    return next(
        c
        for c in record.curves
        if (c.numbering, c.treatment, c.split) == (numbering, "as is", "test")
    )


def test_the_demo_removes_a_barrier_and_leaves_its_files(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from rebasin_hub.demo import run_demo
    from rebasin_hub.demo.run import FILES

    record = run_demo(tmp_path)
    out = capsys.readouterr().out
    naive, aligned = (
        column(record, numbering).entezari.loss.value for numbering in ("naive", "aligned")
    )
    assert naive > 0.3
    assert aligned < 0.05
    assert f"Alignment removed {100 * (1 - aligned / naive):.0f} % of the loss barrier" in out
    assert "rebasin-hub barrier" in out
    assert {"rebasin.json", "report.html"} <= {p.name for p in (tmp_path / "barrier").iterdir()}
    assert "$ rebasin-hub canonicalize" in out
    assert {p.name for p in tmp_path.iterdir()} == set(FILES)
    with pytest.raises(OutputError, match="of an earlier run"):
        run_demo(tmp_path)
