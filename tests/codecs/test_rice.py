"""Golomb–Rice places: near the entropy, exact, and bounded before they are read."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.rice import _best, decode_places, encode_places, entropy_bits, most_bytes, places_bytes


def some(count, size, seed=0):
    return np.sort(np.random.default_rng(seed).choice(size, count, replace=False)).astype(np.int64)


@pytest.mark.parametrize("p", [0.01, 0.05, 0.1, 0.2, 0.5])
def test_places_and_signs_take_at_most_five_percent_more_than_the_entropy(p):
    size = 1_000_000
    body = encode_places(some(int(p * size), size), size)
    assert 8 * len(body) + p * size <= 1.05 * (entropy_bits(p) + p) * size
    assert len(body) == pytest.approx(places_bytes(int(p * size), size), rel=0.02)


@settings(max_examples=300, deadline=None)
@given(size=st.integers(1, 400), data=st.data())
def test_any_places_come_back(size, data):
    kept = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    places = np.array(sorted(kept), dtype=np.int64)
    body = encode_places(places, size)
    found, used = decode_places(body + b"more", len(places), size)
    assert (found == places).all()
    assert used == len(body) <= most_bytes(len(places), size)


def test_no_places():
    body = encode_places(np.zeros(0, dtype=np.int64), 0)
    found, used = decode_places(body, 0, 0)
    assert found.size == 0
    assert used == len(body)


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=80), count=st.integers(1, 60), size=st.integers(60, 500))
def test_any_bytes_are_places_or_refused(body, count, size):
    try:
        places, used = decode_places(body, count, size)
    except MalformedPayload:
        return
    assert used <= len(body)
    assert len(places) == count
    assert (np.diff(places) > 0).all()
    assert 0 <= places[0] <= places[-1] < size


def test_what_is_cut_or_goes_on_is_refused():
    body = encode_places(some(40, 1000), 1000)
    for length in range(len(body)):
        with pytest.raises(MalformedPayload):
            decode_places(body[:length], 40, 1000)
    for count in (39, 41):
        with pytest.raises(MalformedPayload):
            decode_places(body, count, 1000)
    with pytest.raises(MalformedPayload, match="of 1000 values, not of 900"):
        decode_places(encode_places(np.array([50]), 1000), 1, 900)


def test_a_head_that_claims_gigabytes_is_refused_at_once():
    with pytest.raises(MalformedPayload, match="do not hold 4294967295"):
        decode_places(b"\x00" + b"\xff" * 4 + bytes(100), 10, 1000)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("bits", [1, 7, 31])
def test_remainders_that_no_encoder_writes_take_no_memory(share, bits):
    """All of d places with 31 bits each would take 250 bytes a value."""
    size = 100_000
    count = int(share * size)
    quotients = np.packbits(np.ones(count + 1, dtype=np.uint8), bitorder="little").tobytes()
    head = bytes([bits]) + len(quotients).to_bytes(4, "little")
    body = head + quotients + bytes(-(-(count + 1) * bits // 8))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedPayload):
            decode_places(body, count, size)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 32 * size


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 300), data=st.data())
def test_an_encoder_takes_no_more_bits_than_without_remainders(size, data):
    """What is refused as too long is never honest: the bound is met by places of every density."""
    count = data.draw(st.integers(0, size))
    body = encode_places(some(count, size, data.draw(st.integers(0, 9))), size)
    length = int.from_bytes(body[1:5], "little")
    assert 8 * length + (count + 1) * body[0] <= size + 8
    assert len(decode_places(body, count, size)[0]) == count


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_the_number_of_bits_is_the_best_of_all(gaps):
    size = sum(gaps) + len(gaps)
    cost = [sum(gap >> b for gap in gaps) + len(gaps) * (b + 1) for b in range(min(size.bit_length(), 31) + 1)]
    assert _best(np.array(gaps, dtype=np.int64), size) == cost.index(min(cost))
