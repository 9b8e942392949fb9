"""A mean over clients that hold different parts of the vector: each coordinate by the weights of its holders."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.aggregation import WeightedMean
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId, Held, Update

D = 6


@st.composite
def replies(draw):
    """(delta, weight, held) of a few clients; a part is held by several of them."""
    parts = draw(st.lists(st.sets(st.integers(0, D - 1), min_size=1), min_size=1, max_size=3))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        values = draw(st.lists(st.floats(-4, 4, width=32), min_size=D, max_size=D))
        weight = draw(st.integers(1, 500) | st.floats(0.01, 9))
        part = draw(st.none() | st.integers(0, len(parts) - 1))
        delta = np.array(values, dtype=np.float32)
        held = None
        if part is not None:
            places = np.array(sorted(parts[part]), dtype=np.int64)
            delta[np.setdiff1d(np.arange(D), places)] = 0
            held = Held(str(places), places)
        found.append((delta, weight, held))
    return found


def mean_of(folded):
    mean = WeightedMean(D)
    for delta, weight, held in folded:
        mean.add(delta, weight, held)
    return mean.mean()


@given(replies())
def test_each_coordinate_is_the_mean_over_its_holders(found):
    expected = np.zeros(D)
    for place in range(D):
        own = [(delta[place], weight) for delta, weight, held in found if held is None or place in held.places]
        if own:
            expected[place] = sum(float(value) * weight for value, weight in own) / sum(weight for _, weight in own)
    np.testing.assert_allclose(mean_of(found), expected, rtol=1e-6, atol=1e-9)


@given(replies(), st.randoms(use_true_random=False))
def test_the_bits_do_not_depend_on_the_order(found, random):
    mixed = list(found)
    random.shuffle(mixed)
    assert mean_of(found).tobytes() == mean_of(mixed).tobytes()


@given(replies())
def test_holding_everything_is_holding_no_part(found):
    plain = [(delta, weight, None) for delta, weight, _ in found]
    whole = [(delta, weight, Held("all", np.arange(D))) for delta, weight, _ in found]
    assert mean_of(plain).tobytes() == mean_of(whole).tobytes()


def test_a_coordinate_that_nobody_holds_stays():
    rule, theta = FedAvg(), np.full(3, 7, dtype=np.float32)
    rule.begin(theta)
    held = Held("first", np.array([0]))
    rule.accept(Update(ClientId("c00"), 1, np.array([1, 0, 0], dtype=np.float32), weight=3, held=held), 3)
    assert rule.finish().tolist() == [8, 7, 7]


def test_a_weight_counts_only_where_its_client_holds_something():
    rule = FedAvg()
    rule.begin(np.zeros(2, dtype=np.float32))
    rule.accept(Update(ClientId("c00"), 1, np.array([2, 2], dtype=np.float32), weight=1), 1)
    held = Held("first", np.array([0]))
    rule.accept(Update(ClientId("c01"), 1, np.array([8, 0], dtype=np.float32), weight=5, held=held), 5)
    assert rule.finish().tolist() == [7, 2]
