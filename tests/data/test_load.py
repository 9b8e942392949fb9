"""`load_corpus` finds a source by name, also one of the user's own, and holds it to its contract."""

import doctest

import numpy as np
import pytest

import fedpeft.data.labels
import fedpeft.data.load
import fedpeft.data.partition.contract
from fedpeft.config import parse_config
from fedpeft.data import load_corpus
from fedpeft.errors import PluginError

SOURCE = """
import numpy as np
from fedpeft.data import ClientData, Corpus, TextExamples, client_ids

def colours(config):
    sky = TextExamples(("the sky", "a lemon"), np.array([0, 1]))
    clients = {client: ClientData(sky, sky.take([])) for client in client_ids(config.clients)}
    return Corpus(("blue", "yellow"), clients, test=sky, description="synthetic: two colours")

def lonely(config):
    corpus = colours(config)
    return Corpus(corpus.label_names, {"me": corpus.clients["c00"]}, corpus.test, "one client")

def nothing(config):
    return None
"""


def load(source: str):
    table = {
        "run": {"name": "t", "rounds": 1},
        "model": {"source": "m"},
        "data": {"source": source},
        "devices": [{"name": "phone", "clients": 3}],
        "round": {"ask": 2},
    }
    return load_corpus(parse_config(table, origin="test"))


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "colours.py"
    path.write_text(SOURCE)
    return path


def test_a_source_of_ones_own(plugin):
    corpus = load(f"{plugin}:colours")
    assert list(corpus.clients) == ["c00", "c01", "c02"]
    assert np.array_equal(corpus.test.labels, [0, 1])


@pytest.mark.parametrize(
    ("name", "found"), [("lonely", "a corpus of 1 clients: me"), ("nothing", "returned a NoneType")]
)
def test_a_source_that_breaks_its_contract(plugin, name, found):
    with pytest.raises(PluginError, match=found) as caught:
        load(f"{plugin}:{name}")
    assert caught.value.allowed == "a Corpus of 3 clients, c00 to c02"


def test_an_unknown_source_is_corrected():
    with pytest.raises(PluginError, match='did you mean "assistant"'):
        load("asistant")


@pytest.mark.parametrize(
    "module", [fedpeft.data.labels, fedpeft.data.load, fedpeft.data.partition.contract], ids=lambda m: m.__name__
)
def test_the_toys_in_the_docstrings_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
