"""How many times as fast as SciPy exact assignments are, large ones and awkward ones, one thread.

One thread, float32 in, SciPy and the packages lap, lapx and lapjv where they are installed, in turn
within one run. Large families: uniform entries, products of independent Gaussians, a permutation
planted in noise of twice and of three times the signal, heterogeneous norms with a shared mean,
the second layer of two networks trained on digits. Special ones: rank one, dead and duplicated
units, integers full of ties, tiny problems alone and in batches. Every value is compared in
float64, every certificate checked.

    OMP_NUM_THREADS=1 python benchmarks/bench_assignment.py [--sizes 4096 8192] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from _record import record
from numpy.typing import NDArray

from rebasin_hub.assign import check_certificate, solve_assignment

SEED = 0
SPECIAL = 2048
TRAINED = 4096
SLOW = 20.0
"""Seconds above which a peer runs once."""

Matrix = NDArray[np.float32]
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
STRUCTURED = (rank_one, dead, duplicated, tied)


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
        times["rebasin-hub"].append(_seconds(lambda: solve_assignment(matrix)))
        for name, solve in rivals.items():
            if times[name] and times[name][0] > SLOW:
                continue
            pairs: list[NDArray[np.int64]] = []
            work = lambda solve=solve, pairs=pairs: pairs.extend(solve(x) for x in batch)  # noqa: E731
            times[name].append(_seconds(work))
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


def _value(matrix: Matrix, columns: NDArray[np.int64]) -> float:
    return float(matrix[np.arange(len(matrix)), columns].astype(np.float64).sum())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 8192, 14336])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cases = [(make, n) for n in options.sizes for make in LARGE]
    cases += [(trained, TRAINED), *((make, SPECIAL) for make in STRUCTURED)]
    figures: dict[str, object] = {"seed": SEED, "repeats": options.repeats}
    for make in (*LARGE, *STRUCTURED):  # machine code is compiled or loaded now
        solve_assignment(make(np.random.default_rng(SEED), 1024))
    for make, n in cases:
        matrix = make(np.random.default_rng(SEED), n)
        _noted(figures, f"{make.__name__} {n}", matrix, options.repeats)
    for n, count in ((64, 1024), (128, 256), (512, 1)):
        rng = np.random.default_rng(SEED)
        matrix = np.stack([independent(rng, n) for _ in range(count)])
        _noted(figures, f"tiny {count} of {n}", matrix, options.repeats)
    record("assignment", str(__doc__).splitlines()[0], figures)


def _noted(figures: dict[str, object], name: str, matrix: Matrix, repeats: int) -> None:
    figures[name] = result = compared(matrix, repeats)
    print(f"{name:24} {result['ratio_to_scipy']:8.2f}×  {result['solver']}", flush=True)


if __name__ == "__main__":
    main()
