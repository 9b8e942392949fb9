"""The benchmark of mixing, on layers so small that it takes no time: all is measured, and errors are errors."""

import pytest

from fedpeft.bench.figure import verdicts
from simulations.benchmarks import mixing

pytestmark = pytest.mark.slow


def test_all_that_it_promises_is_measured():
    figures = list(mixing.measure(quick=True, size=96))
    groups = {figure.group for figure in figures}
    assert {f"{what} of {label}" for what in ("best part", "error", "memory") for label in mixing.MIXES} <= groups
    assert all(figure.value is not None and figure.value >= 0 for figure in figures)
    assert verdicts(figures)  # every goal names a figure of its group
    errors = [figure.value for figure in figures if figure.group.startswith("error")]
    assert all(error >= 1 - 1e-9 for error in errors)  # nothing beats the best part
