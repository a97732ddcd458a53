"""Models that are read when they are needed: the same results, bit for bit, in bounded memory."""

from __future__ import annotations

import dataclasses
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from align_kinds import KINDS, llama, mlp, random_weights

from rebasin_hub.align import METHODS, align, check_streams, nearest, pieces, totals
from rebasin_hub.align.backend import select
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.state import State
from rebasin_hub.align.streamed import streamed
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.rearrange import rearranged

STREAMING = [name for name, method in METHODS.items() if method.streams]


def both(binding: Binding, method="weight", memory: int = 0, dtype: type = np.float32, **more):
    """Align two random models of a stored type with both in memory, and within so many bytes."""
    rng = np.random.default_rng(3)
    a, b = (
        {n: x.astype(dtype) for n, x in random_weights(binding, rng, "f8").items()}
        for _ in range(2)
    )
    for array in (*a.values(), *b.values()):
        array.flags.writeable = False
    return [
        align(binding, a.__getitem__, b.__getitem__, method=method, memory=held, **more)
        for held in (None, memory)
    ]


def same(binding: Binding, one, other) -> bool:
    """Tell whether two alignments are equal in everything that they say."""
    fields = [f.name for f in dataclasses.fields(one) if f.name != "element"]
    return binding.group.equal(one.element, other.element) and all(
        getattr(one, name) == getattr(other, name) for name in fields
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_what_is_held_changes_no_bit(kind, device):
    if device != "cpu":
        pytest.importorskip("torch")
    binding = KINDS[kind]()

    whole, part = both(binding, device=device, restarts=4)

    assert same(binding, whole, part)


@pytest.mark.parametrize("method", STREAMING)
@pytest.mark.parametrize(
    "dtype", [np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.complex64]
)
def test_every_stored_type_streams(method, dtype):
    for binding in (mlp(20), llama()):
        whole, part = both(binding, method, dtype=dtype)

        assert same(binding, whole, part)


def test_units_that_are_near_are_found_without_holding_them(monkeypatch):
    monkeypatch.setattr(nearest, "LEAST_UNITS", 8)
    monkeypatch.setattr(nearest, "PROBED_WIDTH", 64)
    monkeypatch.setattr(nearest, "LEAST_SAVED", 1)
    monkeypatch.setattr(totals.Totals, "_made", None)  # for no product of all pairs is needed
    binding, rng = mlp(600), np.random.default_rng(0)
    a, element = random_weights(binding, rng), binding.group.random(rng)
    read = rearranged(binding, binding.group.invert(element), a.__getitem__)
    b = {
        n: read(n) + np.float32(0.01) * rng.standard_normal(x.shape, np.float32)
        for n, x in a.items()
    }

    whole, part = (
        align(binding, a.__getitem__, b.__getitem__, start=element, restarts=1, memory=memory)
        for memory in (None, 0)
    )

    assert same(binding, whole, part)
    assert binding.group.equal(part.element, element)


def test_large_blocks_are_cut_where_nothing_moves(monkeypatch):
    binding = llama()
    whole, part = both(binding, restarts=2)
    monkeypatch.setattr(pieces, "PIECE", 16)
    cut = {tensor.label: list(pieces.pieces(tensor)) for tensor in binding.tensors}

    in_pieces, streamed_in_pieces = both(binding, restarts=2)

    assert [block.shape for block in cut["tokens"]] == [(2, 8), (2, 8), (1, 8)]
    assert len(cut["0.norm"]) == 1  # where everything moves, nothing can be cut
    assert same(binding, in_pieces, streamed_in_pieces)
    assert binding.group.equal(in_pieces.element, whole.element)
    assert in_pieces.objective == pytest.approx(whole.objective, rel=1e-12)
    assert same(binding, whole, part)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_cover_every_number_once(kind, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 5)
    for tensor in KINDS[kind]().tensors:
        numbers = np.arange(tensor.names.size * int(np.prod(tensor.shape)))
        stacked = numbers.reshape(tensor.names.shape + tensor.shape)
        found = [block.of(stacked) for block in pieces.pieces(tensor)]

        assert [x.shape for x in found] == [block.shape for block in pieces.pieces(tensor)]
        np.testing.assert_array_equal(np.sort(np.concatenate([x.ravel() for x in found])), numbers)


def test_blocks_are_those_of_a_state_that_holds_them():
    binding, rng = llama(), np.random.default_rng(0)
    a, b = (random_weights(binding, rng) for _ in range(2))
    reads, backend = (a.__getitem__, b.__getitem__), select("cpu")
    held = State(*read_problem(binding, *reads, backend))
    with streamed(binding, *reads, backend, 0) as at:
        for _ in range(3):
            element = binding.group.random(rng)
            held.jump(element)
            at.jump(element)
            for number, term in enumerate(at.problem.terms):
                later = at.block(number)
                assert later.shape == term.block.shape == held.block(number).shape
                assert later.dtype == held.block(number).dtype
                np.testing.assert_array_equal(later.make(), held.block(number))
            assert at.objective == held.objective


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_what_is_read_is_left_as_it_is(memory):
    # Units at both ends are paired at once: then those between them move, in blocks not yet moved.
    binding, rng = mlp(20), np.random.default_rng(0)
    a = random_weights(binding, rng)
    for name in ("0.weight", "0.bias", "7.weight"):
        a[name] *= 100
    element = binding.group.identity()
    element["hidden[2]"] = np.roll(element["hidden[2]"], 1)
    read = rearranged(binding, element, a.__getitem__)
    b = {name: np.array(read(name)) for name in a}
    for array in (*a.values(), *b.values()):
        array.flags.writeable = False

    whole, part = (
        align(
            binding,
            a.__getitem__,
            b.__getitem__,
            start=binding.group.identity(),
            restarts=1,
            memory=held,
        )
        for held in (None, memory)
    )

    assert same(binding, whole, part)
    assert not binding.group.equal(part.element, binding.group.identity())


def test_numbers_that_cannot_be_compared_are_refused_as_usual():
    binding, rng = mlp(), np.random.default_rng(0)
    a, b = (random_weights(binding, rng) for _ in range(2))
    b["2.weight"][0, 0] = np.nan

    with pytest.raises(NotFiniteError, match=r"2\.weight of the model") as refused:
        align(binding, a.__getitem__, b.__getitem__, memory=0)
    with pytest.raises(NotFiniteError) as usual:
        align(binding, a.__getitem__, b.__getitem__)
    assert str(refused.value) == str(usual.value)


def test_a_method_that_holds_both_models_says_so():
    with pytest.raises(InputError, match=r"'sinkhorn' holds both models .* weight, greedy"):
        check_streams("sinkhorn:steps=3")
    with pytest.raises(InputError, match="'frank-wolfe' holds both models"):
        both(mlp(), "frank-wolfe")


def test_whether_a_search_streams_is_not_told_by_its_name():
    binding, group = mlp(), mlp().group

    def greedy(state: State, options: Options) -> Found:
        assert all(isinstance(block, np.ndarray) for block in state.b)
        return Found(group.identity(), (0.0,), (0.0,), converged=True)

    with pytest.raises(InputError, match="'greedy' holds both models"):
        both(binding, greedy)
    for method in (group.identity(), METHODS["weight"].search):
        assert same(binding, *both(binding, method))


def test_what_is_held_is_bounded():
    binding = mlp(400)
    header = {n: dataclasses.replace(info, dtype="F16") for n, info in binding.header.items()}
    binding = dataclasses.replace(binding, header=header)
    rng = np.random.default_rng(0)
    made = [random_weights(binding, rng) for _ in range(2)]
    reads = [lambda name, x=x: x[name].astype(np.float16) for x in made]

    def peak(memory: int | None) -> int:
        tracemalloc.start()
        align(binding, *reads, memory=memory, restarts=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(0)  # what is imported on the way
    weights = 2 * sum(4 * info.size for info in header.values())
    assert peak(None) > weights
    assert peak(0) < peak(None) - weights / 4
