"""Broadcasts by any codec: every way to a version gives the same bits, and what a codec loses goes out later."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.broadcast import WrongBase, dequantise, quantise, zero_codes
from fedpeft.codecs.downlink import SteppingDownlink
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.codecs.sign import Sign
from fedpeft.registry import build

CODECS = ["sign", "int4(dither)", "topk(0.1)+sign", "uniform(1.2)+zstd", "rotate+int4", "fp16", "bf16"]
LARGEST = float(np.finfo(np.float32).max)


def downlink_of(name):
    return FeedbackDownlink(build("codec", name, {}))


@pytest.fixture(params=CODECS)
def downlink(request):
    return downlink_of(request.param)


def walk(downlink, size=1000, count=5, scale=1e-2):
    """θ_t − θ_0 and the codes of all versions, and the steps: steps[t - 1] leads to codes[t]; None: made anew."""
    theta, thetas, steps, codes = np.zeros(size, np.float32), [], [], [downlink.zero(size)]
    thetas.append(theta)
    for number in range(1, count):
        noise = np.random.default_rng([number, size]).standard_normal(size)
        theta = theta + (noise * scale / number).astype(np.float32)
        step, new = downlink.step(theta, codes[-1])
        thetas.append(theta)
        steps.append(step)
        codes.append(new)
    return thetas, steps, codes


def test_it_keeps_the_contract(downlink):
    assert isinstance(downlink, SteppingDownlink)


@pytest.mark.parametrize("name", ["sign", "int4(dither)", "topk(0.1)+sign", "uniform(1.2)+zstd"])
def test_a_step_is_the_paper_s(name):
    """b_t = Q(b_{t−1} + C(θ_t − b_{t−1}))."""
    downlink = downlink_of(name)
    thetas, steps, codes = walk(downlink, size=5000)
    for number, (last, new) in enumerate(pairwise(codes)):
        held, lacking = dequantise(last), thetas[number + 1] - dequantise(last)
        assert steps[number] == downlink.codec.encode(lacking)
        assert new == quantise(held + downlink.codec.decode(steps[number], lacking.size))


@pytest.mark.parametrize("name", ["fp16", "bf16", "uniform(0.01)+zstd"])
def test_a_codec_of_more_bits_than_codes_have_is_as_int8(name):
    thetas, steps, codes = walk(downlink_of(name), size=5000)
    assert steps == [None] * 4
    assert [new == quantise(theta) for new, theta in zip(codes, thetas, strict=True)] == [True] * 5


class Loud(Sign):
    """Says four times what it should: fed to itself, what is owed would grow without end."""

    def decode(self, body, size):
        return 4 * super().decode(body, size)


def test_a_step_that_lessens_nothing_is_not_taken():
    thetas, steps, codes = walk(FeedbackDownlink(Loud()), size=5000)
    assert steps == [None] * 4
    assert codes[-1] == quantise(thetas[-1])


def test_what_is_owed_is_less_than_half_a_code_in_the_end():
    """By signs alone, values that are below the mean loss would wait for ever."""
    downlink, theta = downlink_of("sign"), np.random.default_rng(0).standard_normal(64).astype(np.float32)
    codes = downlink.zero(64)
    for _ in range(200):
        _, codes = downlink.step(theta, codes)
    assert np.abs(theta - dequantise(codes)).max() <= 2.0 ** codes.exponents[0] / 2


@pytest.mark.parametrize("told", [True, False], ids=["steps", "difference"])
def test_every_way_gives_the_same_bits(downlink, told):
    _, steps, codes = walk(downlink)
    for base in range(len(codes)):
        missed = steps[base:] if told and None not in steps[base:] else None
        body = downlink.encode(codes[-1], codes[base], missed)
        assert downlink.decode_difference(body, codes[base]) == codes[-1]


def test_a_body_is_the_shorter_of_both():
    downlink = downlink_of("sign")
    _, steps, codes = walk(downlink, size=20_000, count=12)
    one = downlink.encode(codes[-1], codes[-2], steps[-1:])
    assert len(one) == 1 + 8 + 1 + 4 + len(steps[-1])
    all_of_them = downlink.encode(codes[-1], codes[0], steps)
    assert len(all_of_them) < 14 + sum(map(len, steps))
    assert all_of_them == downlink.encode_difference(codes[-1], codes[0])


def test_what_is_lost_goes_out_later(downlink):
    """θ stands still: in the end clients hold it, but for the rounding to codes and the codec's last loss."""
    theta = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    codes, owed = downlink.zero(theta.size), []
    for _ in range(60):
        _, codes = downlink.step(theta, codes)
        owed.append(np.linalg.norm(theta - dequantise(codes)) / np.linalg.norm(theta))
    assert owed[-1] < 0.02
    assert owed[-1] <= owed[0]


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 1e-45, 1e-40])
def test_extreme_values_stay_finite(downlink, value):
    codes = downlink.zero(65)
    for sign in (1, -1, 1):
        _, codes = downlink.step(np.full(65, sign * value, np.float32), codes)
        assert np.isfinite(dequantise(codes)).all()


def test_another_base_is_told_by_its_code():
    """Of `sign`, whose steps are short: a step on top of something else does not lead to what the body says."""
    downlink = downlink_of("sign")
    _, steps, codes = walk(downlink, size=5000)
    body = downlink.encode(codes[4], codes[3], steps[3:])
    assert body[:1] == b"\x01"
    with pytest.raises(WrongBase):
        downlink.decode_difference(body, codes[2])


@pytest.mark.parametrize("length", [0, 1, 5, 9, 10, 13, 14, 20])
def test_a_cut_body_is_refused(length):
    downlink = downlink_of("sign")
    _, steps, codes = walk(downlink, size=5000)
    body = downlink.encode(codes[4], codes[3], steps[3:])
    with pytest.raises(MalformedPayload):
        downlink.decode_difference(body[:length], codes[3])
    with pytest.raises(MalformedPayload):
        downlink.decode_difference(body + b"\x00", codes[3])


def test_no_step_is_longer_than_its_codec_makes_it():
    downlink = downlink_of("sign")
    long = bytes(downlink.codec.max_bytes(64) + 1)
    body = b"\x01" + bytes(8) + b"\x01" + len(long).to_bytes(4, "little") + long
    with pytest.raises(MalformedPayload, match="steps of 14 bytes"):
        downlink.decode_difference(body, zero_codes(64))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"\x00", b"\x01", b"\x01" + bytes(8) + b"\x01"]), st.binary(max_size=60))
def test_any_bytes_are_refused_by_name(start, rest):
    with pytest.raises(MalformedPayload):
        downlink_of("sign").decode_difference(start + rest, zero_codes(64))
