"""The versioned downlink: whatever a client holds, it ends with the same bits, or says by name why it cannot."""

import hashlib
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.broadcast import (
    Codes,
    WrongBase,
    decode_difference,
    dequantise,
    encode_difference,
    quantise,
    zero_codes,
)

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = hnp.arrays(np.float32, st.integers(1, 200), elements=FINITE)
TAG = 8  # bytes of digest before the zstd frame


def gaussian(size, scale=1e-3, seed=0):
    return (np.random.default_rng([seed, size]).standard_normal(size) * scale).astype(np.float32)


def versions(size, count):
    """An adapter that moves by less and less, as quantised after each round; version 0 first."""
    theta = np.zeros(size, dtype=np.float32)
    held = [zero_codes(size)]
    for number in range(1, count):
        theta = theta + gaussian(size, 1e-2 / number, seed=number)
        held.append(quantise(theta))
    return held


def same(left, right):
    return (
        left.codes.dtype == right.codes.dtype == np.int8
        and left.exponents.dtype == right.exponents.dtype == np.int8
        and left.codes.tobytes() == right.codes.tobytes()
        and left.exponents.tobytes() == right.exponents.tobytes()
    )


def body_of(raw, new, **options):
    """A body with an honest digest of `new` around any zstd content."""
    return bytes.fromhex(new.digest())[:TAG] + zstandard.ZstdCompressor(**options).compress(raw)


# --- codes ---


@settings(max_examples=200, deadline=None)
@given(VECTORS)
def test_each_value_is_within_half_a_step(values):
    """|x̂ − x| ≤ s/2, with the scale s the smallest power of two that fits the block; saturation aside."""
    values = np.clip(values, -(127 * 2.0**120), 127 * 2.0**120).astype(np.float32)
    decoded = dequantise(quantise(values))
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    for start in range(0, values.size, 64):
        block = values[start : start + 64].astype(np.float64)
        scale = 2.0**-126
        while np.abs(block).max() > 127 * scale:
            scale *= 2
        assert np.abs(decoded[start : start + 64] - block).max() <= scale / 2


@pytest.mark.parametrize("k", [-126, -20, 0, 100, 120])
def test_scale_at_the_edge_of_a_power_of_two(k):
    edge = np.float32(127 * 2.0**k)
    assert quantise(np.array([edge])).exponents.tolist() == [k]
    assert quantise(np.array([np.nextafter(edge, np.float32(0))])).exponents.tolist() == [k]
    above = quantise(np.array([np.nextafter(edge, np.float32(np.inf))]))
    assert above.exponents.tolist() == [min(k + 1, 120)]
    assert above.codes.tolist() == [64 if k < 120 else 127]


def test_decoding_is_exact():
    """codes · 2^k in fp32 is what it is in exact arithmetic, at both ends of the exponents."""
    codes = np.tile(np.arange(-127, 128, dtype=np.int8), 64)[: 64 * 247]
    exponents = np.arange(-126, 121, dtype=np.int8)
    exact = codes.reshape(-1, 64) * 2.0 ** exponents.astype(np.float64)[:, None]
    assert (dequantise(Codes(codes, exponents)) == exact.reshape(-1)).all()


def test_quantising_twice_changes_nothing():
    once = dequantise(quantise(gaussian(1000)))
    assert dequantise(quantise(once)).tobytes() == once.tobytes()


def test_the_largest_fp32_saturates():
    largest = np.finfo(np.float32).max
    codes = quantise(np.array([largest, -largest], dtype=np.float32))
    assert codes.codes.tolist() == [127, -127]
    assert dequantise(codes).tolist() == [127 * 2.0**120, -127 * 2.0**120]


def test_denormals():
    smallest = np.float32(2.0**-149)
    assert dequantise(quantise(np.full(3, smallest))).tolist() == [0, 0, 0]  # below half a step of 2^-126
    assert dequantise(quantise(np.full(3, np.float32(2.0**-126)))).tolist() == [2.0**-126] * 3


@pytest.mark.parametrize("size", [1, 64, 65, 1000])
def test_zero_codes_are_the_zero_vector(size):
    zero = zero_codes(size)
    assert zero.codes.shape == (size,)
    assert zero.exponents.shape == ((size + 63) // 64,)
    assert not dequantise(zero).any()
    assert same(quantise(np.zeros(size, dtype=np.float32)), zero)


def test_input_is_left_alone():
    values = gaussian(100)
    values.flags.writeable = False
    quantise(values)
    assert values.tobytes() == gaussian(100).tobytes()


def test_error_is_small():
    values = gaussian(100_000)
    assert np.linalg.norm(dequantise(quantise(values)) - values) <= 0.01 * np.linalg.norm(values)


def test_digest():
    codes = quantise(gaussian(100))
    written_out = hashlib.sha256(codes.codes.tobytes() + codes.exponents.tobytes()).hexdigest()
    assert codes.digest() == written_out
    changed = Codes(codes.codes, codes.exponents + np.int8(1))
    assert changed.digest() != codes.digest()


def test_golden_codes():
    """Coordinators of different machines and versions quantise alike."""
    values = np.array([0.0, 1.0, -0.5, 0.0039, 3e-5, -1e-3], dtype=np.float32)
    codes = quantise(values)
    assert codes.codes.tolist() == [0, 64, -32, 0, 0, 0]
    assert codes.exponents.tolist() == [-6]


# --- differences ---


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_any_base_gives_the_same_bits(size):
    held = versions(size, 6)
    new = held[-1]
    for base in held:
        assert same(decode_difference(encode_difference(new, base), base), new)


def test_walking_every_version_is_the_same_as_jumping():
    held = versions(1000, 8)
    walked = held[0]
    for before, after in pairwise(held):
        walked = decode_difference(encode_difference(after, before), walked)
    jumped = decode_difference(encode_difference(held[-1], held[0]), held[0])
    assert same(walked, jumped)


@settings(max_examples=100, deadline=None)
@given(VECTORS, st.data())
def test_any_two_states(values, data):
    other = data.draw(hnp.arrays(np.float32, values.size, elements=FINITE))
    new, base = quantise(values), quantise(other)
    assert same(decode_difference(encode_difference(new, base), base), new)


def test_differences_wrap():
    """127 − (−127) and 120 − (−126) do not fit int8; modulo 256 they come back."""
    low = Codes(np.full(64, -127, np.int8), np.array([-126], np.int8))
    high = Codes(np.full(64, 127, np.int8), np.array([120], np.int8))
    assert same(decode_difference(encode_difference(high, low), low), high)
    assert same(decode_difference(encode_difference(low, high), high), low)


def test_nothing_new_costs_next_to_nothing():
    base = quantise(gaussian(333_000))
    assert len(encode_difference(base, base)) < 100


def test_the_smaller_the_change_the_smaller_the_body():
    theta = gaussian(50_000)
    base = quantise(theta)
    sizes = [
        len(encode_difference(quantise(theta + gaussian(50_000, scale, seed=1)), base))
        for scale in (1e-6, 1e-5, 1e-4, 1e-3)
    ]
    assert sizes == sorted(sizes)
    assert sizes[1] * 2 < len(encode_difference(base, zero_codes(50_000)))


# --- another base, other bytes ---


def test_wrong_base_is_refused_by_name():
    held = versions(1000, 5)
    for made_for in range(4):
        body = encode_difference(held[4], held[made_for])
        for holds in set(range(5)) - {made_for}:
            with pytest.raises(WrongBase) as caught:
                decode_difference(body, held[holds])
            assert caught.value.code == "codec.wrong-base"


def test_one_flipped_bit_of_the_base_is_noticed():
    base, new = versions(1000, 3)[1:]
    body = encode_difference(new, base)
    codes = base.codes.copy()
    codes[500] ^= 1
    with pytest.raises(WrongBase):
        decode_difference(body, Codes(codes, base.exponents))
    exponents = base.exponents.copy()
    exponents[3] ^= 1
    with pytest.raises(WrongBase):
        decode_difference(body, Codes(base.codes, exponents))


def test_base_of_another_size_is_refused():
    body = encode_difference(quantise(gaussian(1000)), zero_codes(1000))
    for size in (1, 999, 1001, 10_000):
        with pytest.raises(MalformedPayload, match="claims"):
            decode_difference(body, zero_codes(size))


def test_every_truncation_is_refused():
    base, new = versions(200, 3)[1:]
    body = encode_difference(new, base)
    for length in range(len(body)):
        with pytest.raises(MalformedPayload):
            decode_difference(body[:length], base)


@pytest.mark.parametrize("more", [b"\x00", b"junk", bytes.fromhex("502a4d1804000000") + b"skip"])
def test_trailing_bytes_are_refused(more):
    """Also where zstd would read on: a skippable frame, or a second frame."""
    base, new = versions(200, 3)[1:]
    body = encode_difference(new, base)
    for extra in (more, body[TAG:]):
        with pytest.raises(MalformedPayload, match="unused data"):
            decode_difference(body + extra, base)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(body):
    with pytest.raises(MalformedPayload):
        decode_difference(body, zero_codes(100))


def test_every_flipped_byte_is_refused():
    """A digest of 8 bytes leaves no flip that would pass."""
    base, new = versions(100, 3)[1:]
    body = encode_difference(new, base)
    for place in range(len(body)):
        for flip in (0x01, 0x80, 0xFF):
            try:
                decoded = decode_difference(body[:place] + bytes([body[place] ^ flip]) + body[place + 1 :], base)
            except MalformedPayload:
                continue
            assert same(decoded, new)  # a bit of the zstd header that means nothing


@pytest.mark.parametrize(
    ("place", "value"), [(0, -128), (64, -127), (64, -128), (64, 121), (64, 127)], ids=lambda number: str(number)
)
def test_codes_that_quantise_does_not_write(place, value):
    raw = np.zeros(65, dtype=np.int8)
    raw[place] = value
    new = Codes(raw[:64], raw[64:])
    with pytest.raises(MalformedPayload, match="out of range"):
        decode_difference(body_of(raw.tobytes(), new), zero_codes(64))


def test_size_that_is_not_declared_is_refused():
    raw = bytes(65)
    with pytest.raises(MalformedPayload, match="claims"):
        decode_difference(body_of(raw, zero_codes(64), write_content_size=False), zero_codes(64))


# --- bombs ---


def zeros(total, **options):
    """A zstd frame of many zeros, made in chunks."""
    packer = zstandard.ZstdCompressor().compressobj(**options)
    chunk = bytes(1 << 20)
    return b"".join([packer.compress(chunk) for _ in range(total >> 20)] + [packer.flush()])


def peak_of(refused, body, base):
    tracemalloc.start()
    try:
        with pytest.raises(refused):
            decode_difference(body, base)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("declared", [True, False])
def test_bomb_costs_no_memory(declared):
    total = 256 << 20
    bomb = bytes(TAG) + zeros(total, **({"size": total} if declared else {}))
    assert len(bomb) < 100_000
    assert peak_of(MalformedPayload, bomb, zero_codes(6400)) < 1 << 20


def test_bomb_that_lies_about_its_size():
    """A frame that declares what is expected and holds 16 MiB: the 4 bytes of its size are patched."""
    wanted = zero_codes(6400).codes.size + zero_codes(6400).exponents.size
    total = 16 << 20
    frame = zeros(total, size=total)
    assert zstandard.get_frame_parameters(frame).content_size == total
    size_at = frame.index(total.to_bytes(4, "little"))
    lying = frame[:size_at] + wanted.to_bytes(4, "little") + frame[size_at + 4 :]
    assert zstandard.get_frame_parameters(lying).content_size == wanted
    assert peak_of(MalformedPayload, bytes(TAG) + lying, zero_codes(6400)) < 1 << 20


def test_huge_window_is_refused():
    """A frame that is sound, but asks its reader for a window of 1 GiB."""
    base = zero_codes(6400)
    wanted = base.codes.size + base.exponents.size
    # magic | descriptor: 4-byte size, no single segment | window 2^30 | size | one last block: a zero, `wanted` times
    block = (wanted << 3 | 0b011).to_bytes(3, "little") + b"\x00"
    frame = bytes.fromhex("28b52ffd80") + bytes([(30 - 10) << 3]) + wanted.to_bytes(4, "little") + block
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 30
    tag = bytes.fromhex(base.digest())[:TAG]
    with pytest.raises(MalformedPayload, match="window"):
        decode_difference(tag + frame, base)
    modest = frame.replace(bytes([(30 - 10) << 3]), bytes([(20 - 10) << 3]), 1)
    assert same(decode_difference(tag + modest, base), base)


def test_an_adapter_larger_than_the_window():
    """The window limit leaves room for what level 3 writes, whatever the adapter's size."""
    size = 5_000_000
    new, base = Codes(np.ones(size, np.int8), np.zeros((size + 63) // 64, np.int8)), zero_codes(size)
    assert zstandard.get_frame_parameters(encode_difference(new, base)[TAG:]).window_size < size
    assert same(decode_difference(encode_difference(new, base), base), new)
