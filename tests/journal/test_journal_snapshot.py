"""Arrays and metadata survive packing bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpeft.errors import JournalError
from fedpeft.journal.snapshot import pack, unpack

dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


def assert_same(found, packed):
    assert found.keys() == packed.keys()
    for name, array in packed.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes()  # NaN payloads and -0.0 too


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_any_arrays_come_back_bit_by_bit(packed):
    found, meta = unpack(pack(packed, {}))
    assert_same(found, packed)
    assert meta == {}


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5, dtype=np.float32),
        np.zeros((0, 4), dtype=np.float64),
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
        np.arange(10, dtype=np.uint64)[::-2],
        np.array([1.5, -0.0, np.nan], dtype=">f4"),
        np.array([2**64 - 1], dtype=np.uint64),
    ],
    ids=["0-d", "empty", "transposed", "strided", "big-endian", "uint64"],
)
def test_awkward_memory_comes_back(array):
    found, _ = unpack(pack({"x": array}, {}))
    assert_same(found, {"x": array})


def test_metadata_comes_back_and_arrays_are_writable():
    meta = {"round": 3, "rate": 0.1, "names": ["a", "é"], "nested": {"none": None}}
    found, again = unpack(pack({"x": np.ones(3, dtype=np.float32)}, meta))
    assert again == meta
    found["x"] += 1
    assert found["x"].tolist() == [2, 2, 2]


def test_equal_input_gives_equal_bytes_whatever_its_order():
    one, two = np.ones(3, dtype=np.float32), np.zeros(2, dtype=np.int64)
    assert pack({"a": one, "b": two}, {"x": 1, "y": 2}) == pack({"b": two, "a": one}, {"y": 2, "x": 1})


@pytest.mark.parametrize(
    ("packed", "meta", "named"),
    [
        ({"bad": np.array(["text"])}, {}, '"bad"'),
        ({"bad": np.array([object()])}, {}, '"bad"'),
        ({"bad": np.ones(2, dtype=np.complex64)}, {}, '"bad"'),
        ({"__metadata__": np.ones(2)}, {}, '"__metadata__"'),
        ({}, {"rate": float("nan")}, "rate"),
        ({}, {"rate": np.float32(1)}, "rate"),
    ],
    ids=["text", "object", "complex", "reserved name", "nan", "numpy scalar"],
)
def test_what_cannot_be_kept_is_refused_by_name(packed, meta, named):
    with pytest.raises(JournalError, match=named) as caught:
        pack(packed, meta)
    assert caught.value.code == "journal.snapshot"


def test_malformed_bytes_are_a_named_error():
    content = pack({"x": np.arange(4, dtype=np.float32)}, {"round": 1})
    foreign = content.replace(b'"meta"', b'"atem"')
    for wrong in (
        b"",
        b"\xff" * 100,
        content[:-1],
        content + b"\x00",
        foreign,
        *(content[:cut] for cut in range(0, 90, 7)),
    ):
        with pytest.raises(JournalError) as caught:
            unpack(wrong)
        assert caught.value.code == "journal.snapshot"
