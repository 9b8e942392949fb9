"""Spreads over clients, and the metric that a run is judged by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.journal import Event, EventKind, Headline, Spread, measured, spread_of, spreads

shares = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=40)


@given(shares)
def test_a_spread_agrees_with_numpy(pairs):
    values, counts = map(list, zip(*pairs, strict=True))
    spread = spread_of(values, counts)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.weighted == pytest.approx(np.average(values, weights=counts))
    expected = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    found = (spread.min, spread.lower_quartile, spread.median, spread.upper_quartile, spread.max)
    assert found == pytest.approx(tuple(expected))
    assert Spread.from_payload(spread.to_payload()) == spread


@pytest.mark.parametrize(("clients", "worst"), [(1, 1), (10, 1), (11, 2), (70, 7)])
def test_the_worst_tenth_is_rounded_up(clients, worst):
    values = [number / 100 for number in range(clients)]
    assert spread_of(values, [1] * clients).worst == pytest.approx(np.mean(values[:worst]))
    assert spread_of(values, [1] * clients, larger_is_better=False).worst == pytest.approx(np.mean(values[-worst:]))


def test_every_metric_of_the_clients_has_a_spread_and_its_own_worst_end():
    payloads = [
        {"accuracy": share, "loss": 1 - share, "metrics": {}, "examples": 5, "constant": {"held_out": 0.4}}
        for share in (0.2, 0.8)
    ]
    found = spreads(payloads, Headline())
    assert {name: spread.worst for name, spread in found.items()} == pytest.approx(
        {"accuracy": 0.2, "loss": 0.8, "constant.held_out": 0.4}
    )
    assert spreads([{"accuracy": None, "loss": None, "examples": 3}], Headline()) == {}


def test_the_headline_is_the_accuracy_else_what_the_task_says_else_the_first_metric_else_the_loss():
    assert Headline.of({"accuracy": 0.5, "loss": 1.0}) == Headline("accuracy", True)
    assert Headline.of({"accuracy": 0.5, "perplexity": 3.0, "loss": 1.0}, "perplexity", False) == Headline(
        "perplexity", False
    )
    assert Headline.of({"rouge_l": 0.5, "loss": 1.0}) == Headline("rouge_l", True)
    assert Headline.of({"perplexity": 3.0, "loss": 1.0}) == Headline("perplexity", False)
    assert Headline.of({"loss": 1.0}) == Headline("loss", False)
    assert Headline.of({"loss": 1.0}, "rouge_l", True) == Headline("loss", False), "what was not measured is not shown"


def test_the_headline_of_a_run_is_known_from_its_plan_before_anything_is_measured():
    start = Event(
        1, 0.0, EventKind.RUN_STARTED, None, None, None, {"plan": {"headline": "chrf", "larger_is_better": True}}
    )
    assert Headline.of_events([start]) == Headline("chrf", True)
    payload = {"split": "test", "accuracy": None, "loss": 1.0, "metrics": {"chrf": 0.3}, "examples": 2}
    found = Headline.of_events([start, Event(2, 0.0, EventKind.EVALUATED, 0, None, None, payload)])
    assert (found.name, found.value(payload), found.gain(0.5, 0.3)) == ("chrf", 0.3, pytest.approx(0.2))
    assert list(measured(payload)) == ["chrf", "loss"]
