"""Any matrix, by shortest augmenting paths over all of its entries."""

from __future__ import annotations

from rebasin_hub.assign.passes import Compiled
from rebasin_hub.assign.problem import Problem, Solution
from rebasin_hub.assign.small import solve_paths, solve_scipy

__all__ = ["solve_whole"]


def solve_whole(problem: Problem) -> Solution | None:
    """Solve without any assumption, by compiled code or by SciPy."""
    if not problem.plain:
        return None
    if isinstance(problem.dense, Compiled):
        columns, prices, row_prices, _ = solve_paths(problem.dense.scores[None])
        return Solution(columns[0], prices[0], row_prices[0])
    return Solution(solve_scipy(problem.dense.numpy()[None])[0], None)
