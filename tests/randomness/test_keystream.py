"""The keystream from any byte on: RFC 8439's vectors, slices, and the roll of the nonce after 256 GiB."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.randomness import Stream, derive
from fedpeft.randomness.keystream import BLOCK, keystream

KEY = derive(3, "keystream")
NONCE_ENDS = BLOCK << 32


def read(begin, count, key=KEY):
    out = bytearray(count)
    keystream(key, begin, out)
    return bytes(out)


def block_of(nonce, counter):
    """Where the block of an RFC 8439 nonce and counter lies in the stream."""
    return BLOCK * (int.from_bytes(nonce, "little") << 32 | counter)


def test_rfc_8439_block_function():
    """RFC 8439, section 2.3.2."""
    nonce = bytes.fromhex("000000090000004a00000000")
    assert read(block_of(nonce, 1), 64, bytes(range(32))).hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_rfc_8439_appendix_a_1_vector_5():
    """The zero key under the nonce 00 ... 02, block 0."""
    assert read(block_of(bytes(11) + b"\x02", 0), 64, bytes(32)).hex() == (
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d"
    )


def test_it_begins_as_the_stream_that_draws():
    assert read(0, 800) == Stream(KEY).uint64(100).astype("<u8").tobytes()


@given(begin=st.integers(0, 5000), count=st.integers(0, 700))
def test_any_slice_is_that_of_the_whole(begin, count):
    assert read(begin, count) == read(0, 6000)[begin : begin + count]


def test_longer_than_what_is_encrypted_at_a_time():
    count = 3 * (1 << 18) + 77
    assert read(5, count)[-100:] == read(5 + count - 100, 100)


def test_the_nonce_rolls_where_the_counter_ends():
    across = read(NONCE_ENDS - 40, 100)
    assert across[:40] == read(NONCE_ENDS - 64, 64)[24:]
    assert across[40:] == read(NONCE_ENDS, 60)
    assert read(NONCE_ENDS, 64) != read(0, 64)


def test_before_the_beginning():
    with pytest.raises(ValueError, match="begin = -1 must be 0 or more"):
        read(-1, 4)
