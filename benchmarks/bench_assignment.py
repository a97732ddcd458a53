"""How many times as fast as SciPy exact assignments are, large ones and awkward ones, one thread.

One thread, float32 in, SciPy and the packages lap and lapjv where they are installed, in turn
within one run; seconds are the thread's own time, which other programs on the machine distort
little. Large families: uniform entries, products of independent Gaussians, a permutation planted in
noise of twice and of three times the signal, heterogeneous norms with a shared mean, the second
layer of two networks trained on digits. Special ones: rank one and two, dead and duplicated units,
integers full of ties, tiny problems alone and in batches. Every value is compared in float64, every
certificate checked.

    OMP_NUM_THREADS=1 python benchmarks/bench_assignment.py [--sizes 4096 8192] [--repeats 3]
                                                            [--special] [--pure]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _record import record
from numpy.typing import NDArray

from rebasin_hub.assign import check_certificate, solve_assignment

SEED = 0
SPECIAL = 2048
TRAINED = 4096
SLOW = 3.0
"""Seconds above which a peer runs once."""

QUICK = 0.05
"""Seconds for which what is quick is repeated, to be measured at all."""

ALONE = 2
"""Dimensions of one matrix; a batch has three."""

Matrix = NDArray[np.float32]
Maker = Callable[[np.random.Generator, int], Matrix]
Case = Callable[[np.random.Generator], Matrix]
Pairing = Callable[[Matrix], NDArray[np.int64]]


def gaussian(rng: np.random.Generator, *shape: int) -> Matrix:
    return rng.standard_normal(shape, dtype=np.float32)


def uniform(rng: np.random.Generator, n: int) -> Matrix:
    return rng.random((n, n), dtype=np.float32)


def independent(rng: np.random.Generator, n: int) -> Matrix:
    return gaussian(rng, n, 512) @ gaussian(rng, 512, n)


def planted(rng: np.random.Generator, n: int, noise: float = 2) -> Matrix:
    a = gaussian(rng, n, 256)
    return a @ (a[rng.permutation(n)] + np.float32(noise) * gaussian(rng, n, 256)).T


def planted_deep(rng: np.random.Generator, n: int) -> Matrix:
    return planted(rng, n, noise=3)


def heterogeneous(rng: np.random.Generator, n: int) -> Matrix:
    def units() -> Matrix:
        norms = rng.lognormal(0, 0.5, (n, 1)).astype(np.float32)
        return (gaussian(rng, n, 256) + 0.5 * gaussian(rng, 1, 256)) * norms

    return units() @ units().T


def rank_one(rng: np.random.Generator, n: int) -> Matrix:
    return np.outer(gaussian(rng, n), gaussian(rng, n))


def rank_two(rng: np.random.Generator, n: int) -> Matrix:
    return gaussian(rng, n, 2) @ gaussian(rng, 2, n)


def dead(rng: np.random.Generator, n: int) -> Matrix:
    a, b = gaussian(rng, n, 256), gaussian(rng, n, 256)
    a[rng.random(n) < 0.2] = 0
    b[rng.random(n) < 0.2] = 0
    return a @ b.T


def duplicated(rng: np.random.Generator, n: int) -> Matrix:
    few = 3 * n // 4
    a, b = (gaussian(rng, n, 256)[rng.integers(0, few, n)] for _ in range(2))
    return a @ b.T


def tied(rng: np.random.Generator, n: int) -> Matrix:
    return rng.integers(0, 10, (n, n)).astype(np.float32)


def trained(_rng: np.random.Generator, n: int) -> Matrix:
    """Return the second layer's similarity of two MLPs of seeds 0 and 1, first layer aligned."""
    (w1, w2, w3), (v1, v2, v3) = (_network(seed, n) for seed in (0, 1))
    first = solve_assignment(w1 @ v1.T).columns
    return w2 @ v2[:, first].T + w3.T @ v3


def _network(seed: int, n: int) -> list[Matrix]:
    import torch
    from sklearn.datasets import load_digits

    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    layers = [torch.nn.Linear(a, b, bias=False) for a, b in ((64, n), (n, n), (n, 10))]
    relu = torch.nn.ReLU()
    model = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(6):
        for rows in torch.randperm(len(x)).split(256):
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [layer.weight.detach().numpy() for layer in layers]


LARGE = (uniform, independent, planted, planted_deep, heterogeneous)
STRUCTURED = (rank_one, rank_two, dead, duplicated, tied)


def peers() -> dict[str, Pairing]:
    from scipy.optimize import linear_sum_assignment

    found: dict[str, Pairing] = {"scipy": lambda c: linear_sum_assignment(c, maximize=True)[1]}
    try:
        import lap

        found["lap.lapjv"] = lambda c: lap.lapjv(-c)[1]
    except ImportError:
        pass
    try:
        import lapjv

        found["lapjv float32"] = lambda c: lapjv.lapjv(-c)[0]
    except ImportError:
        pass
    return found


def compared(matrix: Matrix, repeats: int) -> dict[str, object]:
    """Return the times of all, in turn, and the ratio of medians of SciPy's to ours."""
    batch = matrix.reshape(-1, *matrix.shape[-2:])
    found = solve_assignment(matrix)
    assert check_certificate(matrix, found)
    rivals = peers()
    times: dict[str, list[float]] = {name: [] for name in ("rebasin-hub", *rivals)}
    values: dict[str, float] = {"rebasin-hub": float(found.value.sum())}
    for _ in range(repeats):
        times["rebasin-hub"].append(_timed(lambda: solve_assignment(matrix))[0])
        for name, solve in rivals.items():
            if times[name] and times[name][0] > SLOW:
                continue
            work = partial(solve, matrix) if matrix.ndim == ALONE else partial(_each, solve, batch)
            seconds, pairs = _timed(work)
            times[name].append(seconds)
            pairs = [pairs] if matrix.ndim == ALONE else pairs
            values[name] = sum(_value(x, p) for x, p in zip(batch, pairs, strict=True))
    assert np.isclose(values["scipy"], values["rebasin-hub"], rtol=1e-13, atol=0)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "solver": found.solver,
        "gap": float(found.gap.max()),
        "ratio_to_scipy": medians["scipy"] / medians["rebasin-hub"],
        "medians": medians,
        "values": values,
        "seconds": times,
    }


def _each(solve: Pairing, batch: Matrix) -> list[NDArray[np.int64]]:
    return [solve(x) for x in batch]


def _value(matrix: Matrix, columns: NDArray[np.int64]) -> float:
    return float(matrix[np.arange(len(matrix)), columns].astype(np.float64).sum())


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the thread's seconds, the mean of as many calls as it takes, and the result."""
    calls = 1
    while True:
        start = time.thread_time()
        for _ in range(calls):
            result = work()
        passed = time.thread_time() - start
        if passed >= QUICK:
            return passed / calls, result
        calls *= 2


def without_numba() -> None:
    """Leave what NumPy and SciPy alone can do."""
    from rebasin_hub.assign import candidates, merged, ordered, passes, small, sparse

    for module in (candidates, merged, ordered, passes, small, sparse):
        module.compiled_code = lambda: None  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 8192, 14336])
    names = [make.__name__ for make in LARGE]
    parser.add_argument("--families", nargs="*", default=names, choices=names)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--special", action="store_true", help="structured and tiny ones too")
    parser.add_argument("--pure", action="store_true", help="as if numba were not installed")
    options = parser.parse_args()
    if options.pure:
        without_numba()
    for make in (*LARGE, *STRUCTURED):  # machine code is compiled or loaded now
        solve_assignment(make(np.random.default_rng(SEED), 1024))
    for n in options.sizes:
        chosen = [make for make in LARGE if make.__name__ in options.families]
        makers = (*chosen, trained) if n == TRAINED else chosen
        _recorded(str(n), [(make.__name__, partial(make, n=n)) for make in makers], options)
    if options.special:
        _recorded("special", [*_structured(), *_tiny()], options)


def _structured() -> list[tuple[str, Case]]:
    return [(f"{make.__name__} {SPECIAL}", partial(make, n=SPECIAL)) for make in STRUCTURED]


def _tiny() -> list[tuple[str, Case]]:
    def several(rng: np.random.Generator, make: Maker, n: int, count: int) -> Matrix:
        made = [make(rng, n) for _ in range(count)]
        return made[0] if count == 1 else np.stack(made)

    shapes = [(n, 1) for n in (8, 32, 64, 128, 512)]
    shapes += [(8, 1024), (32, 1024), (64, 1024), (128, 256)]
    return [
        (f"{make.__name__} {count} of {n}", partial(several, make=make, n=n, count=count))
        for n, count in shapes
        for make in (independent, planted)
    ]


def _recorded(name: str, cases: list[tuple[str, Case]], options: argparse.Namespace) -> None:
    figures: dict[str, object] = {
        "seed": SEED,
        "repeats": options.repeats,
        "numba": not options.pure,
    }
    for case, make in cases:
        result = compared(make(np.random.default_rng(SEED)), options.repeats)
        figures[case] = result
        seconds = result["medians"]
        assert isinstance(seconds, dict)
        print(
            f"{name} {case:24} {seconds['scipy']:11.6f} s {seconds['rebasin-hub']:11.6f} s "
            f"{result['ratio_to_scipy']:8.2f}×  {result['solver']}",
            flush=True,
        )
        # What has been measured stays, whatever becomes of the rest.
        suffix = "_pure" if options.pure else ""
        record(f"assignment_{name}{suffix}", str(__doc__).splitlines()[0], figures)


if __name__ == "__main__":
    main()
