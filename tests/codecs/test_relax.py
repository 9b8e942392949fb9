"""Over-relaxation: the length of what comes out, what is owed after it, and what it does not stand before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.codecs import fitted
from fedpeft.codecs.base import on_uplink, through
from fedpeft.codecs.feedback import compensate
from fedpeft.errors import PluginError
from fedpeft.registry import build
from fedpeft.types import Layout, TensorSpec

LAYOUT = Layout((TensorSpec("a", (40, 8), 0), TensorSpec("b", (8, 30), 320)), 560, "")


def codec(name):
    return fitted(build("codec", name, {}), LAYOUT)


def delta(seed):
    return np.random.default_rng(seed).standard_normal(LAYOUT.size).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.01, 1.99), inner=st.sampled_from(["topk(0.1)+sign", "topk(0.05)+fp32", "sign"]))
def test_what_is_owed_is_less_than_there_was(factor, inner):
    """‖x − ω C(x)‖² = ‖x‖² − ω (2 − ω) ‖C(x)‖²"""
    x = delta(1)
    plain, further = (codec(name) for name in (inner, f"relax({factor!r})+{inner}"))
    sent = plain.decode(plain.encode(x), x.size)
    owed = x - further.decode(further.encode(x), x.size)
    wanted = x @ x - factor * (2 - factor) * (sent @ sent)
    assert owed @ owed == pytest.approx(wanted, rel=1e-3)
    assert wanted < x @ x


@pytest.mark.parametrize("inner", ["topk(0.1)+sign", "lowrank(1)+int8", "lgreco(0.5)+zstd", "rotate+sign"])
def test_bytes_and_name_are_those_of_what_is_inside(inner):
    x, whole = delta(2), codec(f"relax(1.5)+{inner}")
    plain = codec(inner)
    assert whole.name == f"relax(1.5)+{plain.name}"
    assert whole.encode(x) == plain.encode(x)
    assert (whole.max_bytes(560), whole.nominal_bytes(560)) == (plain.max_bytes(560), plain.nominal_bytes(560))
    body, decoded = through(whole, x)
    assert np.array_equal(decoded, whole.decode(body, x.size))
    assert decoded == pytest.approx(1.5 * plain.decode(body, x.size))


def test_with_error_feedback_a_sparse_codec_gets_there_sooner():
    """One delta, again and again: after a few rounds more of it has arrived, and what is owed does not grow."""
    arrived = {}
    for factor in (1.0, 1.5):
        one, owed, sums = codec(f"relax({factor})+topk(0.05)+sign"), np.zeros(LAYOUT.size, np.float32), []
        for _ in range(60):
            body, owed = compensate(one, delta(3), owed)
            sums.append(one.decode(body, LAYOUT.size))
        arrived[factor] = np.cumsum(sums, axis=0)
        assert np.linalg.norm(owed) < 20 * np.linalg.norm(delta(3))
    rounds = np.arange(1, 61)[:, None] * delta(3)
    behind = {factor: np.linalg.norm(rounds - got, axis=1) for factor, got in arrived.items()}
    assert (behind[1.5][9:] < 0.9 * behind[1.0][9:]).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("relax(0)+sign", "factor = 0 must be above 0 and below 2"),
        ("relax(2)+sign", "factor = 2 must be above 0 and below 2"),
        ("relax(nan)+sign", "factor = nan must be above 0 and below 2"),
        ("relax(1.5)+compeft", '"compeft" searches for a scale of its own'),
        ("relax+sign", "factor"),
        ("relax(1.5)", "a stage, and a codec belongs there"),
    ],
)
def test_what_it_cannot_be_is_one_error(name, words):
    with pytest.raises(PluginError) as caught:
        build("codec", name, {})
    assert words in caught.value.message
    assert caught.value.remedy


def test_it_stands_anywhere_but_hides_nothing_and_uncovers_nothing():
    x = delta(4)
    inside, outside = codec("rotate+relax(1.5)+sign"), codec("relax(1.5)+rotate+sign")
    assert inside.decode(inside.encode(x), x.size) == pytest.approx(outside.decode(outside.encode(x), x.size), abs=1e-5)
    with pytest.raises(
        PluginError, match='"bitdelta" treats each tensor by itself, and behind "rotate" there are none'
    ):
        build("codec", "rotate+relax(1.5)+bitdelta", {})


def test_it_hands_on_what_a_codec_says_of_itself():
    assert codec("forget+relax(1.5)+sign").owes is False
    assert codec("relax(1.5)+sign").owes is True
    assert (
        on_uplink(build("codec", "relax(1.5)+lgreco(seconds=2)+zstd", {}), 4e3).name == "relax(1.5)+lgreco(kb=1)+zstd"
    )
