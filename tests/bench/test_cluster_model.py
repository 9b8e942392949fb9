"""The model of a round keeps within what no machine can beat, and agrees with sums done by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "simulations" / "benchmarks" / "cluster_model.py"
spec = importlib.util.spec_from_file_location("cluster_model", FILE)
model = importlib.util.module_from_spec(spec)
sys.modules["cluster_model"] = model  # its dataclasses look themselves up there
spec.loader.exec_module(model)

SECONDS = st.floats(0.001, 10)
COSTS = st.builds(model.Costs, step=SECONDS, serial=SECONDS, message=SECONDS, round=SECONDS)
STEPS = st.lists(st.integers(1, 20), min_size=1, max_size=50)
SHAPE = {"steps": STEPS, "workers": st.integers(1, 9), "costs": COSTS, "lookahead": st.integers(1, 20)}


@given(**SHAPE, pipelined=st.booleans())
def test_a_round_is_no_faster_than_its_parts_and_no_slower_than_their_sum(steps, workers, costs, lookahead, pipelined):
    found = model.simulated_round(steps, workers, costs, lookahead=lookahead, pipelined=pipelined)
    coordinator = costs.round + len(steps) * (costs.serial + costs.message)
    training = costs.step * sum(steps)
    assert found.seconds >= max(coordinator, costs.round + training / workers) * (1 - 1e-9)
    assert found.seconds <= (coordinator + training) * (1 + 1e-9)
    assert found.workers_busy == pytest.approx(training / workers / found.seconds)
    assert found.coordinator_busy == pytest.approx(coordinator / found.seconds)


@given(steps=STEPS, costs=COSTS, lookahead=st.integers(1, 20))
def test_one_worker_takes_the_sum(steps, costs, lookahead):
    found = model.simulated_round(steps, 1, costs, lookahead=lookahead)
    expected = costs.round + costs.step * sum(steps) + len(steps) * (costs.serial + costs.message)
    assert found.seconds == pytest.approx(expected)


def test_two_cohorts_by_hand():
    costs = model.Costs(step=1.0, serial=0.5, message=0.25, round=2.0)
    # Two workers, a client each: 2 | 3 s trained, two messages, two clients taken up | again with 1 and 4 steps.
    waits = 2 + max(3 + 0.25, 2 + 0.25 + 0.25) + 2 * 0.5 + 4 + 0.25 + 2 * 0.5
    found = model.simulated_round([2, 3, 1, 4], 2, costs, lookahead=1)
    assert found.seconds == pytest.approx(waits)
    assert model.simulated_round([2, 3, 1, 4], 2, costs, lookahead=1, pipelined=True).seconds < waits


def test_devices_share_the_line_and_the_coordinator():
    # Two arrive together, one much later.
    found = model.deployed_round([1.0, 1.0, 9.0], bytes_up=100, line=100, fold=0.25)
    assert found.seconds == pytest.approx(9 + 1 + 0.25)
    assert found.coordinator_busy == pytest.approx(0.75 / 10.25)
    slow = model.deployed_round([1.0] * 4, bytes_up=100, line=100, fold=2.0)
    assert slow.seconds == pytest.approx(1 + 1 + 4 * 2.0)
