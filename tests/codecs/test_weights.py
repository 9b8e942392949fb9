"""Weights as a difference: exact to the bit, short where little moved, bounded before anything is unpacked."""

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs import weights
from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.weights import pack, unpack

ANY_BITS = st.integers(0, 2**32 - 1)


def of_bits(bits):
    return np.array(bits, dtype=np.uint32).view(np.float32)


@settings(max_examples=200, deadline=None)
@given(pairs=st.lists(st.tuples(ANY_BITS, ANY_BITS | st.just(0) | st.just(0x80000000)), min_size=1, max_size=40))
def test_any_bits_come_back(pairs):
    """Both zeros, the smallest numbers, infinities and NaN."""
    new, base = (of_bits(bits) for bits in zip(*pairs, strict=True))
    assert unpack(pack(new, base), base).view(np.uint32).tolist() == new.view(np.uint32).tolist()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 24])
def test_pieces(size, monkeypatch):
    monkeypatch.setattr(weights, "PIECE", 8)
    new, base = np.random.default_rng(size).standard_normal((2, size)).astype(np.float32)
    raw = pack(new, base)
    assert (unpack(raw, base) == new).all()
    if size:
        with pytest.raises(MalformedPayload, match="it ends after"):
            unpack(raw[:-1], base)
    with pytest.raises(MalformedPayload, match="3 bytes follow its last weight"):
        unpack(raw + b"abc", base)


def test_bytes_a_weight():
    draw = np.random.default_rng(2)
    base = draw.standard_normal(50_000).astype(np.float32)
    for share, most in ((0.0, 0.01), (1e-6, 1.1), (1e-2, 2.8), (1.0, 4.01)):
        new = (base + share * draw.standard_normal(50_000)).astype(np.float32)
        assert len(pack(new, base)) < most * 50_000


def test_a_bomb_is_refused_by_its_claim():
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(MalformedPayload, match="a piece claims 67108864 bytes"):
        unpack(struct.pack("<I", len(bomb)) + bomb, np.zeros(100, dtype=np.float32))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_bytes_are_weights_or_refused(data):
    base = np.linspace(-1, 1, 60, dtype=np.float32)
    body = bytearray(pack(base + np.float32(0.1), base))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(body[: data.draw(st.integers(0, len(body)))]), base)
    except MalformedPayload:
        return
    assert found.shape == (60,)
