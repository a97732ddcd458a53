"""Three networks: figures come from the right pairs, in the right numbering."""

from __future__ import annotations

import pytest
from small import NETWORK, moved, run_small

from rebasin_hub.errors import InputError
from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.simplex import SIMPLEX
from rebasin_hub.pipeline.matching import Matching, align_models


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), "digits", None, (1, 8, 8), 10, "cpu")


@pytest.fixture(scope="module")
def result(lab):
    with pytest.MonkeyPatch.context() as patch:
        yield run_small("simplex", lab.folder, patch, widths=[16], seeds=3)


@pytest.fixture(scope="module")
def networks(lab):
    return [lab.network(NETWORK, seed=seed).path for seed in range(3)]


def test_each_network_is_the_first_one_in_turn(result) -> None:
    assert [row["seeds"] for row in result.rows] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


def test_lines_are_those_from_the_second_to_the_third(result, lab, networks, tmp_path) -> None:
    a, b, c = networks
    row = result.rows[0]
    direct = lab.line(b, c)
    assert row["naive"] == pytest.approx(direct["naive"], abs=1e-5)
    assert row["direct"] == pytest.approx(direct["aligned"], abs=1e-5)
    through = lab.line(*(_aligned(one, a, tmp_path) for one in (b, c)), align=False)["naive"]
    assert row["through"] == pytest.approx(through, abs=1e-5)
    assert row["gap"] == row["through"] - row["direct"]
    assert row["gap_universe"] == row["universe"] - row["direct"]
    # The pairs differ, or the wrong one could not be told from the right one.
    others = [lab.line(a, b)["aligned"], lab.line(a, c)["aligned"]]
    assert row["to_reference"] == pytest.approx(sum(others) / 2, abs=1e-5)
    assert min(abs(one - row["direct"]) for one in others) > 1e-3
    assert abs(row["through"] - row["direct"]) > 1e-3


def _aligned(path, reference, folder):
    """Write a copy of a network in the numbering of another."""
    file = folder / f"{path.stem}-permutations.safetensors"
    align_models(path, reference, file, matching=Matching(device="cpu"))
    return moved(path, file, folder / path.name)


def test_the_simplex_rises_at_least_as_far_as_its_edges(result, lab, networks) -> None:
    a, b, c = networks
    # A line of 13 points has those of an edge of the simplex.
    edges = [lab.line(*pair, align=False, points=13)["naive"] for pair in ((a, b), (a, c), (b, c))]
    assert result.rows[0]["simplex_naive"] >= max(edges) - 1e-5
    assert all(row["simplex"] < row["simplex_naive"] for row in result.rows)


def test_a_simplex_takes_three_networks() -> None:
    with pytest.raises(InputError, match="seeds is 2; a simplex takes 3"):
        SIMPLEX.cells({**SIMPLEX.scales["quick"], "seeds": 2})


def _row(width, direct, through):
    return {
        "width": width,
        "naive": 2.0,
        "direct": direct,
        "through": through,
        "universe": 0.2,
        "gap": through - direct,
        "simplex": through,
        "simplex_naive": 3.0,
    }


def test_a_gap_that_closes_is_told_from_one_that_is_not_seen() -> None:
    rows = [_row(16, 0.4, 0.6), _row(64, 0.146, 0.371), _row(256, 0.0, 0.01)]
    said = SIMPLEX.findings(rows, rows)
    assert "0.146 aligned to one another, and 0.371 both aligned to the first" in said[1]
    assert "a gap of 0.225, positive in 1 of 1 triples" in said[1]
    assert "largest at width 64, 0.225, and no more than 0.05 from width 256 on" in said[3]
    assert "at 2 of 3 widths (16, 64)" in said[5]
    none = [_row(16, 0.4, 0.35), _row(64, 0.1, 0.1)]
    said = SIMPLEX.findings(none, none)
    assert "positive in 0 of 1 triples" in said[0]
    assert "connectivity is not seen here" in said[2]
    assert "is still above 0.05 at the largest width" in said[3]
