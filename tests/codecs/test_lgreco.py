"""L-GreCo against trying every choice, its two targets, and what it says of a budget that cannot be kept."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs import MalformedPayload, fitted
from fedpeft.codecs.base import on_uplink
from fedpeft.codecs.lgreco import LGreCo
from fedpeft.errors import PluginError
from fedpeft.registry import build
from fedpeft.types import Layout, TensorSpec

SHAPES = ((40, 60), (300,), (16, 16), (1,))


def layout_of(*shapes):
    tensors, offset = [], 0
    for number, shape in enumerate(shapes):
        tensors.append(TensorSpec(f"t{number}", shape, offset))
        offset += tensors[-1].size
    return Layout(tuple(tensors), offset, "")


LAYOUT = layout_of(*SHAPES)


def codec_of(name, layout=LAYOUT):
    return fitted(build("codec", name, {}), layout)


def delta(seed=0, layout=LAYOUT):
    """Tensors of very different size, the first of few directions."""
    draw = np.random.default_rng(seed)
    values = draw.standard_normal(layout.size)
    n, m = layout.tensors[0].shape
    values[: n * m] = (draw.standard_normal((n, 2)) @ draw.standard_normal((2, m))).reshape(-1)
    for number, tensor in enumerate(layout.tensors):
        values[tensor.offset : tensor.offset + tensor.size] *= 10.0**-number
    return values.astype(np.float32)


def relative(codec, values):
    return np.linalg.norm(codec.decode(codec.encode(values), values.size) - values) / np.linalg.norm(values)


def levels_of(body, layout=LAYOUT):
    return list(body[4 : 4 + len(layout.tensors)])


@settings(max_examples=30, deadline=None)
@given(error=st.floats(0.001, 0.999), seed=st.integers(0, 3))
def test_the_error_is_kept_to(error, seed):
    assert relative(codec_of(f"lgreco({error})+zstd"), delta(seed)) <= error * (1 + 1e-5)


@settings(max_examples=30, deadline=None)
@given(bits=st.floats(0.2, 32), seed=st.integers(0, 3))
def test_the_budget_is_kept_to(bits, seed):
    codec = codec_of(f"lgreco(bits={bits})+zstd")
    body = codec.encode(delta(seed))
    assert 8 * len(body) <= bits * LAYOUT.size
    assert len(body) <= codec.max_bytes(LAYOUT.size)


@pytest.mark.parametrize("name", ["lgreco(0.3)+zstd", "lgreco(0.05)+ans", "lgreco(bits=1.5)+ans"])
def test_no_other_choice_is_better(name):
    """Every choice of the three small tensors' levels, measured by encoding them so."""
    layout = layout_of((8, 24), (50,), (12, 12))
    codec, values = codec_of(name, layout), delta(layout=layout)
    tried = []
    for tensor in layout.tensors:
        own = values[tensor.offset : tensor.offset + tensor.size]
        ways = [(1, float(np.square(own, dtype=np.float64).sum()))]
        for way in codec.levels(values.size)[1:]:
            inner = fitted(way, layout_of(tensor.shape))
            body = inner.encode(own)
            lost = own.astype(np.float64) - inner.decode(body, own.size)
            ways.append((1 + (1 if len(body) < 128 else 2) + len(body), float(lost @ lost)))
        tried.append(ways)
    sums = np.array([np.sum(choice, axis=0) for choice in itertools.product(*tried)])  # bytes, squared error
    body = codec.encode(values)
    lost = float(np.square(values.astype(np.float64) - codec.decode(body, values.size)).sum())
    if "bits" in name:
        best = sums[sums[:, 0] + 4 <= 1.5 * values.size / 8, 1].min()
        assert lost == pytest.approx(best)
    else:
        limit = codec.error**2 * float(np.square(values, dtype=np.float64).sum())
        best = sums[sums[:, 1] <= limit * (1 - 3 / 10_000), 0].min()  # the units of the programme
        assert len(body) - 4 <= best


def test_each_tensor_goes_its_own_way():
    levels = levels_of(codec_of("lgreco(0.2)+zstd").encode(delta()))
    names = [codec and codec.name for codec in codec_of("lgreco(0.2)+zstd").levels(LAYOUT.size)]
    assert names[levels[0]].startswith("lowrank(2)")
    assert names[levels[3]] is None  # a thousandth of the others: error feedback sends it when it has grown


def test_it_takes_fewer_bytes_than_one_step_for_all():
    layout = layout_of(*[(32, 96)] * 4)
    values = delta(layout=layout)
    one = build("codec", "uniform(0.35)+zstd", {})
    error = relative(one, values)
    assert len(codec_of(f"lgreco({error:.4f})+zstd", layout).encode(values)) < 0.9 * len(one.encode(values))


def test_zeros_take_a_level_each_and_no_more():
    assert codec_of("lgreco(0.1)+zstd").encode(np.zeros(LAYOUT.size, np.float32))[4:] == bytes(len(SHAPES))


def test_a_budget_that_cannot_be_kept_is_said_before_the_run():
    with pytest.raises(PluginError, match=r"0.01 bits a value is 3 bytes for 2,957 values in 4 tensors") as caught:
        codec_of("lgreco(bits=0.01)+zstd")
    assert caught.value.code == "codec.budget"
    least = float(caught.value.allowed.split()[1])
    assert codec_of(f"lgreco(bits={least})+zstd").encode(delta())
    with pytest.raises(PluginError, match="too few to send one of them"):
        codec_of(f"lgreco(bits={least - 0.01})+zstd")
    with pytest.raises(PluginError, match=r"0.01 kB is 10 bytes for 2,957 values") as caught:
        codec_of("lgreco(kb=0.01)+zstd")
    least = float(caught.value.allowed.split()[1])
    assert codec_of(f"lgreco(kb={least})+zstd").encode(delta())


@pytest.mark.parametrize("kb", [0.1, 0.5, 2.0, 20.0])
def test_kilobytes_are_the_bits_that_they_come_to(kb):
    body = codec_of(f"lgreco(kb={kb})+zstd").encode(delta())
    assert len(body) <= 1e3 * kb
    bits = 8e3 * kb / LAYOUT.size
    if bits <= 32:
        assert body == codec_of(f"lgreco(bits={bits!r})+zstd").encode(delta())


def test_the_error_is_reached_where_the_budget_allows():
    values = delta()
    enough, alone = codec_of("lgreco(0.1,bits=20)+zstd"), codec_of("lgreco(0.1)+zstd")
    assert enough.encode(values) == alone.encode(values)
    bits = 8 * len(alone.encode(values)) / values.size / 2
    short = codec_of(f"lgreco(0.1,bits={bits!r})+zstd")
    assert 8 * len(short.encode(values)) <= bits * values.size
    assert relative(short, values) > 0.1
    assert short.nominal_bytes(values.size) <= short.max_bytes(values.size) <= bits * values.size / 8


@pytest.mark.parametrize("stage", ["", "forget+"])
def test_seconds_are_kilobytes_once_the_uplink_is_known(stage):
    told = build("codec", f"{stage}lgreco(0.2,seconds=2)+zstd", {})
    slow, fast = on_uplink(told, 4_000), on_uplink(told, 1e6)
    assert (slow.name, fast.name) == (f"{stage}lgreco(0.2,kb=1)+zstd", f"{stage}lgreco(0.2,kb=250)+zstd")
    assert len(fitted(slow, LAYOUT).encode(delta())) <= 1000
    assert relative(fitted(fast, LAYOUT), delta()) <= 0.2
    assert on_uplink(slow, 1e9).name == slow.name
    assert build("codec", slow.name, {}).name == slow.name


@pytest.mark.parametrize(
    ("uplink", "kb"), [(0.001, "0.01"), (1.0, "1.125"), (8e5, "900000"), (1e6, "1000000"), (1e12, "1000000")]
)
def test_an_uplink_beyond_either_end_gives_the_budget_at_that_end(uplink, kb):
    made = on_uplink(build("codec", "lgreco(0.33,seconds=9000)+zstd", {}), uplink)
    assert made.name == f"lgreco(0.33,kb={kb})+zstd"
    assert build("codec", made.name, {}).name == made.name


def test_seconds_of_nobodys_uplink_are_refused():
    with pytest.raises(PluginError, match="seconds are of the uplink of a class of devices") as caught:
        codec_of("lgreco(seconds=2)+zstd")
    assert caught.value.code == "codec.no-uplink"


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("", "give an error, a budget or both"),
        ("0.1, 2, 50", "give an error, a budget or both"),
        ("kb=50, seconds=1", "give an error, a budget or both"),
        ("error=0", "give an error, a budget or both"),
        ("1.5", "error = 1.5 must be from 0.001 to 0.999"),
        ("nan", "error = nan must be from"),
        ("bits=40", "bits = 40 must be from 0.01 to 32"),
        ("bits=-1", "bits = -1 must be from 0.01 to 32"),
        ("kb=0.001", "kb = 0.001 must be from 0.01 to 1e\\+06"),
        ("seconds=-2", "seconds = -2 must be from 0.001 to 100000"),
    ],
)
def test_targets_that_are_none_are_refused(given_, words):
    with pytest.raises(PluginError, match=words):
        build("codec", f"lgreco({given_})+zstd", {})


def broken(change):
    body = bytearray(codec_of("lgreco(0.1)+zstd").encode(delta()))
    return bytes(change(body) or body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.__setitem__(0, 9), "another number of values"),
        (lambda body: body[:6], "another number of values or tensors"),
        (lambda body: body.__setitem__(5, 200), "level 200"),
        (lambda body: body[:8], "ends in the lengths"),
        (lambda body: body[:8] + b"\x80\x00" + body[9:], "a length that no encoder writes"),
        (lambda body: body[:8] + b"\xff" * 6, "a length that no encoder writes"),
        (lambda body: body + b"\x00", "bytes"),
    ],
)
def test_what_no_encoder_writes(change, words):
    with pytest.raises(MalformedPayload, match=f"malformed lgreco.*{words}"):
        codec_of("lgreco(0.1)+zstd").decode(broken(change), LAYOUT.size)


def test_levels_of_another_layout_are_refused():
    body = codec_of("lgreco(0.1)+zstd").encode(delta())
    with pytest.raises(MalformedPayload):
        LGreCo(build("coder", "zstd", {}), 0.1).decode(body, LAYOUT.size)
