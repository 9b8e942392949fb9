"""Directions are the bits that the specification says, whoever makes whichever part of them."""

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.randomness import derive, directions, walsh
from fedpeft.randomness.directions import add_signs, packed, packed_of_words, signs, words
from fedpeft.randomness.keystream import keystream

KEY = derive(3, "directions")
GOLDEN = json.loads((Path(__file__).parent / "directions_golden.json").read_text())
SIZE = 5000


def single(count=SIZE):
    """z by the specification, a bit at a time."""
    out = bytearray(-(-count // 8))
    keystream(KEY, 0, out)
    return np.array([1 if out[i // 8] >> i % 8 & 1 else -1 for i in range(count)], dtype=np.float32)


def test_the_examples():
    for module in (directions, walsh):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: f"{entry['seed']}-{entry['parts']}")
def test_golden_values(entry):
    """`simulations/DIRECTIONS.md` prints some of these: they may never change."""
    key = derive(entry["seed"], *entry["parts"])
    assert key.hex() == entry["key"]
    assert packed(key, entry["begin"], 128).tobytes().hex() == entry["single"]
    assert words(key, entry["begin"], 8).tolist() == entry["words"]


def test_a_single_stream_is_what_the_specification_says():
    assert (signs(packed(KEY, 0, SIZE), SIZE) == single()).all()


@given(begin=st.integers(0, 400), count=st.integers(0, 900))
def test_any_slice_of_a_single_stream(begin, count):
    found = signs(packed(KEY, 8 * begin, count), count)
    assert (found == single()[8 * begin : 8 * begin + count]).all()


def test_signs_begin_at_whole_bytes():
    with pytest.raises(ValueError, match="begin = 4 must be a multiple of 8"):
        packed(KEY, 4, 8)


@given(begin=st.integers(0, 1000), count=st.integers(1, 500), number=st.integers(0, 15))
def test_a_direction_of_pool_words(begin, count, number):
    whole = words(KEY, 0, 1500)
    found = words(KEY, begin, count)
    assert (found == whole[begin : begin + count]).all()
    wanted = np.where(found >> number & 1, 1, -1)
    assert (signs(packed_of_words(found, number), count) == wanted).all()


def test_pool_words_are_little_endian():
    out = bytearray(4)
    keystream(KEY, 0, out)
    assert words(KEY, 0, 2).tolist() == [out[0] | out[1] << 8, out[2] | out[3] << 8]


@given(count=st.integers(1, 3000), scale=st.floats(-1e3, 1e3, width=32))
def test_adding_signs_rounds_once(count, scale):
    start = np.linspace(-1, 1, count, dtype=np.float32)
    moved = start.copy()
    add_signs(moved, packed(KEY, 0, count), scale)
    assert (moved == start + np.float32(scale) * single(count)).all()


def test_adding_signs_in_several_pieces():
    count = 3 * 65536 + 5
    moved = np.zeros(count, dtype=np.float32)
    add_signs(moved, packed(KEY, 0, count), 0.5)
    assert (moved[-70000:] == 0.5 * signs(packed(KEY, 0, count), count)[-70000:]).all()


def test_signs_are_fair_and_do_not_know_each_other():
    n = 1 << 16
    one, other = signs(packed(KEY, 0, n), n), signs(packed(derive(3, "directions", 1), 0, n), n)
    for total in (one.sum(), other.sum(), one @ other, one[1:] @ one[:-1]):
        assert abs(total) < 5 * np.sqrt(n)


# --- Walsh–Hadamard ---


@pytest.mark.parametrize("size", [1, 2, 16, 256])
def test_the_transform_is_the_matrix(size):
    rows = np.array([walsh.row(number, size) for number in range(size)])
    assert (rows @ rows.T == size * np.eye(size)).all()
    values = np.arange(size) ** 3 - 7
    assert (walsh.walsh(values) == rows @ values).all()


def test_the_transform_is_exact_where_floats_are_not():
    values = np.array([2**60, 1, -(2**60), 1])
    assert walsh.walsh(values).tolist() == [2, -2, 2**61, 2**61]


@pytest.mark.parametrize("size", [0, 3, 12])
def test_only_powers_of_two(size):
    with pytest.raises(ValueError, match="power of two"):
        walsh.walsh(np.zeros(size, dtype=np.int64))
