"""The built-in rules against their papers' equations, worked out by hand or in float64."""

import numpy as np
import pytest

from fedpeft.errors import ClientFault, PluginError
from fedpeft.registry import build
from fedpeft.strategies import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan, Update


def play(strategy, theta, *replies):
    """One round; replies are (delta, weight)."""
    strategy.begin(np.array(theta, dtype=np.float32))
    for index, (delta, weight) in enumerate(replies):
        strategy.accept(Update(ClientId(f"c{index}"), 1, np.array(delta, dtype=np.float32), weight), weight)
    return strategy.finish()


def random_rounds(rounds, size=50, scale=1e-3):
    rng = np.random.default_rng(2)
    return [(rng.normal(0.3, 1, size) * scale).astype(np.float32) for _ in range(rounds)]


def same(left, right):
    return left.tobytes() == right.tobytes()


def test_fedavg_weights_by_examples():
    theta = play(FedAvg(), [10, 20], ([1, 0], 30), ([0, 4], 10))
    np.testing.assert_array_equal(theta, [10.75, 21.0])


def test_fedavg_leaves_a_reply_out_of_range_out():
    rule = FedAvg()
    rule.begin(np.zeros(1, dtype=np.float32))
    rule.accept(Update(ClientId("c0"), 1, np.array([2], dtype=np.float32), 1), 1)
    with pytest.raises(ClientFault, match=r"client c1, round 1: delta has an element of size 4e\+06") as fault:
        rule.accept(Update(ClientId("c1"), 1, np.array([4e6], dtype=np.float32), 1), 1)
    assert fault.value.code == "strategy.range"
    assert rule.finish() == 2


def test_fedprox_tells_the_clients_mu_and_is_fedavg_on_the_server():
    rule, client = FedProx(mu=0.3), ClientInfo(ClientId("c00"), NodeId(1), 5)
    plan = rule.plan(Plan("run", 1, 1, ClientId("c00"), 0, 1, 1, 0.1), client)
    assert (plan.objective, plan.objective_params) == ("proximal", {"mu": 0.3})
    replies = [([0.1, -2], 3), ([7, 1e-4], 11)]
    assert same(play(rule, [1, 2], *replies), play(FedAvg(), [1, 2], *replies))


def test_fedprox_instances_do_not_share_parameters():
    one, other = FedProx(mu=0.1), FedProx(mu=0.2)
    assert (one.objective_params, other.objective_params) == ({"mu": 0.1}, {"mu": 0.2})


def test_fedavgm_takes_each_delta_undamped():
    """v: 1, 0.5 · 1 + 1, 0.5 · 1.5 + 1; θ moves by 2 v."""
    rule, theta, path = FedAvgM(momentum=0.5, learning_rate=2.0), [0.0], []
    for _ in range(3):
        theta = play(rule, theta, ([1.0], 4))
        path.append(theta[0])
    assert path == [2.0, 5.0, 8.5]


def test_fedavgm_settles_at_the_stated_step():
    rule, theta = FedAvgM(), np.zeros(1, dtype=np.float32)
    for _ in range(200):
        before, theta = theta, play(rule, theta, ([1e-3], 1))
    assert (theta - before)[0] == pytest.approx(1e-2, rel=1e-3)


def test_fedavgm_without_momentum_is_fedavg():
    plain, heavy, left, right = FedAvg(), FedAvgM(momentum=0.0), np.zeros(50), np.zeros(50)
    for delta in random_rounds(4):
        left, right = play(plain, left, (delta, 1)), play(heavy, right, (delta, 1))
        assert same(left, right)


def test_fedavgm_keeps_its_momentum_through_a_round_without_replies():
    rule = FedAvgM(momentum=0.5)
    theta = play(rule, [0.0], ([1.0], 1))
    theta = play(rule, theta)
    assert theta == 1.0
    assert play(rule, theta, ([1.0], 1)) == 2.5


@pytest.mark.parametrize(
    ("rule", "beta1", "second_moment"),
    [
        (FedAdam(learning_rate=0.02, beta1=0.8, beta2=0.95), 0.8, lambda v, d: 0.95 * v + 0.05 * d**2),
        (FedYogi(learning_rate=0.02, beta1=0.8, beta2=0.95), 0.8, lambda v, d: v - 0.05 * d**2 * np.sign(v - d**2)),
        (FedAdagrad(learning_rate=0.02), 0.0, lambda v, d: v + d**2),
        (FedAdagrad(learning_rate=0.02, beta1=0.5), 0.5, lambda v, d: v + d**2),
    ],
)
def test_adaptive_rules_are_algorithm_2(rule, beta1, second_moment):
    """Deltas rise from a tenth of τ to ten times τ, so that Yogi's sign takes both values."""
    eta, tau = 0.02, 1e-3
    theta = np.zeros(50, dtype=np.float32)
    want, m, v = np.zeros(50), np.zeros(50), np.full(50, tau**2)
    signs = set()
    for number, delta in enumerate(random_rounds(12)):
        scaled = (delta * 10 ** (number / 6 - 1)).astype(np.float32)
        theta = play(rule, theta, (scaled, 1))
        exact = scaled.astype(np.float64)
        signs |= set(np.sign(v - exact**2))
        m = beta1 * m + (1 - beta1) * exact
        v = second_moment(v, exact)
        want += eta * m / (np.sqrt(v) + tau)
    assert {-1.0, 1.0} <= signs
    np.testing.assert_allclose(theta, want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("rule", "first", "tenth"), [(FedAdam(), 0.25, 1.63), (FedYogi(), 0.25, 1.63), (FedAdagrad(), 1.41, 0.79)]
)
def test_the_default_rate_goes_as_far_as_fedavg_in_ten_rounds_of_steady_deltas(rule, first, tenth):
    theta, steps = np.zeros(1, dtype=np.float32), []
    for _ in range(10):
        before, theta = theta, play(rule, theta, ([1e-3], 1))
        steps.append(float((theta - before)[0]) / 1e-3)
    assert theta[0] == pytest.approx(10 * 1e-3, rel=0.05)
    assert steps[0] == pytest.approx(first, rel=0.01)
    assert steps[-1] == pytest.approx(tenth, rel=0.01)


def test_fedyogi_keeps_its_step_small_after_large_deltas_and_fedadam_forgets_them():
    """One delta of 1, then 300 of 1e-3: Adam's memory of it fades as β2^t, Yogi's by 1e-8 a round."""
    moved = {}
    for rule in (FedAdam(), FedYogi()):
        theta = play(rule, [0.0], ([1.0], 1))
        for _ in range(300):
            before, theta = theta, play(rule, theta, ([1e-3], 1))
        moved[type(rule)] = float((theta - before)[0])
    assert moved[FedAdam] > 3 * moved[FedYogi] > 0


def test_the_three_adaptive_rules_differ_in_one_line_only():
    """With the first delta at τ, v_1 is τ² for Adam and Yogi, 2τ² for Adagrad."""
    rules = [rule(learning_rate=1e-3, beta1=0.0) for rule in (FedAdam, FedYogi, FedAdagrad)]
    steps = [play(rule, [0.0], ([1e-3], 1))[0] for rule in rules]
    assert steps == pytest.approx([0.5e-3, 0.5e-3, 1e-3 / (1 + 2**0.5)], rel=1e-6)


def test_fedadam_never_steps_further_than_stated():
    """The worst case of the bound: deltas that grow by β2/β1 a round, so fast that neither v_0 nor τ matters."""
    rule, theta, largest = FedAdam(learning_rate=1.0), np.zeros(1, dtype=np.float32), 0.0
    for number in range(100):
        before, theta = theta, play(rule, theta, ([10 * (0.99 / 0.9) ** number], 1))
        largest = max(largest, float((theta - before)[0]))
    assert 2.2 < largest <= 2.4


def test_fedadam_warms_up_after_a_restart_from_nothing():
    rule = FedAdam()
    first = play(rule, [0.0], ([1e-3], 1))
    play(rule, first, ([1e-3], 1))
    rule.restore({})
    assert same(play(rule, [0.0], ([1e-3], 1)), first)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: FedProx(mu=-0.1), "mu = -0.1 must be at least 0"),
        (lambda: FedAvgM(momentum=1.0), "momentum = 1.0 must be at least 0 and below 1"),
        (lambda: FedAvgM(learning_rate=0), "learning_rate = 0 must be above 0"),
        (lambda: FedAdam(learning_rate=-1), "learning_rate = -1 must be above 0"),
        (lambda: FedAdam(beta1=1), "beta1 = 1 must be at least 0 and below 1"),
        (lambda: FedAdam(beta2=-0.5), "beta2 = -0.5 must be at least 0 and below 1"),
        (lambda: FedAdam(tau=0), "tau = 0 must be above 0"),
        (lambda: FedYogi(beta2=1.0), "beta2 = 1.0 must be at least 0 and below 1"),
        (lambda: FedYogi(tau=-1e-3), "tau = -0.001 must be above 0"),
        (lambda: FedAdagrad(learning_rate=0), "learning_rate = 0 must be above 0"),
        (lambda: FedAdagrad(beta1=1.5), "beta1 = 1.5 must be at least 0 and below 1"),
    ],
)
def test_parameters_are_checked(build_it, message):
    with pytest.raises(ValueError, match=message):
        build_it()


def test_a_run_file_that_names_a_bad_value_gets_one_clear_error():
    with pytest.raises(PluginError, match=r'"fedavgm" refused its parameters .* momentum = 2 must be') as error:
        build("strategy", "fedavgm", {"momentum": 2})
    assert error.value.code == "plugin.strategy-parameter"
