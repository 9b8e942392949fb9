import doctest

import pytest
from fake_benchmarks import figures

from fedpeft.bench import figure as figure_module
from fedpeft.bench.figure import Figure, Goal, ratio_of, verdicts
from fedpeft.bench.table import figure_rows, number_text


def test_median_quartiles_and_spread():
    figure = Figure.of("ours", [4.0, 1.0, 3.0, 2.0, 10.0], "ms")
    assert (figure.value, figure.quartiles) == (3.0, (2.0, 4.0))
    assert figure.spread == pytest.approx(1 / 3)
    assert Figure.of("ours", 4.0, "ms").spread is None


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")], float("inf")])
def test_figures_are_finite_numbers(samples):
    with pytest.raises(ValueError, match="ours"):
        Figure.of("ours", samples, "ms")


@pytest.mark.parametrize(("better", "ratio"), [("lower", 4.0), ("higher", 0.25)])
def test_ratio_is_above_one_for_the_better(better, ratio):
    ours = Figure.of("ours", 2.0, "x", better=better)
    theirs = Figure.of("theirs", 8.0, "x", better=better)
    assert ratio_of(ours, theirs) == ratio


@pytest.mark.parametrize(("own", "met"), [(1.0, True), (1.11, True), (1.2, False)])
def test_ratio_goal(own, met):
    against_peer, against_limit, alone = verdicts(figures(own))
    assert against_peer.met is met
    assert (against_limit.met, against_limit.ratio) == (None, pytest.approx(0.5 / own))
    assert (alone.met, alone.ratio) == (True, None)


@pytest.mark.parametrize(("better", "met"), [("lower", False), ("higher", True)])
def test_bound_goal_looks_the_right_way(better, met):
    assert verdicts([Figure.of("ours", 5.0, "x", better=better, goals=[Goal(4.0)])])[0].met is met


def test_a_missing_peer_is_no_verdict():
    found = [Figure.missing("theirs", "no wheel", "ms", group="a step"), *figures()[1:]]
    assert [verdict.met for verdict in verdicts(found)] == [None, None, True]


@pytest.mark.parametrize(
    "found",
    [
        [Figure.of("a", 1.0, "s"), Figure.of("a", 2.0, "s")],
        [Figure.of("a", 1.0, "s", goals=[Goal(2.0, "b")]), Figure.of("b", 1.0, "s", group="another")],
    ],
)
def test_an_authors_mistake_is_named(found):
    with pytest.raises(ValueError, match=r"called|compared"):
        verdicts(found)


def test_rows_tell_target_ratio_and_verdict():
    found = figures(1.25)
    rows = [row for figure in found for row in figure_rows(figure, verdicts(found))]
    assert rows == [
        ("theirs", "2.00 ms ±0.0 %", "", "", ""),
        ("ours", "1.25 ms ±0.0 %", "", "", ""),
        ("  against theirs", "", "≥ 1.8×", "1.60×", "missed"),
        ("  against the limit", "", "", "0.400×", ""),
        ("the limit", "0.500 ms ±0.0 %", "", "", ""),
        ("memory", "0.200 GB ±0.0 %", "≤ 0.3 GB", "", "met"),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0182, "0.0182"), (1.956, "1.96"), (132.4, "132"), (12_900.0, "12\u202f900"), (0.0, "0")]
)
def test_three_digits(value, text):
    assert number_text(value) == text


def test_the_toy_of_the_docstring():
    assert doctest.testmod(figure_module) == (0, 4)
