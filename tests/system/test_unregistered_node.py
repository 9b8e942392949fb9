"""`flwr supernode unregister` of one client of an agent, on a real SuperLink: the others are served on."""

from __future__ import annotations

import threading
import time

import pytest
from bare_superlink import bare_superlink
from flwr.clientapp import ClientApp
from flwr.proto.control_pb2 import UnregisterNodeRequest

from fedpeft.errors import RoundError
from fedpeft.flower.compat.node import SuperLink
from fedpeft.flower.nodes import connected, serve_nodes

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def fleet(tmp_path):
    """A SuperLink, its operator, the keys of c00 and c01, and the ids of their nodes."""
    with bare_superlink(tmp_path) as found:
        yield SuperLink(found.address, found.authority), found.operator, found.keys, found.ids


def test_the_others_are_served_until_none_is_left(fleet, caplog):
    link, operator, keys, ids = fleet
    ended: list[RoundError] = []

    def serve():
        try:
            with connected(link, keys, patience_s=20, stopped=stopped) as nodes:
                ready.set()
                serve_nodes(ClientApp(), nodes, stopped, poll_s=0.1)
        except RoundError as error:
            ended.append(error)

    ready, stopped, thread = threading.Event(), threading.Event(), threading.Thread(target=serve)

    def unregister(client, until):
        before = time.monotonic()
        operator._client.UnregisterNode(UnregisterNodeRequest(node_id=ids[client]))
        while not until() and time.monotonic() < before + 30:
            time.sleep(0.1)

    thread.start()
    try:
        assert ready.wait(60)
        unregister("c01", lambda: "client c01" in caplog.text)
        assert f"client c01: the SuperLink refuses node {ids['c01']}: its key is not registered" in caplog.text
        assert thread.is_alive()
        unregister("c00", lambda: not thread.is_alive())
        assert [error.code for error in ended] == ["engine.node-refused"]
        assert "client c00" in ended[0].message
    finally:
        stopped.set()
        thread.join(60)
