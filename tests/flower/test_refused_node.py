"""A SuperLink that refuses a node: asked again while there is patience, then one clear error."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from flwr.supernode import fleet_http_connection

from fedpeft.errors import RoundError
from fedpeft.flower.compat.node import SuperLink, connect
from fedpeft.flower.compat.waiting import Stopped

HERE = SuperLink("127.0.0.1:1", insecure=True)


@pytest.fixture
def refusals(monkeypatch):
    """How often the SuperLink still refuses; Flower's connection is scripted."""
    left, ended = [0], []

    @contextmanager
    def connection(address, insecure, certificates, keys):
        assert (address, insecure, certificates, keys) == ("127.0.0.1:1", True, None, None)
        if left[0] > 0:
            left[0] -= 1
            fleet_http_connection.flwr_exit(600, "[code: 2004] Failed to activate SuperNode")
        try:
            yield (7, *range(7))
        except Exception:
            ended.append("swallowed")  # as Flower's does
        ended.append("closed")

    monkeypatch.setattr(fleet_http_connection, "http_request_response", connection)
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds: self.is_set())
    return left, ended


def test_it_asks_again_while_there_is_patience(refusals):
    left, ended = refusals
    left[0] = 3
    with connect(HERE, None, patience_s=60) as connection:
        assert connection.node_id == 7
    assert (left[0], ended) == (0, ["closed"])


def test_without_patience_the_reason_and_the_remedy_are_told(refusals):
    refusals[0][0] = 1
    with (
        pytest.raises(RoundError, match=r"refuses this node: \[code: 2004\] Failed to activate") as caught,
        connect(HERE, None),
    ):
        pass
    assert caught.value.code == "engine.node-refused"
    assert "flwr supernode register" in caught.value.allowed


def test_told_to_stop_it_asks_no_more(refusals):
    refusals[0][0] = 3
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(Stopped), connect(HERE, None, patience_s=60, stopped=stopped):
        pass
    assert refusals == ([3], [])


def test_what_goes_wrong_later_is_not_swallowed(refusals):
    with pytest.raises(ValueError, match="odd"), connect(HERE, None):
        raise ValueError("odd")
    assert refusals[1] == ["closed"]
