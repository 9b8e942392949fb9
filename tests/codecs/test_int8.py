"""What is particular to int8: its blocks, its scales and its rounding."""

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.int8 import Int8, blocks_of

LARGEST = np.finfo(np.float32).max


def body(scales, codes):
    return np.array(scales, "<f4").tobytes() + np.array(codes, np.int8).tobytes()


def test_bytes_are_scales_then_codes():
    values = np.zeros(65, dtype=np.float32)
    values[:3] = [127.0, -2.0, 1.0]
    values[64] = 254.0
    assert Int8().encode(values) == body([1.0, 2.0], [127, -2, 1, *[0] * 61, 127])


def test_half_way_goes_to_even():
    values = np.array([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5], dtype=np.float32)
    assert Int8().decode(Int8().encode(values), 7).tolist() == [127, 0, 2, 2, 0, -2, -2]


def test_blocks_do_not_touch_each_other():
    """A large value spoils the resolution of its own block only."""
    values = np.full(128, 1e-3, dtype=np.float32)
    values[0] = 1e3
    decoded = Int8().decode(Int8().encode(values), 128)
    assert not decoded[1:64].any()
    np.testing.assert_allclose(decoded[64:], 1e-3, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128])
def test_size_in_bytes(size):
    assert (
        len(Int8().encode(np.ones(size, dtype=np.float32))) == size + 4 * ((size + 63) // 64) == Int8().max_bytes(size)
    )


def test_relative_error_on_gaussian_values():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    error = np.linalg.norm(Int8().decode(Int8().encode(values), values.size) - values) / np.linalg.norm(values)
    assert 0.005 < error < 0.0065


def test_the_largest_fp32_survives():
    """Its scale, rounded up, would make 127 · s infinite: the body would be refused as malformed."""
    values = np.array([LARGEST, -LARGEST, 0], dtype=np.float32)
    np.testing.assert_allclose(Int8().decode(Int8().encode(values), 3), values, rtol=1e-6)


def test_scales_too_small_for_fp32_give_zeros():
    values = np.full(64, 1e-37, dtype=np.float32)  # a scale of 8e-40, a subnormal number
    assert Int8().encode(values) == body([0.0], [0] * 64)


@pytest.mark.parametrize(
    ("scale", "code", "reason"),
    [
        (np.nan, 1, "scale"),
        (np.inf, 0, "scale"),
        (-1.0, 1, "scale"),
        (1.0, -128, "-128"),
        (LARGEST, 2, "overflows"),
    ],
)
def test_what_no_encoder_writes(scale, code, reason):
    with pytest.raises(MalformedPayload, match=reason):
        Int8().decode(body([scale], [code] * 5), 5)


def test_blocks_are_padded_with_zeros():
    blocks = blocks_of(np.ones(70, dtype=np.float32))
    assert blocks.shape == (2, 64)
    assert blocks.sum() == 70
