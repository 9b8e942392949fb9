"""Coefficients as differences: exact from any base, never longer than the whole pool, and bounded before unpacking."""

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.broadcast import WrongBase
from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers

DOWNLINK = CoefficientDownlink()
HEADER = 9


def numbers(values):
    return WholeNumbers(np.asarray(values, dtype=np.int32))


def changed(size, count, largest, seed=0):
    draw = np.random.default_rng(seed)
    values = np.zeros(size, dtype=np.int32)
    values[draw.choice(size, count, replace=False)] = draw.integers(-largest, largest + 1, count)
    return numbers(values)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(1, 300))
def test_whatever_the_base_it_comes_out_the_same(data, size):
    whole = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3)
    sparse = st.lists(st.just(0) | whole, min_size=size, max_size=size)
    new, base = numbers(data.draw(sparse)), numbers(data.draw(sparse))
    assert DOWNLINK.decode_difference(DOWNLINK.encode_difference(new, base), base) == new


@pytest.mark.parametrize(
    ("size", "count", "largest", "most"),
    [
        (4096, 0, 1, 12),
        (4096, 1325, 20_000, 3200),  # eight clients' 200 steps each: about 3 KB
        (4096, 4096, 20_000, 8192),  # never more than the whole pool at 2 bytes
        (4096, 4096, 100, 4096),
        (12 * 4096, 1325, 20_000, 5400),  # of the last of twelve epochs, all others as they were
    ],
)
def test_bytes(size, count, largest, most):
    body = DOWNLINK.encode_difference(changed(size, count, largest), DOWNLINK.zero(size))
    assert len(body) <= most + HEADER


def test_coefficients_are_kept_as_fp32_has_them():
    values = np.array([0.0, -3.0, 2**24 - 1], dtype=np.float32)
    codes = DOWNLINK.quantise(values)
    assert DOWNLINK.dequantise(codes).tolist() == values.tolist()
    assert DOWNLINK.of_arrays(DOWNLINK.arrays(codes), 3) == codes
    assert DOWNLINK.of_arrays(DOWNLINK.arrays(codes), 2) is None
    assert DOWNLINK.of_arrays(DOWNLINK.arrays(codes), 5) == numbers([0, -3, 2**24 - 1, 0, 0])  # the run has grown
    assert DOWNLINK.of_arrays({"codes": codes.values}, 3) is None


def test_a_client_whose_run_has_fewer_epochs_is_told_so():
    """It derives another version 0."""
    for new in (DOWNLINK.zero(3 * 64), changed(3 * 64, 9, 50)):
        body = DOWNLINK.encode_difference(new, DOWNLINK.zero(3 * 64))
        with pytest.raises(MalformedPayload):
            DOWNLINK.decode_difference(body, DOWNLINK.zero(2 * 64))


def test_another_base_is_found_out():
    body = DOWNLINK.encode_difference(changed(64, 9, 50), DOWNLINK.zero(64))
    with pytest.raises(WrongBase):
        DOWNLINK.decode_difference(body, changed(64, 3, 5))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes_are_coefficients_or_refused(data):
    base = DOWNLINK.zero(100)
    body = bytearray(DOWNLINK.encode_difference(changed(100, 30, 900), base))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    try:
        found = DOWNLINK.decode_difference(bytes(body[:cut]), base)
    except MalformedPayload:
        return
    assert found.values.shape == (100,)


def test_a_bomb_is_refused_by_its_claim():
    tag = DOWNLINK.tag(DOWNLINK.zero(100))
    bomb = tag + bytes((128 | 1 << 2,)) + zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(MalformedPayload, match="it claims 67108864 bytes"):
        DOWNLINK.decode_difference(bomb, DOWNLINK.zero(100))


@pytest.mark.parametrize("form", [3, 3 << 2, 1 << 2 | 3])
def test_unknown_forms(form):
    with pytest.raises(MalformedPayload, match="unknown form"):
        DOWNLINK.decode_difference(bytes(8) + bytes((form, 0)), DOWNLINK.zero(4))


def test_too_few_bytes():
    with pytest.raises(MalformedPayload, match="too few"):
        DOWNLINK.decode_difference(bytes(8), DOWNLINK.zero(4))
