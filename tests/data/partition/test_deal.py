"""`deal` holds a partitioner to its contract and explains what the run file got wrong."""

import numpy as np
import pytest

from fedpeft.config import PluginTable
from fedpeft.data.partition import deal
from fedpeft.errors import DataError, PluginError

LABELS = np.zeros(6, dtype=np.int64)
FAULTY = """
import numpy as np
def loses(labels, clients, seed): return [np.array([c]) for c in range(clients)]
def doubles(labels, clients, seed): return [np.arange(len(labels)) for _ in range(clients)]
def short(labels, clients, seed): return [np.arange(len(labels))]
def starves(labels, clients, seed): return [np.arange(len(labels)), *[np.arange(0)] * (clients - 1)]
def cards(labels, clients, seed, *, start=0):
    owners = (np.arange(len(labels)) + start) % clients
    return [np.flatnonzero(owners == client) for client in range(clients)]
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "cards.py"
    path.write_text(FAULTY)
    return path


def test_a_partitioner_of_ones_own_gets_its_parameters(plugin):
    parts = deal(PluginTable(name=f"{plugin}:cards", start=1), LABELS, 2, 7)
    assert [part.tolist() for part in parts] == [[1, 3, 5], [0, 2, 4]]


@pytest.mark.parametrize(
    ("name", "found"),
    [("loses", "lose or double"), ("doubles", "lose or double"), ("short", "1 parts for 2 clients")],
)
def test_a_partitioner_that_breaks_its_contract(plugin, name, found):
    with pytest.raises(PluginError, match=found) as caught:
        deal(PluginTable(name=f"{plugin}:{name}"), LABELS, 2, 7)
    assert caught.value.code == "plugin.partitioner-contract"


def test_an_empty_client_is_named(plugin):
    with pytest.raises(DataError, match="client c01 is left with no examples"):
        deal(PluginTable(name=f"{plugin}:starves"), LABELS, 3, 7)


def test_an_unknown_parameter_is_corrected():
    with pytest.raises(PluginError, match='"dirichlet" has no parameter alhpa') as caught:
        deal(PluginTable(name="dirichlet", alhpa=0.5), LABELS, 2, 7)
    assert caught.value.allowed == "alpha, min_examples"
    assert caught.value.remedy == 'did you mean "alpha"?'


def test_the_runs_own_arguments_cannot_be_overridden():
    with pytest.raises(PluginError, match="no parameter seed"):
        deal(PluginTable(name="iid", seed=3), LABELS, 2, 7)


@pytest.mark.parametrize("alpha", [-1.0, "much"])
def test_a_wrong_value_is_shown(alpha):
    with pytest.raises(PluginError, match=r"refused its parameters \{'alpha': "):
        deal(PluginTable(name="dirichlet", alpha=alpha), LABELS, 2, 7)
