"""What every codec promises. To put one under this contract, add a line to `CODECS`.

A name is one that a run file could give: built in, or `path/file.py:Class` relative to the root of the repository.
With `tensors` a codec is fitted to a layout of several tensors, as in a run; else it sees a vector and no more.
`error` bounds ‖decode(encode(x)) − x‖₂ / ‖x‖₂ on Gaussian values of any ordinary scale.
"""

import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpeft.codecs import Codec, CodedCodec, LayoutCodec, MalformedPayload, fitted
from fedpeft.codecs.base import through as both
from fedpeft.codecs.feedback import compensate
from fedpeft.errors import ClientFault
from fedpeft.registry import BUILTIN, build
from fedpeft.types import Layout, TensorSpec

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    name: str
    error: float  # relative L2 error, at most
    least: float = 1e-6  # standard deviation from which on that bound holds
    grows: float = 2**-10  # by how much of itself the largest value may grow
    mixes: bool = False  # what comes out at a place depends on values at others
    drifts: bool = False  # what was decoded once need not go through unharmed: its scale is not that of the first time
    tensors: bool = False  # fitted to tensors

    def build(self):
        made = build("codec", self.name, {}, relative_to=ROOT)
        return FittedAnew(made) if self.tensors else made


class FittedAnew:
    """A codec that is fitted to the layout of whatever length it meets."""

    def __init__(self, codec):
        assert isinstance(codec, LayoutCodec)
        self.name, self.codec = codec.name, codec
        self.owes = getattr(codec, "owes", True)

    def encode(self, values):
        return self.of(values.size).encode(values)

    def decode(self, body, size):
        return self.of(size).decode(body, size)

    def max_bytes(self, size):
        return self.of(size).max_bytes(size)

    def nominal_bytes(self, size):
        return self.of(size).nominal_bytes(size)

    def of(self, size):
        return fitted(self.codec, layout_of(size))


def layout_of(size):
    """Matrices, a vector and a tensor of one value, of so many values in all."""
    shapes = [(1,)] if size > 3 else []
    shapes += [(size // 3 // 8, 8), (8, size // 3 // 16, 2)] if size > 96 else []
    shapes.append((size - sum(int(np.prod(shape)) for shape in shapes),))
    tensors, offset = [], 0
    for number, shape in enumerate(shapes):
        tensors.append(TensorSpec(f"tensor{number}", shape, offset))
        offset += tensors[-1].size
    return Layout(tuple(tensors), size, "")


CODECS = [
    Entry("fp32", error=0.0),
    Entry("fp16", error=5e-4, least=1e-2),  # below, values reach fp16's subnormal numbers
    Entry("int8", error=7e-3),
    Entry("int8(dither)", error=1e-2),
    Entry("sign", error=0.65),
    Entry("bf16", error=2**-8, grows=2**-8),
    Entry("int4", error=0.11),
    Entry("int4(dither)", error=0.16),
    Entry("topk(0.1)+fp16", error=0.8, least=1e-2),
    Entry("topk(0.25)+int4", error=0.6),
    Entry("topk(0.05)+sign", error=0.92),
    Entry("topk(1)+bf16", error=2**-8, grows=2**-8),
    Entry("topk(1)+fp32", error=0.0),
    Entry("rotate+int4", error=0.11, mixes=True, drifts=True),
    Entry("rotate+sign", error=0.65, mixes=True, drifts=True),
    Entry("rotate+topk(0.1)+int4", error=0.8, mixes=True, drifts=True),
    Entry("uniform(0.1)+zstd", error=0.03, grows=0.51, drifts=True),
    Entry("uniform(0.8)+ans", error=0.24, grows=0.51, drifts=True),
    Entry("rotate+uniform(2)+ans", error=0.6, mixes=True, drifts=True),
    Entry("forget+sign", error=0.65),
    Entry("relax(1.5)+topk(0.1)+sign", error=0.88, grows=0.51, drifts=True),
    Entry("relax(0.5)+int8", error=0.51, drifts=True),
    Entry("relax(1.9)+lowrank(2)+int8", error=0.97, grows=0.91, mixes=True, drifts=True, tensors=True),
    Entry("dare(0.5)+fp16", error=1.1, least=1e-2, grows=1.01, drifts=True),
    Entry("dare(0.5)+uniform(1)+zstd", error=1.2, grows=2.03, drifts=True),
    Entry("dare(0.5)+topk(0.1)+sign", error=1.3, grows=1.01, drifts=True),
    Entry("sign(64)", error=0.65),
    Entry("topk(0.1)+sign(64)", error=0.8),
    Entry("compeft", error=0.8),  # unsearched
    Entry("compeft(0.05,1.5)", error=0.92, grows=0.51, drifts=True),
    Entry("rotate+compeft(0.3,1)", error=0.8, mixes=True, drifts=True),
    Entry("forget+compeft", error=0.8),
    Entry("bitdelta", error=0.65),
    Entry("bitdelta", error=0.65, tensors=True),
    Entry("forget+bitdelta", error=0.65, tensors=True),
    Entry("lowrank(2)+int8", error=7e-3),
    Entry("lowrank(2)+int8", error=0.75, mixes=True, drifts=True, tensors=True),
    Entry("sketch(0.5)+int8", error=0.8, mixes=True, drifts=True),
    Entry("lgreco(0.1)+zstd", error=0.1, mixes=True, drifts=True),
    Entry("lgreco(0.3)+ans", error=0.3, mixes=True, drifts=True, tensors=True),
    Entry("lgreco(error=0.05)+zstd", error=0.05, mixes=True, drifts=True, tensors=True),
    Entry("lgreco(bits=8.7)+zstd", error=0.35, mixes=True, drifts=True),
    Entry("lgreco(0.1,bits=12)+zstd", error=0.1, mixes=True, drifts=True),
    Entry("lgreco(kb=100)+zstd", error=0.01, mixes=True, drifts=True, tensors=True),
]

SIZES = [1, 2, 63, 64, 65, 127, 128, 1000]
LARGEST = float(np.finfo(np.float32).max)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = hnp.arrays(np.float32, st.integers(1, 200), elements=FINITE)


@pytest.fixture(
    scope="module", params=CODECS, ids=lambda entry: entry.name.rsplit(":", 1)[-1] + " of tensors" * entry.tensors
)
def entry(request):
    return request.param


@pytest.fixture(scope="module")
def codec(entry):
    return entry.build()


def gaussian(size, scale=1e-3, seed=0):
    return (np.random.default_rng([seed, size]).standard_normal(size) * scale).astype(np.float32)


def through(codec, values):
    body = codec.encode(values)
    assert len(body) <= codec.max_bytes(values.size)
    decoded = codec.decode(body, values.size)
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert np.isfinite(decoded).all()
    return decoded


def relative_error(codec, values):
    return np.linalg.norm(through(codec, values) - values) / np.linalg.norm(values)


def test_every_built_in_codec_is_on_the_list():
    missing = BUILTIN["codec"].keys() - {entry.name for entry in CODECS}
    assert not missing, f"add a line to CODECS for {sorted(missing)}"


def test_it_has_the_contract_and_its_registered_name(entry, codec):
    assert isinstance(codec, Codec)
    if entry.name in BUILTIN["codec"]:
        assert codec.name == entry.name


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e-2, 1.0, 1e3])
def test_error_is_bounded(entry, codec, scale):
    if scale >= entry.least:
        assert relative_error(codec, gaussian(20_000, scale)) <= entry.error


@pytest.mark.parametrize("size", SIZES)
def test_any_size(entry, codec, size):
    assert relative_error(codec, gaussian(size, 1.0)) <= 2 * entry.error


def test_size_is_as_planned(codec):
    size = 10_000
    body = codec.encode(gaussian(size))
    assert len(body) <= codec.max_bytes(size)
    assert len(body) == pytest.approx(codec.nominal_bytes(size), rel=0.05)


@pytest.mark.parametrize("size", SIZES)
def test_zeros_stay_zeros(codec, size):
    assert not through(codec, np.zeros(size, dtype=np.float32)).any()


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_many_zeros_stay_zeros(entry, codec, size):
    """A coder makes next to nothing of them: no body is too short for its values by itself."""
    if size > 100_000 and entry.name.startswith("lgreco"):
        return  # sixteen codecs take their time
    assert not through(codec, np.zeros(size, dtype=np.float32)).any()


@settings(max_examples=150, deadline=None)
@given(values=VECTORS)
def test_any_finite_vector_comes_out_finite(entry, values):
    """Denormals, the largest fp32, and both in one block: `through` asserts that all is finite."""
    codec = entry.build()
    decoded = through(codec, values)
    # Nothing grows, but for one rounding of half precision; a rotation keeps lengths only.
    if not entry.mixes:
        assert float(np.abs(decoded).max()) <= float(np.abs(values).max()) * (1 + entry.grows) + 2**-24


@pytest.mark.parametrize("value", [1e-45, -1e-45, 1.1754944e-38, 1e-40, LARGEST, -LARGEST])
@pytest.mark.parametrize("size", [1, 64, 65])
def test_extreme_values(entry, codec, value, size):
    decoded = through(codec, np.full(size, value, dtype=np.float32))
    assert entry.mixes or (np.sign(decoded) * np.sign(value) >= 0).all()


def test_equal_values_give_equal_bytes(entry):
    values = gaussian(1000)
    assert entry.build().encode(values) == entry.build().encode(values.copy())


def test_many_threads_at_once_make_the_same_of_it(codec):
    """One codec object serves all clients of a coordinator: what one thread does is nothing to another."""
    vectors = [gaussian(size, seed=seed) for seed, size in enumerate((1500, 700, 1500, 96))]
    alone = [(body := codec.encode(values), codec.decode(body, values.size).tobytes()) for values in vectors]

    def once(place):
        body = codec.encode(vectors[place])
        return body, codec.decode(alone[place][0], vectors[place].size).tobytes()

    places = [0, 1, 2, 3] * 3
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(once, places)) == [alone[place] for place in places]


def test_decoding_is_idempotent(entry, codec):
    """What was decoded once goes through unharmed: a resent or replayed update does not drift."""
    if entry.drifts:
        return
    once = through(codec, gaussian(1000))
    np.testing.assert_allclose(through(codec, once), once, rtol=1e-6, atol=1e-6 * np.abs(once).max())


def test_input_is_left_alone(codec):
    values = gaussian(100)
    values.flags.writeable = False
    body = codec.encode(values)
    assert values.tobytes() == gaussian(100).tobytes()
    decoded = codec.decode(body, 100)
    decoded += 1  # the result is the caller's own, not a view of the message
    assert codec.decode(body, 100).tobytes() != decoded.tobytes()


def test_strided_input(codec):
    values = gaussian(200)
    assert codec.encode(values[::2]) == codec.encode(values[::2].copy())


# --- bytes that no encoder wrote ---


def refused_or_finite(codec, body, size):
    """Any bytes give a finite vector of the right size or a named refusal."""
    refusal = None
    try:
        decoded = codec.decode(body, size)
    except MalformedPayload as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == "codec.malformed"
        assert codec.name in refusal.message
        return True
    assert decoded.shape == (size,)
    assert np.isfinite(decoded).all()
    return False


@pytest.mark.parametrize("size", [1, 64, 100])
def test_every_truncation_is_refused(codec, size):
    body = codec.encode(gaussian(size))
    for length in range(len(body)):
        assert refused_or_finite(codec, body[:length], size), f"{length} of {len(body)} bytes"


@pytest.mark.parametrize("more", [b"\x00", b"junk", bytes(1000)])
def test_extension_is_refused(codec, more):
    assert refused_or_finite(codec, codec.encode(gaussian(100)) + more, 100)


@pytest.mark.parametrize("claimed", [1, 99, 101])
def test_body_of_another_size_is_refused(codec, claimed):
    assert refused_or_finite(codec, codec.encode(gaussian(100)), claimed)


@pytest.mark.parametrize("claimed", [10**9, 2**31, 2**31 + 100])
def test_a_body_of_few_bytes_takes_no_memory_for_many_values(codec, claimed):
    """2^31 values would be 8 GiB: whatever is wrong with a body is seen before that is asked for."""
    body = codec.encode(gaussian(100))
    tracemalloc.start()
    try:
        assert refused_or_finite(codec, body, claimed)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000


def test_decoding_takes_memory_in_proportion(codec):
    """At most 50 bytes a value at its peak, the result's four among them: 100 GiB for 2^31 values, not more."""
    size = 300_000
    body = codec.encode(gaussian(size))
    tracemalloc.start()
    try:
        codec.decode(body, size)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 50 * size + 1_000_000


@pytest.mark.parametrize("name", ["sketch(1)+int8", "dare(1)+sketch(1)+int8", "dare(1)+topk(1)+fp16"])
def test_so_does_what_needs_most(name):
    test_decoding_takes_memory_in_proportion(build("codec", name, {}))


def test_decoding_what_no_encoder_wrote_takes_no_more(codec):
    """As long as a body may be, with another first byte: of a coder the width, of places the bits of a remainder."""
    size = 100_000
    body = codec.encode(gaussian(size))[: size // 4]  # the rest zeros
    for first in (0, 1, 2, 15, 31, 255):
        tracemalloc.start()
        try:
            refused_or_finite(codec, bytes([first]) + body[1:].ljust(codec.max_bytes(size) - 1, b"\0"), size)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most <= 50 * size + 1_000_000, f"first byte {first}: {most / size:.0f} bytes a value"


@pytest.mark.parametrize("value", [1.0, -2.5, 0.0, 1e-30])
def test_one_element(entry, codec, value):
    found = through(codec, np.float32([value]))
    assert abs(float(found[0]) - value) <= max(entry.error, 2**-8) * abs(value) + (0 if entry.least < 1e-3 else 1e-6)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(1, 130))
def test_random_bytes(entry, data, size):
    codec = entry.build()
    length = codec.nominal_bytes(size)
    refused_or_finite(codec, data.draw(st.binary(min_size=length, max_size=length)), size)


@pytest.mark.parametrize("byte", [0x7F, 0x80, 0xC0, 0xFF])
def test_every_flipped_byte(codec, byte):
    body = codec.encode(gaussian(70))
    for place in range(len(body)):
        refused_or_finite(codec, body[:place] + bytes([body[place] ^ byte]) + body[place + 1 :], 70)


@pytest.mark.parametrize("byte", [0x7F, 0x80, 0xFF])
def test_bodies_of_one_byte_repeated(codec, byte):
    """0xff… is NaN in each float format, 0x7f… is NaN or a number near the largest."""
    refused_or_finite(codec, bytes([byte]) * codec.nominal_bytes(70), 70)


# --- folded from its codes, where it offers them ---


@settings(max_examples=100, deadline=None)
@given(values=VECTORS)
def test_codes_decode_to_the_same_bits(entry, values):
    codec = entry.build()
    if not isinstance(codec, CodedCodec):
        return
    body = codec.encode(values)
    coded = codec.view(body, values.size)
    assert coded.size == values.size
    assert coded.decode().tobytes() == codec.decode(body, values.size).tobytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(1, 130))
def test_codes_are_refused_where_the_vector_is(entry, data, size):
    codec = entry.build()
    if not isinstance(codec, CodedCodec):
        return
    length = codec.nominal_bytes(size) + data.draw(st.integers(-1, 1))
    body = data.draw(st.binary(min_size=length, max_size=length))
    try:
        codec.decode(body, size)
    except MalformedPayload as refusal:
        with pytest.raises(MalformedPayload, match=re.escape(refusal.message)):
            codec.view(body, size)
    else:
        assert np.isfinite(codec.view(body, size).decode()).all()


def test_knowing_both_at_once_is_as_decoding(entry, codec):
    values = gaussian(1000)
    body, decoded = both(codec, values)
    assert body == codec.encode(values)
    assert decoded.tobytes() == codec.decode(body, 1000).tobytes()


# --- error feedback around it ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_before_it_is_encoded(codec, value):
    values = gaussian(100)
    values[7] = value
    with pytest.raises(ClientFault, match="1 of 100 values of the delta are not finite") as caught:
        compensate(codec, values, np.zeros(100, dtype=np.float32))
    assert caught.value.code == "codec.not-finite"


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_error_feedback_telescopes(codec, scale):
    """What arrived and the last residual add up to all that was sent, within fp32's rounding of each sum."""
    if not getattr(codec, "owes", True):
        return
    size, rounds = 333, 30
    residual, arrived, meant = np.zeros(size, np.float32), np.zeros(size), np.zeros(size)
    for number in range(rounds):
        delta = gaussian(size, scale, seed=number)
        body, residual = compensate(codec, delta, residual)
        arrived += codec.decode(body, size)
        meant += delta
    np.testing.assert_allclose(arrived + residual, meant, rtol=0, atol=rounds * 8 * scale * 2.0**-23)


def test_residual_does_not_grow(entry, codec):
    """The residual stays a few codec errors, however many rounds go by."""
    size = 1000
    residual = np.zeros(size, dtype=np.float32)
    for number in range(50):
        delta = gaussian(size, 1.0, seed=number)
        _, residual = compensate(codec, delta, residual)
    # A codec that loses the share e of any vector keeps e (1 + e + e² + ...) of equally large deltas at most.
    if not getattr(codec, "owes", True):
        assert not residual.any()
        return
    assert np.linalg.norm(residual) <= 2 * entry.error / (1 - entry.error) * np.linalg.norm(delta)
