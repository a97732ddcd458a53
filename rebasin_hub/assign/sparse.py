"""The best assignment on kept entries, made exact by passes over the full matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.edges import Edges
from rebasin_hub.assign.passes import compiled_code
from rebasin_hub.assign.problem import Problem, Solution
from rebasin_hub.permute import Index

__all__ = ["missed", "refine", "unrivalled"]

ROUNDS = 24
"""Passes over the full matrix after which the kept entries are given up; most need 1 to 4."""

ADDED = 64
"""Entries of a row that are added at once where its price was too low."""

REPAIRED = 1 << 22
"""Entries that are added at most so that every row finds a column."""

PATIENCE = 4
"""Columns that the shortest paths may settle, over n^1.5."""

Floats = NDArray[np.float64]


class Matcher(Protocol):
    """A matching of every row on kept entries, with prices that prove it optimal there.

    The law: prices only rise.
    """

    match: Index
    prices: Floats

    def solve(self, edges: Edges) -> bool:
        """Match what is free; False where it takes too long. Rows without a column stay free."""

    def release(self, rows: Index) -> None:
        """Make rows free again whose entries have changed."""


@dataclass(eq=False)
class PathMatcher:
    """Shortest augmenting paths by numba, going on from the prices and pairs that stand."""

    problem: Problem
    prices: Floats
    match: Index = field(init=False)

    def __post_init__(self) -> None:
        n, m = len(self.problem.kinds), self.problem.dense.shape[1]
        self.prices = self.prices.astype(np.float64)
        self.match, self._after = np.full(n, -1), np.full(n, -1)
        self._worth = np.zeros(n)
        self._load, self._head = np.zeros(m, np.int64), np.full(m, -1)

    def solve(self, edges: Edges) -> bool:
        """Match what is free; False where it takes too long. Rows without a column stay free."""
        from rebasin_hub.assign import matching

        state = (
            edges.first, edges.columns, edges.entries,
            self.problem.kinds, self.problem.capacity, self.prices,
            self.match, self._worth, self._load, self._head, self._after,
        )  # fmt: skip
        matching.reduce_rows(*state)
        patience = int(PATIENCE * len(self.match) ** 1.5)
        return int(matching.augment(*state, patience)) >= 0

    def release(self, rows: Index) -> None:
        """Make rows free again whose entries have changed."""
        from rebasin_hub.assign import matching

        matching.release(rows, self.match, self._load, self._head, self._after)


@dataclass(eq=False)
class SciPyMatcher:
    """SciPy's sparse solver from scratch, and prices for its result; no copies of rows."""

    problem: Problem
    prices: Floats
    match: Index = field(init=False)

    def __post_init__(self) -> None:
        self.match = np.full(len(self.problem.kinds), -1)

    def solve(self, edges: Edges) -> bool:
        """Match what is free; False where it takes too long. Rows without a column stay free."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching as solve

        cost = missed(edges, self.prices)
        match = unrivalled(edges, cost)
        if match is not None:
            self.match = match
            return True
        shape = self.problem.dense.shape
        # A stored zero would be no entry at all; a constant on each edge changes no optimum.
        cost += max(float(cost.max(initial=0)), 1.0)
        graph = csr_array((cost, edges.columns, edges.first), shape=shape)
        try:
            self.match = np.asarray(solve(graph)[1], dtype=np.int64)
        except ValueError:  # there is no full matching
            found = maximum_bipartite_matching(graph, perm_type="column")
            self.match = np.asarray(found, dtype=np.int64)
            return True
        return self._price(edges)

    def release(self, rows: Index) -> None:
        """Make rows free again whose entries have changed."""

    def _price(self, edges: Edges) -> bool:
        """Raise prices until every row has its best column: Bellman and Ford on the edges."""
        order = np.argsort(edges.columns, kind="stable")
        column, row, entry = edges.columns[order], edges.rows[order], edges.entries[order]
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        paired = self.problem.dense.entries(np.arange(len(self.match)), self.match)
        prices = self.prices.copy()
        for _ in range(len(prices)):
            own = paired - prices[self.match]
            raised = prices.copy()
            least = np.maximum.reduceat(entry - own[row], starts)
            raised[column[starts]] = np.maximum(prices[column[starts]], least)
            if (raised - prices).max() <= _slack(self.problem, raised) / 8:
                break
            prices = raised
        self.prices = prices
        return True


def missed(edges: Edges, prices: Floats) -> Floats:
    """Return what each entry is short of its row's best, at some prices."""
    gain = edges.entries - prices[edges.columns]
    best, some = np.zeros(len(edges.first) - 1), np.diff(edges.first) > 0
    best[some] = np.maximum.reduceat(gain, edges.first[:-1][some])
    return np.asarray(best[edges.rows] - gain)


def unrivalled(edges: Edges, cost: Floats) -> Index | None:
    """Return the column at which each row misses nothing, if there is one and all are distinct."""
    least, count = np.flatnonzero(cost == 0), len(edges.first) - 1
    if len(least) != count or len(np.unique(edges.columns[least])) != count:
        return None
    return edges.columns[least].astype(np.int64)


def refine(
    problem: Problem, edges: Edges, prices: Floats, known: NDArray[Any] | None = None
) -> Solution | None:
    """Solve on kept entries, add those that the full matrix shows to be missing, and go on.

    Where no entry of a row but the kept ones reaches `known + price`, a row that gets as much needs
    no look at the full matrix.

    The law: a solution's pairs have their rows' largest `entry - price` over the full matrix, up
    to rounding. None if too many rounds or too long paths were needed.
    """
    matcher: Matcher
    if compiled_code() is not None:
        matcher = PathMatcher(problem, prices)
    elif problem.plain:
        matcher = SciPyMatcher(problem, prices)
    else:
        return None
    count = problem.dense.shape[0]
    proven = np.full(count, np.inf) if known is None else np.array(known, dtype=np.float64)
    row_prices = np.full(count, -np.inf)
    for _ in range(ROUNDS):
        if not matcher.solve(edges):
            return None
        if (matcher.match < 0).any():
            missing = _repair(problem, matcher.match)
            if missing is None:
                return None
            edges = edges.extended(problem.dense, *missing)
            continue
        own = problem.dense.entries(problem.kinds, matcher.match) - matcher.prices[matcher.match]
        floors = np.full(count, np.inf)
        np.minimum.at(floors, problem.kinds, own)
        # As prices only rise, a row that keeps what it had has still nothing better.
        rows = np.flatnonzero(floors < proven)
        slack = _slack(problem, matcher.prices, floors)
        found = problem.dense.beyond(rows, matcher.prices, floors[rows], slack, ADDED)
        row_prices[rows], proven[rows] = found.maxima, floors[rows]
        if not len(found.rows):
            np.maximum.at(row_prices, problem.kinds, own)
            return Solution(matcher.match, matcher.prices, row_prices)
        proven[found.rows] = np.inf
        edges = edges.extended(problem.dense, found.rows, found.columns)
        matcher.release(np.flatnonzero(np.isin(problem.kinds, found.rows)))
    return None


def _repair(problem: Problem, match: Index) -> tuple[Index, Index] | None:
    """Return the entries of all free rows and free columns, on which a matching always exists."""
    load = np.bincount(match[match >= 0], minlength=problem.dense.shape[1])
    columns = np.flatnonzero(load < problem.capacity)
    rows = np.unique(problem.kinds[match < 0])
    if len(rows) * len(columns) > REPAIRED:
        return None
    return np.repeat(rows, len(columns)), np.tile(columns, len(rows))


def _slack(problem: Problem, *prices: Any) -> float:  # noqa: ANN401
    """Return what rounding may do to one sum at the scale of the prices."""
    del problem
    scale = sum(float(np.abs(p).max(initial=0)) for p in prices)
    return 16 * float(np.finfo(np.float64).eps) * scale
