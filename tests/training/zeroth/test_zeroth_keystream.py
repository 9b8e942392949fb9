"""ChaCha20 in tensor operations: RFC 8439's vectors, and the bits that the library makes, from any byte on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.randomness import derive
from fedpeft.randomness.keystream import BLOCK, keystream
from fedpeft.training.zeroth import keystream as subject
from fedpeft.training.zeroth.keystream import keystream_on

KEY = derive(3, "keystream")
NONCE_ENDS = BLOCK << 32
CPU = torch.device("cpu")


def read(begin, count, key=KEY, device=CPU):
    return bytes(keystream_on(device, key, begin, count).cpu().numpy())


def wanted(begin, count, key=KEY):
    out = bytearray(count)
    keystream(key, begin, out)
    return bytes(out)


def block_of(nonce, counter):
    return BLOCK * (int.from_bytes(nonce, "little") << 32 | counter)


VECTORS = {
    "2.3.2": (
        bytes(range(32)),
        block_of(bytes.fromhex("000000090000004a00000000"), 1),
        (
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
        ),
    ),
    "A.1 1": (
        bytes(32),
        0,
        (
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        ),
    ),
    "A.1 2": (
        bytes(32),
        64,
        (
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
        ),
    ),
    "A.1 3": (
        bytes(31) + b"\x01",
        64,
        (
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0"
        ),
    ),
    "A.1 4": (
        b"\x00\xff" + bytes(30),
        128,
        (
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096"
        ),
    ),
    "A.1 5": (
        bytes(32),
        block_of(bytes(11) + b"\x02", 0),
        (
            "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
            "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d"
        ),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_rfc_8439(name):
    key, begin, block = VECTORS[name]
    assert read(begin, 64, key).hex() == block
    assert wanted(begin, 64, key).hex() == block


@settings(deadline=None)
@given(begin=st.integers(0, 1 << 44), count=st.integers(0, 700), key=st.binary(min_size=32, max_size=32))
def test_it_is_the_library_s_stream(begin, count, key):
    assert read(begin, count, key) == wanted(begin, count, key)


@settings(deadline=None)
@given(before=st.integers(0, 300), count=st.integers(0, 700), nonce=st.integers(1, 3))
def test_the_nonce_rolls_where_the_counter_ends(before, count, nonce):
    begin = nonce * NONCE_ENDS - before
    assert read(begin, count) == wanted(begin, count)


@settings(deadline=None)
@given(begin=st.integers(0, 2000), count=st.integers(0, 2000), at_a_time=st.integers(1, 9))
def test_in_pieces(begin, count, at_a_time):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "_BLOCKS", at_a_time)
        assert read(begin, count) == wanted(begin, count)


def test_more_than_is_made_at_a_time():
    count = BLOCK * subject._BLOCKS + 1000
    assert read(30, count) == wanted(30, count)


@pytest.mark.parametrize(("key", "begin", "message"), [(KEY[:16], 0, "16 bytes: it must"), (KEY, -1, "begin = -1")])
def test_what_is_no_stream(key, begin, message):
    with pytest.raises(ValueError, match=message):
        keystream_on(CPU, key, begin, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu():
    for begin in (0, 77, NONCE_ENDS - 1000):
        assert read(begin, 5_000_003, device=torch.device("cuda")) == wanted(begin, 5_000_003)
