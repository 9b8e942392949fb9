"""FedBuff against Algorithm 1, worked out by hand: what sets it apart is that s(τ) is not divided out."""

import numpy as np
import pytest

from fedpeft.strategies import FedAvg, FedAvgM, FedBuff
from fedpeft.types import ClientId, Update


def play(rule, theta, *replies):
    """One buffer; replies are (delta, examples, s)."""
    rule.begin(np.array(theta, dtype=np.float32))
    for index, (delta, examples, s) in enumerate(replies):
        update = Update(ClientId(f"c{index}"), 1, np.array(delta, dtype=np.float32), examples)
        rule.accept(update, examples * s)
    return rule.finish()


def test_a_stale_buffer_makes_a_shorter_step():
    replies = ([4, 0], 30, 0.5), ([0, 8], 10, 1.0)
    np.testing.assert_allclose(play(FedBuff(), [0, 0], *replies), [30 * 0.5 * 4 / 40, 10 * 8 / 40], rtol=1e-6)
    np.testing.assert_allclose(play(FedAvg(), [0, 0], *replies), [30 * 0.5 * 4 / 25, 10 * 8 / 25], rtol=1e-6)


def test_uniform_counts_every_update_the_same_as_in_the_paper():
    theta = play(FedBuff(uniform=True), [0, 0], ([4, 0], 30, 0.5), ([0, 8], 10, 1.0))
    np.testing.assert_allclose(theta, [0.5 * 4 / 2, 8 / 2], rtol=1e-6)


def test_learning_rate_and_momentum_are_the_servers():
    rule = FedBuff(learning_rate=0.5, momentum=0.8)
    first = play(rule, [0], ([2], 5, 0.5))  # v = 1
    second = play(rule, first, ([4], 5, 0.25))  # v = 0.8 + 1
    np.testing.assert_allclose([first[0], second[0]], [0.5, 0.5 + 0.9], rtol=1e-6)


def test_with_nothing_stale_it_is_fedavgm_bit_by_bit():
    rng = np.random.default_rng(1)
    mine, other = FedBuff(learning_rate=0.3, momentum=0.9), FedAvgM(learning_rate=0.3, momentum=0.9)
    theta, expected = np.ones(50, dtype=np.float32), np.ones(50, dtype=np.float32)
    for _ in range(3):
        replies = [(rng.normal(0, 1, 50), int(rng.integers(1, 99)), 1.0) for _ in range(5)]
        theta, expected = play(mine, theta, *replies), play(other, expected, *replies)
        assert theta.tobytes() == expected.tobytes()


def test_order_of_arrival_leaves_no_trace_in_the_sums():
    rng = np.random.default_rng(2)
    replies = [(rng.normal(0, 1, 20), int(rng.integers(1, 999)), (1 + k) ** -0.37) for k in range(12)]
    first = play(FedBuff(), np.zeros(20), *replies)
    for _ in range(10):
        assert play(FedBuff(), np.zeros(20), *(replies[k] for k in rng.permutation(12))).tobytes() == first.tobytes()


@pytest.mark.parametrize("params", [{"learning_rate": 0}, {"momentum": 1}, {"uniform": "yes"}])
def test_parameters_out_of_range_are_named(params):
    (name,) = params
    with pytest.raises(ValueError, match=name):
        FedBuff(**params)
