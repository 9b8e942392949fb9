"""Error feedback around a codec: the equation, and what it refuses. That it telescopes is in the contract."""

import numpy as np
import pytest

from fedpeft.codecs.feedback import compensate
from fedpeft.codecs.fp16 import Fp16
from fedpeft.codecs.fp32 import Fp32
from fedpeft.codecs.int8 import Int8
from fedpeft.errors import ClientFault

ZERO = np.zeros(4, dtype=np.float32)


def test_body_holds_delta_and_residual():
    delta, residual = np.full(4, 2.0, np.float32), np.array([1.0, -1.0, 0.5, 0.0], np.float32)
    body, left = compensate(Fp32(), delta, residual)
    assert Fp32().decode(body, 4).tolist() == [3.0, 1.0, 2.5, 2.0]
    assert left.tolist() == [0, 0, 0, 0]
    assert delta.tolist() == [2.0] * 4
    assert residual.tolist() == [1.0, -1.0, 0.5, 0.0]


def test_residual_is_what_the_codec_lost():
    delta = np.array([127.0, 0.25, -0.25, 1.0], np.float32)
    body, left = compensate(Int8(), delta, ZERO)
    assert Int8().decode(body, 4).tolist() == [127, 0, 0, 1]
    assert left.tolist() == [0, 0.25, -0.25, 0]
    assert left.dtype == np.float32


def test_what_is_too_small_to_send_arrives_in_the_end():
    """0.25 beside 127 rounds to 0 each time; with feedback a quarter of the rounds bring a 1."""
    residual, arrived = ZERO, np.zeros(4)
    for _ in range(40):
        body, residual = compensate(Int8(), np.array([127.0, 0.25, 0, 0], np.float32), residual)
        arrived += Int8().decode(body, 4)
    assert arrived[1] == pytest.approx(10, abs=0.5)


def test_saturation_is_made_up_for():
    residual, arrived = ZERO, 0.0
    for number in range(3):
        delta = np.full(4, 100_000.0 if number == 0 else 0.0, np.float32)
        body, residual = compensate(Fp16(), delta, residual)
        arrived += Fp16().decode(body, 4)[0]
    assert arrived == 100_000.0
    assert not residual.any()


@pytest.mark.parametrize("codec", [Fp32(), Fp16(), Int8()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_delta_that_is_not_finite_is_refused(codec, value):
    delta = ZERO.copy()
    delta[2] = value
    with pytest.raises(ClientFault, match="at index 2") as caught:
        compensate(codec, delta, ZERO)
    assert caught.value.code == "codec.not-finite"


def test_sum_that_overflows_is_refused():
    large = np.full(4, np.finfo(np.float32).max)
    with pytest.raises(ClientFault, match="4 of 4"):
        compensate(Int8(), large, large)
