from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from format_cases import LIBRARY_NAMES, by_library, entry, names, random_array, raw_file, tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.header import MAX_HEADER, encode, parse, storage_order
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.formats.safetensors import SafetensorsCheckpoint
from rebasin_hub.tensors import DTYPES, TensorInfo, dtype_of

PLACE = Path("model.safetensors")


def written(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    header = {name: TensorInfo(dtype_of(array), array.shape) for name, array in arrays.items()}
    data = [bytes(bytes_of(arrays[name], header[name].dtype)) for name in storage_order(header)]
    return encode(header, metadata) + b"".join(data)


@given(tensors(tuple(LIBRARY_NAMES)), st.none() | st.dictionaries(st.text(), st.text(), max_size=1))
@settings(max_examples=200)
def test_files_are_those_of_the_library_byte_for_byte(arrays, metadata):
    if not arrays and metadata == {}:
        return  # the library writes broken JSON here
    try:
        wanted = by_library(arrays, metadata)
    except UnicodeEncodeError:
        return  # half a surrogate pair, which neither can write
    assert written(arrays, metadata) == wanted


def test_every_type_at_once_in_the_order_of_the_library():
    arrays = {f"{i}": random_array(dtype, (2, 4)) for i, dtype in enumerate(LIBRARY_NAMES)}
    assert written(arrays) == by_library(arrays)


def test_files_of_the_torch_binding_are_the_same():
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    model = {
        "a": torch.arange(4, dtype=torch.bfloat16),
        "b": torch.arange(6, dtype=torch.uint8).view(torch.float4_e2m1fn_x2).reshape(2, 3),
        "c": torch.zeros(3, dtype=torch.float8_e8m0fnu),
        "ö": torch.ones((), dtype=torch.complex64),
    }
    stored = {name: bytes(t.reshape(-1).view(torch.uint8).numpy()) for name, t in model.items()}
    header = {
        "a": TensorInfo("BF16", (4,)),
        "b": TensorInfo("F4", (2, 6)),
        "c": TensorInfo("F8_E8M0", (3,)),
        "ö": TensorInfo("C64", ()),
    }
    ours = encode(header, {"format": "pt"}) + b"".join(stored[n] for n in storage_order(header))
    assert ours == save(model, {"format": "pt"})


def test_metadata_is_sorted_and_says_what_the_library_says():
    arrays = {"w": random_array("F32", (2,))}
    metadata = {"z": "1", "a": 'q"\\/\n\x7f\u2028\x01😀', "": "x"}
    ours = written(arrays, metadata)
    theirs = by_library(arrays, metadata)  # in an order that changes from run to run
    assert len(ours) == len(theirs)
    assert sorted(ours) == sorted(theirs)
    length = int.from_bytes(ours[:8], "little")
    assert list(json.loads(ours[8 : 8 + length])["__metadata__"]) == ["", "a", "z"]


def test_empty_metadata_without_tensors_is_left_out():
    assert encode({}, {}) == encode({}, None) == by_library({})


@given(st.dictionaries(names, st.sampled_from(list(DTYPES)), max_size=5))
def test_parse_undoes_encode(dtypes: dict[str, str]):
    header = {name: TensorInfo(dtype, (2, 4)) for name, dtype in dtypes.items()}
    text = encode(header, {"k": "v"})[8:]
    data = sum(info.nbytes for info in header.values())
    found = parse(text, data, PLACE)
    assert {name: extent.info for name, extent in found.tensors.items()} == header
    assert list(found.tensors) == storage_order(header)
    assert found.metadata == {"k": "v"}


@pytest.mark.parametrize(
    ("header", "metadata", "reason"),
    [
        ({"__metadata__": TensorInfo("F32", (1,))}, None, "cannot be called '__metadata__'"),
        ({"x": TensorInfo("F4", (3,))}, None, "do not fill whole bytes"),
        ({"\ud800": TensorInfo("F32", (1,))}, None, "not valid Unicode"),
        ({}, {"a": "x" * MAX_HEADER}, "more than the 100,000,000"),
    ],
)
def test_what_cannot_be_stored_is_refused(header, metadata, reason):
    with pytest.raises(OutputError, match=re.escape(reason)):
        encode(header, metadata)


GOOD = entry("U8", [2], 0, 2)
BAD = {
    "not an object": (b"[1]    ", b"", "byte 9 must be '{', found b'['"),
    "damaged": (b'{"x": {"dty', b"", "not valid JSON"),
    "nested": (b'{"x":' * 100_000, b"", "not valid JSON"),
    "endless integer": (b'{"x":{"shape":[' + b"9" * 5000 + b"]}}", b"", "not valid JSON"),
    "NaN": (b'{"x": NaN}', b"", "NaN is no JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not valid JSON"),
    "half a surrogate": (b'{"\\ud800": 1}', b"", "not valid JSON"),
    "twice": (b'{"x": {}, "x": {}}', b"", "names 'x' twice"),
    "twice inside": (b'{"x": {"dtype": "U8", "dtype": "I8"}}', b"", "names 'dtype' twice"),
    "metadata is a tensor": ({"__metadata__": GOOD}, b"ab", "cannot be called '__metadata__'"),
    "metadata is a list": ({"__metadata__": []}, b"", "must be a JSON object of texts"),
    "metadata number": ({"__metadata__": {"epoch": 3}}, b"", "metadata 'epoch' must be text"),
    "entry": ({"x": 3}, b"", "tensor 'x': its header entry is not an object"),
    "lacks": ({"x": {"dtype": "U8"}}, b"", "lacks data_offsets, shape"),
    "dtype": ({"x": entry("F7", [2], 0, 2)}, b"ab", "tensor 'x': its dtype 'F7' is not one of"),
    "dtype list": ({"x": entry([], [2], 0, 2)}, b"ab", "its dtype [] is not"),
    "negative": ({"x": entry("U8", [-2], 0, 2)}, b"ab", "its shape [-2] is not a list of non-neg"),
    "float": ({"x": entry("U8", [2.0], 0, 2)}, b"ab", "its shape [2.0] is not"),
    "true": ({"x": entry("U8", [True], 0, 1)}, b"a", "its shape [True] is not"),
    "three offsets": (
        {"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2, 2]}},
        b"ab",
        "are not two non-negative integers",
    ),
    "size": ({"x": entry("F32", [2], 0, 2)}, b"ab", "takes 8 bytes, its data_offsets [0, 2] span"),
    "backwards": ({"x": entry("U8", [0], 2, 0)}, b"ab", "span -2"),
    "huge": ({"x": entry("U8", [2**62, 4], 0, 2)}, b"ab", "larger than any memory"),
    "huge beside zero": ({"x": entry("U8", [0, 2**63], 0, 0)}, b"", "larger than any memory"),
    "axes": ({"x": entry("U8", [1] * 40, 0, 1)}, b"a", "has 40 axes, more than 32"),
    "half a byte": ({"x": entry("F4", [3], 0, 1)}, b"a", "does not fill whole bytes"),
    "hole": ({"x": entry("U8", [2], 1, 3)}, b"abc", "they leave a hole"),
    "overlap": ({"x": GOOD, "y": entry("U8", [2], 1, 3)}, b"abc", "of 'x' end at 2: they overlap"),
    "cut off": ({"x": GOOD}, b"a", "is cut off: its tensors take 2 bytes, only 1 are there"),
    "longer": ({"x": GOOD}, b"abc", "1 bytes follow the last tensor"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_headers_are_refused_with_their_place_and_reason(case: str, tmp_path: Path):
    header, data, reason = BAD[case]
    path = raw_file(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        SafetensorsCheckpoint(path)
    assert str(caught.value).startswith(f"{path}: ")


@given(st.binary(max_size=200))
def test_no_header_text_raises_anything_else(text: bytes):
    with contextlib.suppress(FormatError):
        parse(b"{" + text, 8, PLACE)


@given(st.data())
def test_whatever_the_library_refuses_is_refused(data: st.DataObject):
    dtype = data.draw(st.sampled_from([*DTYPES, "F128"]))
    shape = data.draw(st.lists(st.integers(-1, 3), max_size=2))
    start, end = data.draw(st.integers(-1, 3)), data.draw(st.integers(-1, 8))
    content = data.draw(st.binary(max_size=8))
    text = json.dumps({"x": entry(dtype, shape, start, end)}).encode()
    from safetensors import deserialize

    try:
        deserialize(len(text).to_bytes(8, "little") + text + content)
    except SafetensorError:
        with pytest.raises(FormatError):
            parse(text, len(content), PLACE)
    else:
        parse(text, len(content), PLACE)


def test_files_in_another_order_are_read_in_that_of_their_bytes(tmp_path: Path):
    header = {"b": entry("U8", [0], 2, 2), "c": entry("U8", [1], 2, 3), "a": GOOD}
    path = raw_file(tmp_path / "x.safetensors", header, b"xyz")
    with SafetensorsCheckpoint(path) as found, safe_open(path, "np") as theirs:
        assert list(found.header) == ["a", "b", "c"]
        for name in found.header:
            assert found.read(name).tolist() == theirs.get_tensor(name).tolist()
