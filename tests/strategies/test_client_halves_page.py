"""The page on client halves: its own example is a working plug-in that reaches what it is for."""

import re
from pathlib import Path

import numpy as np
import pytest
from quadratic import CLIENTS, OPTIMUM, D, committed, run_quadratic
from tiny import Stop, stop_at

from fedpeft.errors import PluginError
from fedpeft.journal import EventKind
from fedpeft.registry import BUILTIN, build
from fedpeft.strategies import FedAvg

PAGE = Path(__file__).parents[2] / "strategies" / "CLIENT_HALVES.md"


@pytest.fixture
def feddyn(tmp_path):
    turns, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "HeadLater" in turns
    (tmp_path / "feddyn.py").write_text(code, encoding="utf-8")
    return lambda: build("strategy", "feddyn.py:FedDyn", {"alpha": 1.0}, relative_to=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ask", [CLIENTS, 3])
def test_the_example_reaches_the_optimum_that_fedavg_misses(tmp_path, feddyn, ask):
    run_quadratic(tmp_path, feddyn(), rounds=30 * CLIENTS // ask, ask=ask)
    assert float(np.abs(committed(tmp_path)["theta"] - OPTIMUM).max()) < 0.05


@pytest.mark.slow
def test_the_example_goes_on_after_an_interruption_bit_by_bit(tmp_path, feddyn):
    options = {"rounds": 5, "ask": 3}
    whole = run_quadratic(tmp_path / "whole", feddyn(), **options)
    with pytest.raises(Stop):
        run_quadratic(tmp_path / "parts", feddyn(), observers=[stop_at(EventKind.ACCEPTED, 8)], **options)
    assert run_quadratic(tmp_path / "parts", feddyn(), resume=True, **options).adapter_hash == whole.adapter_hash


class Deaf(FedAvg):
    """Asks for the control variates of an objective that sends none."""

    receives = ("c",)


class Mute(FedAvg):
    """Names SCAFFOLD's objective and sends it nothing."""

    objective = "scaffold"
    receives = ("c",)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Deaf, r"strategy Deaf receives \['c'\], and its objective \"plain\" is made for \[\]"),
        (Mute, r"strategy Mute sends \[\], and its objective \"scaffold\" is made for \['c'\]"),
    ],
)
def test_halves_that_are_not_made_for_each_other_are_refused_before_the_run(tmp_path, strategy, message):
    with pytest.raises(PluginError, match=message) as error:
        run_quadratic(tmp_path, strategy())
    assert error.value.code == "plugin.halves"
    assert not (tmp_path / "quadratic").exists()


def test_the_strategies_of_its_table_are_built_in():
    named = re.findall(r'`strategy\.name = "(\w+)"`', PAGE.read_text(encoding="utf-8"))
    assert set(named) == {"scaffold", "fedsa", "ffa", "rolora"}
    assert set(named) <= set(BUILTIN["strategy"])


@pytest.mark.slow
def test_its_strategy_that_takes_turns_leaves_the_head_alone_until_its_turn(tmp_path):
    turns, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "later.py").write_text(
        turns.replace('("classifier",) if round_number < 6', '("head",) if round_number < 2')
    )
    strategy = build("strategy", "later.py:HeadLater", {}, relative_to=tmp_path)
    run_quadratic(tmp_path / "one", strategy, rounds=1)
    theta = committed(tmp_path / "one")["theta"]
    assert not theta[: D // 2].any()
    assert theta[D // 2 :].all()
    run_quadratic(tmp_path / "two", strategy, rounds=2)
    assert committed(tmp_path / "two")["theta"].all()
