from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from format_cases import random_array, same_bits
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.formats.raw import blank, bytes_of, pack, unpack
from rebasin_hub.tensors import DTYPES, TensorInfo


@given(st.binary(max_size=30).map(lambda data: data[: len(data) // 3 * 3]), st.sampled_from([4, 6]))
def test_pack_undoes_unpack(data: bytes, bits: int):
    packed = np.frombuffer(data, np.uint8)
    spread = np.empty(len(data) * 8 // bits, np.uint8)
    unpack(packed, bits, spread)
    assert spread.max(initial=0) < 2**bits
    assert pack(spread, bits).tobytes() == data


@pytest.mark.parametrize("bits", [4, 6])
def test_the_first_element_lies_in_the_lowest_bits(bits: int):
    elements = np.array([1, 2, 3, 4, 5, 6, 7, 8], np.uint8)
    number = sum(int(value) << bits * place for place, value in enumerate(elements))
    assert pack(elements, bits).tobytes() == number.to_bytes(bits, "little")


def test_four_bit_floats_are_packed_as_torch_defines_it():
    torch = pytest.importorskip("torch")
    values = np.array([0.5, -6.0, 1.5, 0.0], ml_dtypes.float4_e2m1fn)
    packed = torch.frombuffer(bytearray(bytes_of(values, "F4")), dtype=torch.uint8)
    # Float4_e2m1fn_x2.h: value 0 in bits 0 to 3, value 1 in bits 4 to 7.
    assert packed.tolist() == [0b1111_0001, 0b0000_0011]
    assert packed.view(torch.float4_e2m1fn_x2).shape == (2,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 8)])
def test_memory_of_a_blank_array_is_the_array(dtype: str, shape: tuple[int, ...]):
    array, memory = blank(TensorInfo(dtype, shape))
    wanted = random_array(dtype, shape)
    memory[:] = wanted.reshape(-1).view(np.uint8)
    assert same_bits(array, wanted)


def test_arrays_in_any_memory_order_give_c_order():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert bytes(bytes_of(array.T, "I16")) == np.ascontiguousarray(array.T).tobytes()
