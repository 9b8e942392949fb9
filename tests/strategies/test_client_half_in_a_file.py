"""A client half that comes in a file: one name on both sides, and a refusal by name where it is missing."""

import pytest
from tiny import run_tiny

from fedpeft.errors import PluginError, RoundError
from fedpeft.plugin_files import _OFFERED, forget_edited, offer, offered
from fedpeft.registry import build, load
from fedpeft.strategies import FedProx
from fedpeft.strategies.client_half import settle_objective

RULE = """
from fedpeft.strategies import FedAvg

class Rule(FedAvg):
    objective = "rule.py:Near"

    def __init__(self, mu: float = 0.5):
        super().__init__()
        self.objective_params = {"mu": mu}

class Near:
    def __init__(self, mu: float):
        self.mu = mu

    def add_gradient(self, gradient, theta, start):
        gradient.add_(theta - start, alpha=self.mu)
"""


@pytest.fixture
def rule(tmp_path):
    (tmp_path / "rule.py").write_text(RULE)
    return lambda **params: build("strategy", "rule.py:Rule", params, relative_to=tmp_path)


def test_its_name_is_that_of_its_file_and_contents_wherever_it_lies(tmp_path, rule):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rule.py").write_text(RULE)
    other = offer("objective", "elsewhere/rule.py:Near", tmp_path)
    strategy = rule()
    settle_objective(strategy)
    assert strategy.objective == other
    settle_objective(strategy)  # a second time changes nothing
    assert strategy.objective == other
    assert other in offered("objective")
    assert load("objective", other).__name__ == "Near"
    (tmp_path / "elsewhere" / "rule.py").write_text(RULE + "\n")
    forget_edited()
    assert offer("objective", "elsewhere/rule.py:Near", tmp_path) != other


def test_a_strategy_that_is_made_before_its_file_is_edited_asks_for_the_new_half_by_the_new_name(tmp_path, rule):
    before, after = rule(), rule()
    settle_objective(before)
    (tmp_path / "rule.py").write_text(RULE + "    edited = True\n")
    settle_objective(after)
    assert after.objective != before.objective
    assert load("objective", after.objective).edited
    assert not hasattr(load("objective", before.objective), "edited")


def test_a_name_that_was_never_offered_says_what_to_do():
    with pytest.raises(PluginError, match=r"rule\.py:Far#000000000000") as error:
        load("objective", "rule.py:Far#000000000000")
    assert error.value.code == "plugin.not-offered"
    assert error.value.remedy == "put the same rule.py beside this side's run file"


def test_a_file_that_is_not_there_is_refused_before_the_run(tmp_path, rule):
    strategy = rule()
    strategy.objective = "rulle.py:Near"
    with pytest.raises(PluginError, match=r"rulle\.py") as error:
        run_tiny(tmp_path / "runs", strategy=strategy)
    assert error.value.code == "plugin.no-file"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"engine__trainer": "sequential"}, {"engine__workers": 2}], ids=str)
def test_it_trains_as_the_built_in_one_of_its_equation(tmp_path, rule, options):
    own = run_tiny(tmp_path / "own", strategy=rule(mu=2.0), **options)
    proximal = run_tiny(tmp_path / "built-in", strategy=FedProx(mu=2.0), **options)
    assert own.adapter_hash == proximal.adapter_hash
    assert own.adapter_hash != run_tiny(tmp_path / "weaker", strategy=rule(mu=0.5), **options).adapter_hash


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "said"), [(None, "that the strategy asks for"), (RULE + "# old", "another version")]
)
def test_a_client_that_lacks_it_is_refused_by_name_before_the_round(tmp_path, rule, monkeypatch, theirs, said):
    """In one process both sides would have it: what the agents offer is taken from another folder, or is nothing."""
    kept = []
    if theirs is not None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / "rule.py").write_text(theirs)
        kept = [offer("objective", "rule.py:Near", tmp_path / "theirs")]
    monkeypatch.setattr("fedpeft.client.agent.offered", lambda kind: kept)
    with pytest.raises(RoundError, match=rf'lacks the objective "rule\.py:Near#[0-9a-f]{{12}}".*{said}'):
        run_tiny(tmp_path / "runs", strategy=rule())


@pytest.fixture(autouse=True)
def _forget_offers():
    before = dict(_OFFERED)
    yield
    _OFFERED.clear()
    _OFFERED.update(before)
