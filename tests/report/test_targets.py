"""Seconds to a target: on the line to the first evaluation that reaches it; none where it was missed; by seed."""

import doctest
import math
from dataclasses import replace

import pytest

from fedpeft.errors import ConfigError
from fedpeft.report import targets
from fedpeft.report.record import CurvePoint, RunRecord
from fedpeft.report.seeds import Group
from fedpeft.report.targets import Target, parse_target, seconds_to, times_to


def run_of(accuracies, seconds=10.0, seed=1):
    """A run whose accuracy after each round is given; every round takes as long."""
    tests = tuple(
        CurvePoint(n, n * seconds, 0, 0, {"accuracy": value, "loss": 1 - value}) for n, value in enumerate(accuracies)
    )
    return RunRecord("run", seed, "accuracy", {}, 0, 0, "", tests, {})


def group(name, *runs):
    return Group(name, "accuracy", runs, {})


def test_the_example_runs():
    assert doctest.testmod(targets) == (0, 1)


def test_the_line_to_the_first_evaluation_that_reaches_it_counts():
    run = run_of([0.1, 0.4, 0.7, 0.6, 0.8])
    assert seconds_to(run, Target("accuracy", 0.4)) == 10.0
    assert seconds_to(run, Target("accuracy", 0.5)) == pytest.approx(10 + 10 / 3)
    assert seconds_to(run, Target("accuracy", 0.1)) == 0.0
    assert seconds_to(run, Target("accuracy", 0.75)) == pytest.approx(30 + 7.5)
    assert seconds_to(run, Target("accuracy", 0.9)) is None


@pytest.mark.parametrize("diverged", [math.nan, -math.inf])
def test_from_what_is_no_number_there_is_no_line(diverged):
    assert seconds_to(run_of([0.1, diverged, 0.7]), Target("accuracy", 0.5)) == 20.0


def test_who_is_looked_at_more_often_is_no_faster_for_it():
    often = run_of([0.0, 0.2, 0.4, 0.6, 0.8], 10.0)
    seldom = run_of([0.0, 0.4, 0.8], 20.0)
    target = Target("accuracy", 0.5)
    assert seconds_to(often, target) == pytest.approx(seconds_to(seldom, target)) == pytest.approx(25.0)


def test_a_loss_is_reached_from_above():
    assert seconds_to(run_of([0.1, 0.4, 0.7]), Target("loss", 0.6)) == pytest.approx(10.0)
    assert seconds_to(run_of([0.1, 0.4, 0.7]), Target("loss", 0.1)) is None


def test_a_task_says_which_way_its_metric_goes():
    run = run_of([5.0, 2.0, 0.9])
    tests = tuple(replace(item, metrics={"bits_per_byte": item.metrics["accuracy"], "loss": 1.0}) for item in run.tests)
    run = replace(run, metric="bits_per_byte", tests=tests)
    assert seconds_to(replace(run, larger_is_better=False), Target("bits_per_byte", 1.0)) == pytest.approx(
        10 + 10 / 1.1
    )
    assert seconds_to(run, Target("bits_per_byte", 1.0)) == 0.0, "a name that nobody knows: more is better"
    assert seconds_to(replace(run, larger_is_better=True), Target("loss", 1.0)) == 0.0, "of another metric, its name"


def test_every_run_counts_where_several_have_one_seed():
    again = group("a", run_of([0, 0.5], 10.0), run_of([0, 0.5], 90.0))
    missed = group("b", run_of([0, 0.1]), run_of([0, 0.5], 45.0))
    first, second = times_to([again, missed], Target("accuracy", 0.5))
    assert (first.seconds, first.mean.mean) == ((10.0, 90.0), 50.0)
    assert (second.seconds, second.reached, second.mean) == ((None, 45.0), 1, None)
    assert second.times[0] == pytest.approx(2.0), "a pair is of the last of each"


def test_rounds_without_an_evaluation_are_passed_over():
    run = run_of([0.1, 0.4, 0.7])
    run = replace(run, tests=tuple(item for item in run.tests if item.round != 1))
    assert seconds_to(run, Target("accuracy", 0.3)) == pytest.approx(20 / 3)


def test_groups_are_paired_by_seed():
    a = group("a", run_of([0, 0.5], 40.0, seed=1), run_of([0, 0.5], 90.0, seed=2))
    b = group("b", run_of([0, 0.5], 30.0, seed=2), run_of([0, 0.5], 20.0, seed=1), run_of([0, 0.5], 1.0, seed=3))
    first, second = times_to([a, b], Target("accuracy", 0.5))
    assert first.times[0] == 1.0
    assert second.seconds == (30.0, 20.0, 1.0)
    assert second.speedup.n == 2, "seed 3 has no partner"
    assert second.times[0] == pytest.approx(math.sqrt(2 * 3))
    assert second.mean.mean == pytest.approx(17.0)


def test_a_target_that_a_run_missed_gives_no_mean():
    a = group("a", run_of([0, 0.5], seed=1), run_of([0, 0.9], seed=2))
    b = group("b", run_of([0, 0.9], seed=1), run_of([0, 0.9], seed=2))
    first, second = times_to([a, b], Target("accuracy", 0.8))
    assert (first.reached, first.mean) == (1, None)
    assert second.mean.mean == pytest.approx(80 / 9)
    assert second.speedup.n == 1
    assert second.to_json()["reached"] == 2


@pytest.mark.parametrize("text", ["accuracy", "=0.5", "accuracy=high", "accuracy=nan", ""])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert caught.value.code == "config.target"


def test_a_share_above_one_is_refused_with_the_share_that_was_meant():
    with pytest.raises(ConfigError, match="accuracy goes from 0 to 1") as caught:
        parse_target("accuracy=60")
    assert caught.value.remedy == "accuracy=0.6 is 60 %"


def test_a_metric_that_was_not_measured_is_refused_with_those_that_were():
    with pytest.raises(ConfigError, match="rouge") as caught:
        seconds_to(run_of([0.1, 0.2]), Target("rouge", 0.5))
    assert caught.value.allowed == "accuracy, loss"


def test_who_is_there_before_training_is_no_times_as_fast():
    """And its pair is not left out of a mean without a word."""
    a = group("a", run_of([0.6, 0.7], 40.0, seed=1), run_of([0, 0.5], 90.0, seed=2))
    b = group("b", run_of([0, 0.5], 10.0, seed=1), run_of([0, 0.5], 10.0, seed=2))
    _, second = times_to([a, b], Target("accuracy", 0.5))
    assert (second.reached, second.seconds, second.times) == (2, (10.0, 10.0), None)
