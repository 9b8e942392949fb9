"""One scale a tensor, and one a block; the rest is in the contract."""

import struct

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload, fitted
from fedpeft.codecs.bitdelta import BitDelta
from fedpeft.errors import PluginError
from fedpeft.registry import build
from fedpeft.types import Layout, TensorSpec

LAYOUT = Layout((TensorSpec("a", (2, 2), 0), TensorSpec("b", (1,), 4), TensorSpec("c", (3,), 5)), 8, "")
VALUES = np.array([1, -3, 2, 2, -0.5, 0, 0, 0], dtype=np.float32)


def test_each_tensor_has_its_mean_magnitude():
    codec = fitted(BitDelta(), LAYOUT)
    body = codec.encode(VALUES)
    assert body == struct.pack("<3f", 2.0, 0.5, 0.0) + bytes([0b11101101, 1])
    assert codec.decode(body, 8).tolist() == [2, -2, 2, 2, -0.5, 0, 0, 0]
    assert codec.max_bytes(8) == len(body)


def test_not_fitted_it_is_the_codec_sign():
    assert BitDelta().encode(VALUES) == build("codec", "sign", {}).encode(VALUES)


def test_fitting_leaves_the_codec_as_it_was():
    codec = BitDelta()
    assert fitted(codec, LAYOUT).layout is LAYOUT
    assert codec.layout is None


def test_a_vector_of_another_layout_is_refused():
    with pytest.raises(MalformedPayload, match="9 values"):
        fitted(BitDelta(), LAYOUT).decode(b"", 9)


def test_scales_of_tensors_lose_less_than_one_where_tensors_differ():
    values = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    values[:1000] *= 10
    layout = Layout((TensorSpec("a", (1000,), 0), TensorSpec("b", (1000,), 1000)), 2000, "")
    own, one = fitted(BitDelta(), layout), BitDelta()
    errors = [np.linalg.norm(codec.decode(codec.encode(values), 2000) - values) for codec in (own, one)]
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_a_scale_that_is_none_is_named(scale):
    codec = fitted(BitDelta(), LAYOUT)
    body = struct.pack("<3f", 1.0, scale, 1.0) + codec.encode(VALUES)[12:]
    with pytest.raises(MalformedPayload, match="its scale 1 is"):
        codec.decode(body, 8)


@pytest.mark.parametrize("last", [0b0, 0b10, 0b11])
def test_another_number_of_bits_is_refused(last):
    codec = fitted(BitDelta(), LAYOUT)
    with pytest.raises(MalformedPayload, match="another number of bits"):
        codec.decode(codec.encode(VALUES)[:-1] + bytes([last]), 8)


def test_blocks_of_signs_have_scales_of_their_own():
    codec = build("codec", "sign(8)", {})
    values = np.array([1] * 8 + [-5] * 8 + [3], dtype=np.float32)
    body = codec.encode(values)
    assert (codec.name, len(body)) == ("sign(8)", 3 * 4 + 3)
    np.testing.assert_array_equal(codec.decode(body, 17), values)


@pytest.mark.parametrize("block", ["7", "8.5", "-64", "70000", "nan"])
def test_a_block_that_is_none_is_refused(block):
    with pytest.raises(PluginError, match=r"block = .* must be a whole number"):
        build("codec", f"sign({block})", {})
