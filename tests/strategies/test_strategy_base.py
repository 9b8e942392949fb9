"""What every strategy inherits: the docstring's toy, seeded sampling, the client half, reading a saved state."""

import doctest

import numpy as np
import pytest

from fedpeft import strategies
from fedpeft.errors import PluginError
from fedpeft.registry import BUILTIN, load
from fedpeft.strategies import FedAvg, Strategy, base
from fedpeft.strategies.parameters import number
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan


def infos(count):
    return [ClientInfo(ClientId(f"c{index:02d}"), NodeId(index), 5) for index in range(count)]


def test_the_toy_of_the_docstring_runs():
    failed, attempted = doctest.testmod(base)
    assert failed == 0
    assert attempted >= 8


def test_the_package_exports_what_the_registry_names():
    assert {load("strategy", name) for name in BUILTIN["strategy"]} | {Strategy} == {
        getattr(strategies, name) for name in strategies.__all__
    }


def test_a_strategy_without_its_three_methods_cannot_be_built():
    class Half(Strategy):
        def begin(self, theta):
            pass

    with pytest.raises(TypeError, match="accept"):
        Half()


def test_pairs_of_clients_are_drawn_uniformly():
    """Not only each client but each pair comes as often as any other: 15 pairs of 6, 1500 draws."""
    pairs = {}
    for seed in range(1500):
        pair = tuple(sorted(FedAvg().select(infos(6), 2, seed)))
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 15
    assert all(60 <= count <= 145 for count in pairs.values())  # 100, give or take 4 standard deviations


def test_the_place_in_a_cohort_is_drawn_too():
    firsts = {FedAvg().select(infos(4), 4, seed)[0] for seed in range(50)}
    assert len(firsts) == 4


def test_the_default_plan_asks_for_the_plain_objective():
    plan = Plan("run", 1, 1, ClientId("c00"), 0, 1, 1, 0.1, objective="proximal", objective_params={"mu": 3.0})
    planned = FedAvg().plan(plan, infos(1)[0])
    assert (planned.objective, planned.objective_params) == ("plain", {})


@pytest.mark.parametrize("call", [lambda rule: rule.finish(), lambda rule: rule.accept(None, 1.0)])
def test_a_round_must_be_begun(call):
    with pytest.raises(RuntimeError, match=r"FedAvg: no round is open; call begin\(theta\) first"):
        call(FedAvg())


def test_a_finished_round_is_closed():
    rule = FedAvg()
    rule.begin(np.zeros(2, dtype=np.float32))
    rule.finish()
    with pytest.raises(RuntimeError, match="no round is open"):
        rule.finish()


@pytest.mark.parametrize(
    "state",
    [
        {"v": np.zeros(2, dtype=np.float64)},
        {"w": np.zeros(2, dtype=np.float32)},
        {"v": np.zeros(2, dtype=np.float32), "w": np.zeros(2, dtype=np.float32)},
    ],
)
def test_a_saved_state_of_another_strategy_is_refused(state):
    with pytest.raises(PluginError, match="strategy FedAvg cannot go on") as error:
        FedAvg().read_state(state, {"v": np.float32})
    assert error.value.code == "strategy.state"
    assert error.value.allowed == "the arrays {'v': 'float32'}, or none"


def test_an_empty_state_is_a_fresh_start():
    assert FedAvg().read_state({}, {"v": np.float32}) is None


@pytest.mark.parametrize("value", [0.5, 0, 1, np.float64(0.25)])
def test_a_number_in_range_passes(value):
    assert number("share", value, least=0, below=2) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "share = -0.1 must be at least 0 and below 0.5"),
        (0.5, "share = 0.5 must be at least 0 and below 0.5"),
        (float("nan"), "share = nan must be a finite number, at least 0 and below 0.5"),
        (float("inf"), "share = inf must be a finite number"),
        (True, "share = True must be a finite number"),
        ("0.1", "share = '0.1' must be a finite number"),
        (None, "share = None must be a finite number"),
    ],
)
def test_a_number_out_of_range_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        number("share", value, least=0, below=0.5)
