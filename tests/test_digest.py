"""Digests: equal for the same model however it is numbered, different for any changed bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from canonical_kinds import Weights, bound, kinds, renumbered
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub import rearrange
from rebasin_hub.bind import Binding, bind
from rebasin_hub.canonical import canonical_order
from rebasin_hub.digest import canonical_digest, digest_of, plain_digest, tensor_digest
from rebasin_hub.errors import PermutationError
from rebasin_hub.rearrange import rearranged
from rebasin_hub.tensors import DTYPES, TensorInfo

ALL = kinds()


def weights_of(binding: Binding, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=i.shape).astype("f4") for n, i in binding.header.items()}


def digest_in_order(binding: Binding, weights: Weights) -> str:
    read = weights.__getitem__
    return canonical_digest(binding, canonical_order(binding, read).element, read)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_renumbered_copies_have_one_canonical_digest(name: str, seed: int) -> None:
    binding = ALL[name]
    weights = weights_of(binding, seed)
    element = binding.group.random(np.random.default_rng(seed))
    copy = renumbered(binding, element, weights)
    assert digest_in_order(binding, copy) == digest_in_order(binding, weights)
    plain = [plain_digest(binding.header, w.__getitem__) for w in (weights, copy)]
    assert (plain[0] == plain[1]) == binding.group.is_identity(element)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("part_bytes", [1, 64, 1 << 19])
def test_canonical_digest_is_the_plain_one_of_the_renumbered(
    name: str, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rearrange, "CHUNK_BYTES", part_bytes)
    binding = ALL[name]
    weights = weights_of(binding, 1)
    element = binding.group.random(np.random.default_rng(2))
    read = rearranged(binding, element, weights.__getitem__)
    expected = plain_digest(binding.header, read)
    assert canonical_digest(binding, element, weights.__getitem__) == expected


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3"])
def test_packed_elements_do_not_depend_on_the_pieces(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rearrange, "CHUNK_BYTES", 1)
    binding = ALL["chain"]
    header = {"0.weight": TensorInfo(dtype, (8, 3)), "3.weight": TensorInfo(dtype, (3, 8))}
    packed = bind(binding.spec, header)
    raw = np.random.default_rng(0).integers(0, 16, (8, 3), dtype=np.uint8)
    weights = {
        "0.weight": raw.view(DTYPES[dtype].numpy),
        "3.weight": raw.T.view(DTYPES[dtype].numpy),
    }
    element = packed.group.random(np.random.default_rng(1))
    read = rearranged(packed, element, weights.__getitem__)
    assert canonical_digest(packed, element, weights.__getitem__) == plain_digest(header, read)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=10)
@given(data=st.data())
def test_any_flipped_bit_changes_the_digest(name: str, data: st.DataObject) -> None:
    binding = ALL[name]
    weights = weights_of(binding, 3)
    before = digest_in_order(binding, weights)
    tensor = data.draw(st.sampled_from(sorted(weights)))
    flipped = weights[tensor].copy()
    bits = flipped.reshape(-1).view(np.uint32)
    bits[data.draw(st.integers(0, bits.size - 1))] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert digest_in_order(binding, {**weights, tensor: flipped}) != before


def test_bits_count_where_numbers_are_equal() -> None:
    header = {"x": TensorInfo("F32", (1,))}
    zeros = [np.float32([0.0]), np.float32([-0.0])]
    nans = [np.array([bits], "u4").view("f4") for bits in (0x7FC00000, 0x7FC00001)]
    found = {plain_digest(header, {"x": x}.__getitem__) for x in (*zeros, *nans)}
    assert len(found) == 4


def test_tensors_that_nothing_renumbers_count() -> None:
    binding = ALL["heads"]
    weights = weights_of(binding, 0)
    header = {**binding.header, "extra": TensorInfo("I64", ())}
    wider = replace(binding, header=header, ignored={"extra": "not a weight"})
    found = {digest_in_order(wider, {**weights, "extra": np.array(n)}) for n in (1, 2)}
    assert len(found) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_hashed_as_a_file_holds_it(dtype: str) -> None:
    kind = DTYPES[dtype]
    patterns = 2 if dtype == "BOOL" else 1 << min(kind.bits, 8)
    raw = np.random.default_rng(0).integers(0, patterns, 24 * kind.numpy.itemsize, dtype=np.uint8)
    array = raw.view(kind.numpy)
    whole = kind.bits >= 8
    bits = np.unpackbits(raw[:, None], axis=1, count=kind.bits, bitorder="little")
    stored = raw if whole else np.packbits(bits, bitorder="little")
    assert stored.nbytes == 24 * kind.bits // 8
    assert tensor_digest(array, dtype) == hashlib.sha256(stored.tobytes()).hexdigest()


def test_stored_order_does_not_matter_but_names_types_and_shapes_do() -> None:
    header = {"a": TensorInfo("F32", (2, 3)), "b": TensorInfo("F32", (6,))}
    tensors = {"a": "0" * 64, "b": "1" * 64}
    one = digest_of(header, tensors)
    assert digest_of(dict(reversed(header.items())), tensors) == one
    others = [
        ({**header, "a": TensorInfo("F32", (3, 2))}, tensors),
        ({**header, "a": TensorInfo("I32", (2, 3))}, tensors),
        ({"c": header["a"], "b": header["b"]}, {"c": tensors["a"], "b": tensors["b"]}),
        (header, {"a": tensors["b"], "b": tensors["a"]}),
        ({"a": header["a"]}, tensors),
    ]
    assert len({one, *(digest_of(*other) for other in others)}) == 1 + len(others)


def test_a_name_cannot_pretend_to_be_two() -> None:
    info = TensorInfo("F32", (1,))
    two = digest_of({"a": info, "b": info}, {"a": "x", "b": "y"})
    forged = 'a", "F32", [1], "x"]\n["b'
    assert digest_of({forged: info}, {forged: "y"}) != two


def test_skipped_names_are_not_read() -> None:
    binding = ALL["chain"]
    weights = weights_of(binding, 0)
    skip = ("0.bias",)
    less = {name: info for name, info in binding.header.items() if name not in skip}
    kept = {name: weights[name] for name in less}
    expected = plain_digest(less, kept.__getitem__)
    assert plain_digest(binding.header, kept.__getitem__, skip) == expected
    identity = binding.group.identity()
    assert canonical_digest(binding, identity, kept.__getitem__, skip=skip) == expected


def test_a_foreign_element_is_refused() -> None:
    binding = ALL["chain"]
    with pytest.raises(PermutationError, match="another model"):
        canonical_digest(binding, {}, weights_of(binding, 0).__getitem__)


def test_the_digest_never_changes() -> None:
    """Published digests hang on these bytes."""
    binding = bound(
        "name: s\npermutations:\n  u:\ntensors:\n  a: u x\n  b: y u\n", {"a": (3, 2), "b": (2, 3)}
    )
    weights: Weights = {
        "a": np.arange(6, dtype="f4").reshape(3, 2),
        "b": np.arange(6, dtype="f4").reshape(2, 3),
    }
    assert plain_digest(binding.header, weights.__getitem__) == (
        "862c7172fd95b15ffa3424d41c7d00e53ed63652c482a1ade9be4b916611e8b8"
    )
    assert digest_in_order(binding, weights) == (
        "917e8cba27a2fdf4c2049260a8184768cc48f01aef040141cba27af914a602c5"
    )
