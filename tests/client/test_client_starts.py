"""The θ that rounds start from: decoded once for each base, and never taken for another."""

from __future__ import annotations

import numpy as np
import pytest

from fedpeft.client.starts import Starts
from fedpeft.codecs.broadcast import WrongBase, dequantise, encode_difference, quantise, zero_codes
from fedpeft.codecs.fp32 import Fp32

SIZE = 100
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)


def codes(seed):
    return quantise(np.random.default_rng(seed).normal(size=SIZE).astype(np.float32))


@pytest.fixture
def starts():
    return Starts(INITIAL)


def test_clients_that_are_sent_the_same_share_one_start(starts):
    body = encode_difference(codes(3), codes(1))
    found, theta = starts.versioned(body, 3, 1, codes(1))
    again, shared = starts.versioned(bytes(bytearray(body)), 3, 1, codes(1))  # equal bytes, another object
    assert found == again == codes(3)
    assert shared is theta
    np.testing.assert_array_equal(theta, INITIAL + dequantise(codes(3)))


def test_every_base_leads_to_the_same_version(starts):
    for number in (0, 1, 2):
        base = zero_codes(SIZE) if number == 0 else codes(number)
        found, theta = starts.versioned(encode_difference(codes(3), base), 3, number, base)
        assert found == codes(3)
        np.testing.assert_array_equal(theta, INITIAL + dequantise(codes(3)))


def test_a_client_that_holds_something_else_is_found_out_behind_one_that_does_not(starts):
    body = encode_difference(codes(3), codes(1))
    starts.versioned(body, 3, 1, codes(1))
    with pytest.raises(WrongBase):
        starts.versioned(body, 3, 1, codes(2))
    assert starts.versioned(body, 3, 1, codes(1))[0] == codes(3)


def test_another_body_under_the_same_version_is_another_start(starts):
    """A new run of the same name, or an attacker."""
    starts.versioned(encode_difference(codes(3), zero_codes(SIZE)), 3, 0, starts.zero)
    found, _ = starts.versioned(encode_difference(codes(4), zero_codes(SIZE)), 3, 0, starts.zero)
    assert found == codes(4)


def test_version_0_is_the_initial_adapter(starts):
    _, theta = starts.versioned(encode_difference(zero_codes(SIZE), zero_codes(SIZE)), 0, 0, starts.zero)
    assert theta is INITIAL


def test_the_plain_codec(starts):
    one, other = (np.full(SIZE, value, dtype=np.float32) for value in (1, 2))
    body = Fp32().encode(one)
    assert starts.plain(body) is starts.plain(bytes(bytearray(body)))
    np.testing.assert_array_equal(starts.plain(body), one)
    np.testing.assert_array_equal(starts.plain(Fp32().encode(other)), other)
