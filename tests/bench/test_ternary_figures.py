import sys

import numpy as np
import pytest

from fedpeft.bench.figure import verdicts
from simulations.benchmarks.ternary import DENSITIES, MOST, RATIOS, SIZES, ternary_figures


@pytest.fixture(scope="module")
def delta():
    return np.random.default_rng(0).normal(size=300_000).astype(np.float32)


def test_every_density_stands_beside_its_bound_and_the_arithmetic_coder(delta):
    pytest.importorskip("constriction")
    figures = ternary_figures(delta)
    sizes = {figure.name: figure.value for figure in figures if figure.group == SIZES}
    for p in DENSITIES:
        bound = sizes[f"H(p) + p at density {p:g}"]
        assert bound == pytest.approx(-p * np.log2(p) - (1 - p) * np.log2(1 - p) + p)
        assert bound < sizes[f"topk({p:g})+sign"] <= MOST * bound
        assert bound < sizes[f"ans at density {p:g}"] < 1.01 * bound
    judged = verdicts(figures)
    assert [verdict.met for verdict in judged] == [True] * len(DENSITIES)
    assert {verdict.figure.group for verdict in judged} == {RATIOS}
    assert "0.5690" in next(verdict.figure.note for verdict in judged if verdict.figure.name == "topk(0.1)+sign")


def test_the_arithmetic_coder_that_is_not_installed_is_said_to_be_missing(delta, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    figures = ternary_figures(delta[:1000])
    missing = [figure for figure in figures if figure.value is None]
    assert len(missing) == 2 * len(DENSITIES)
    assert all("constriction is not installed" in figure.note for figure in missing)
