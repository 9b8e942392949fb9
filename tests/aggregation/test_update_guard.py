"""The update guard: each bad update is refused by name and value; each honest one passes with its weight."""

import math

import numpy as np
import pytest

from fedpeft.aggregation.guard import UpdateGuard, l2_norm
from fedpeft.codecs.int8 import Int8
from fedpeft.errors import ClientFault
from fedpeft.types import ClientId, ClientInfo, NodeId, Update

SIZE = 8
INFO = ClientInfo(ClientId("c07"), NodeId(7), examples=120)
GUARD = UpdateGuard(SIZE, max_norm=10.0, max_examples=1000)


def update(delta=None, weight=100.0):
    if delta is None:
        delta = np.ones(SIZE, dtype=np.float32)
    return Update(ClientId("c07"), 3, delta, weight)


def filled(value, position=5):
    delta = np.ones(SIZE, dtype=np.float32)
    delta[position] = value
    return delta


@pytest.mark.parametrize("weight", [0.5, 1, 100.0, 120])
def test_an_honest_update_passes_with_its_weight(weight):
    assert GUARD.check(update(weight=weight), INFO).weight == weight


def test_a_delta_of_exactly_the_largest_norm_passes():
    delta = np.zeros(SIZE, dtype=np.float32)
    delta[:2] = 6.0, 8.0
    assert GUARD.check(update(delta), INFO) == (100.0, 10.0)


@pytest.mark.parametrize(
    ("bad", "code", "found", "allowed"),
    [
        (update(np.ones(1, dtype=np.float32)), "shape", "float32 of shape (1,)", "float32 of shape (8,)"),
        (update(np.ones(9, dtype=np.float32)), "shape", "shape (9,)", "shape (8,)"),
        (update(np.ones((1, 8), dtype=np.float32)), "shape", "shape (1, 8)", "shape (8,)"),
        (update(np.array(1, dtype=np.float32)), "shape", "shape ()", "shape (8,)"),
        (update(np.ones(8, dtype=np.float64)), "shape", "float64", "float32"),
        (update(np.ones(8, dtype=">f4")), "shape", ">f4", "float32"),
        (update(weight=math.nan), "weight", "weight of nan", "at most 120"),
        (update(weight=math.inf), "weight", "weight of inf", "at most 120"),
        (update(weight=0), "weight", "weight of 0", "above 0"),
        (update(weight=-89), "weight", "weight of -89", "above 0"),
        (update(weight=121), "weight", "weight of 121", "it declared 120 examples"),
        (update(weight=1e15), "weight", "weight of 1e+15", "at most 120"),
        (update(filled(math.nan)), "not-finite", "delta[5] = nan", "finite"),
        (update(filled(math.inf)), "not-finite", "delta[5] = inf", "finite"),
        (update(filled(-math.inf, 0)), "not-finite", "delta[0] = -inf", "finite"),
        (update(filled(10.0)), "norm", "L2 norm 10.3441", "at most limits.max_update_norm = 10"),
        (update(filled(1e30)), "norm", "L2 norm 1e+30", "10"),
        (update(filled(3.4e38)), "norm", "L2 norm 3.4e+38", "10"),
    ],
)
def test_a_bad_update_is_named(bad, code, found, allowed):
    with pytest.raises(ClientFault) as fault:
        GUARD.check(bad, INFO)
    assert fault.value.code == f"guard.{code}"
    assert fault.value.message.startswith("client c07, round 3: ")
    assert found in fault.value.message
    assert allowed in (fault.value.allowed or "")
    assert fault.value.remedy


def test_the_run_bounds_the_weight_even_if_the_client_declares_more():
    boaster = ClientInfo(ClientId("c07"), NodeId(7), examples=10**9)
    assert GUARD.check(update(weight=1000), boaster).weight == 1000
    with pytest.raises(ClientFault, match="weight of 1001") as fault:
        GUARD.check(update(weight=1001), boaster)
    assert "limits.max_examples = 1000" in (fault.value.allowed or "")


def test_a_client_without_examples_may_claim_none():
    with pytest.raises(ClientFault, match="weight of 1"):
        GUARD.check(update(weight=1), ClientInfo(ClientId("c07"), NodeId(7), examples=0))


def test_the_norm_does_not_overflow_and_spans_chunks():
    delta = np.full(100_000, 3e38, dtype=np.float32)
    assert l2_norm(delta) == pytest.approx(3e38 * math.sqrt(100_000), rel=1e-6)


def test_a_strided_or_unaligned_delta_has_its_own_norm():
    delta = np.arange(10, dtype=np.float32)
    assert l2_norm(delta[::2]) == l2_norm(delta[::2].copy()) == math.sqrt(0 + 4 + 16 + 36 + 64)
    unaligned = np.frombuffer(b"x" + delta.tobytes(), dtype=np.float32, offset=1)
    assert l2_norm(unaligned) == l2_norm(delta)


def coded(values, size=SIZE, weight=100.0):
    values = np.asarray(values, dtype=np.float32)
    return Update.of_codes(ClientId("c07"), 3, Int8().view(Int8().encode(values), size), weight)


def test_codes_are_checked_without_being_decoded():
    passing = coded(np.full(SIZE, 2.0))
    weight, norm = GUARD.check(passing, INFO)
    assert weight == 100
    assert norm == pytest.approx(math.sqrt(4 * SIZE), rel=1e-6)
    assert not decoded_already(passing)
    with pytest.raises(ClientFault, match=r"L2 norm 28\.28") as fault:
        GUARD.check(coded(np.full(SIZE, 10.0)), INFO)
    assert fault.value.code == "guard.norm"


def test_codes_of_another_size_are_named():
    with pytest.raises(ClientFault, match="codes of 9 values") as fault:
        GUARD.check(coded(np.ones(9), size=9), INFO)
    assert fault.value.code == "guard.shape"


def decoded_already(update):
    """Whether the slot of `delta` has been filled, looked at without filling it."""
    try:
        Update.__dict__["delta"].__get__(update, Update)
    except AttributeError:
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0, 1, 1), "size = 0"), ((1, math.nan, 1), "max_norm = nan"), ((1, 1, -1), "max_examples = -1")],
)
def test_limits_are_checked(arguments, named):
    with pytest.raises(ValueError, match=named):
        UpdateGuard(*arguments)
