"""The checkpoint as a form of the coefficients' downlink: the same tag, exact, and refused where it was damaged."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.broadcast import WrongBase
from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
from fedpeft.codecs.weights import pack
from fedpeft.zeroth.checkpoint import chain, digest_of, past_of

K, E, D = 32, 5, 90
START = np.linspace(-1, 1, D, dtype=np.float32)
THETA = START + np.random.default_rng(4).normal(0, 1e-3, D).astype(np.float32)
CLOSED = 3


def downlink(first=0):
    return CoefficientDownlink(K, first, START)


def numbers(seed, first=0):
    return WholeNumbers(np.random.default_rng(seed).integers(0, 900, first + E * K).astype(np.int32))


def body(new, first=0, digest=None):
    return downlink(first).encode_checkpoint(new, CLOSED, digest or digest_of(THETA), pack(THETA, START))


@pytest.mark.parametrize("first", [0, K])
def test_it_brings_the_rest_and_the_name_of_what_it_stands_for(first):
    new, own = numbers(1, first), downlink(first)
    for base in (own.zero(first + E * K), numbers(2, first)):
        found = own.decode_difference(body(new, first), base)
        assert (found.theta == THETA).all()
        assert (found.values[:first] == new.values[:first]).all()
        assert (found.values[first + CLOSED * K :] == new.values[first + CLOSED * K :]).all()
        name = chain(new.values[first:].reshape(E, K)[:CLOSED])
        assert past_of(found.values[first:], K) == (CLOSED, name)
        assert own.checkpoint_of(found) == name
        assert own.checkpoint_of(new) == b""
        assert own.tag(found) == own.tag(new)


@pytest.mark.parametrize("first", [0, K])
def test_differences_go_on_from_it(first):
    own, new = downlink(first), numbers(1, first)
    held = own.decode_difference(body(new, first), own.zero(first + E * K))
    later = WholeNumbers(new.values.copy())
    later.values[-3:] += 9
    later.values[:first] += 1
    again = own.decode_difference(own.encode_difference(later, new), held)
    assert own.tag(again) == own.tag(later)
    assert again.values[-1] == later.values[-1]
    assert own.of_arrays(own.arrays(again), first + E * K) == again
    assert own.checkpoint_of(again) == own.checkpoint_of(held)


def test_a_difference_in_what_it_stands_for_is_found_out():
    own, new = downlink(), numbers(1)
    held = own.decode_difference(body(new), own.zero(E * K))
    later = WholeNumbers(new.values.copy())
    later.values[5] += 1
    with pytest.raises(WrongBase):
        own.decode_difference(own.encode_difference(later, new), held)


def test_of_one_epoch_the_tag_is_the_hash_of_all_coefficients():
    """As it was before there were checkpoints."""
    own = WholeNumbers(np.arange(K, dtype=np.int32))
    assert CoefficientDownlink().tag(own) == CoefficientDownlink(K).tag(own)
    assert CoefficientDownlink(K).tag(own) == hashlib.sha256(own.values.astype("<i4").tobytes()).digest()[:8]


def test_another_theta_is_refused_by_its_hash():
    wrong = digest_of(START)
    with pytest.raises(MalformedPayload, match=f"θ_3 has the hash {digest_of(THETA).hex()[:16]}") as error:
        downlink().decode_difference(body(numbers(1), digest=wrong), downlink().zero(E * K))
    assert error.value.allowed == f"{wrong.hex()[:16]}, as it says"


def test_one_without_a_model_to_put_it_in_reads_none():
    with pytest.raises(MalformedPayload, match="unknown form 3"):
        CoefficientDownlink(K).decode_difference(body(numbers(1)), downlink().zero(E * K))


@pytest.mark.parametrize("epochs", [0, E + 1, 2**32 - 1])
def test_more_epochs_than_there_are(epochs):
    wrong = bytearray(body(numbers(1)))
    wrong[9:13] = epochs.to_bytes(4, "little")
    with pytest.raises(MalformedPayload, match=f"it stands for {epochs} epochs"):
        downlink().decode_difference(bytes(wrong), downlink().zero(E * K))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_bytes_are_the_checkpoint_or_refused(data):
    good = body(numbers(1))
    wrong = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3))):
        wrong[data.draw(st.integers(8, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wrong[: data.draw(st.just(len(wrong)) | st.integers(0, len(wrong)))])
    try:
        found = downlink().decode_difference(cut, downlink().zero(E * K))
    except MalformedPayload:
        return
    assert found.theta is None or (found.theta == THETA).all()
    assert downlink().tag(found) == downlink().tag(numbers(1))
