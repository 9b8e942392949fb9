"""A SuperLink that no longer knows one node: that node ends, and the process, which may stand for others, is sent no
signal."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.proto.fleet_pb2 import ActivateNodeResponse
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.supercore.primitives.asymmetric import generate_key_pairs
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from fedpeft.errors import RoundError
from fedpeft.flower import compat
from fedpeft.flower.compat.node import SuperLink, connect
from fedpeft.flower.envelope import pack

LIMIT_S = 30.0
"""For what takes far less."""


class Signalled(AssertionError):
    """The process was to be sent a signal."""


@pytest.fixture(autouse=True)
def _no_signal(monkeypatch):
    def kill(*_):
        raise Signalled

    monkeypatch.setattr(os, "kill", kill)
    compat.assume_identity(1)


@contextmanager
def superlink(known):
    """One on loopback that answers the paths in `known`, and all else with 401; yields its address, and what came."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            path = self.path.rsplit("/", 1)[-1]
            content = known.get(path, b"")
            asked.append(path)
            self.send_response(200 if path in known else 401)
            self.send_header("content-type", PROTOBUF_MEDIA_TYPE)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SuperLink(f"127.0.0.1:{server.server_port}", insecure=True), asked
        finally:
            server.shutdown()
            thread.join(LIMIT_S)


def key():
    return generate_key_pairs()[0]


ACTIVE = {"activate-node": ActivateNodeResponse(node_id=5).SerializeToString()}


def test_a_node_whose_key_is_taken_away_is_told_why():
    with superlink(ACTIVE) as (link, _), connect(link, key()) as node:
        with pytest.raises(RoundError, match="refuses node 5: its key is not registered, or this machine") as caught:
            node.pull()
        assert caught.value.code == "engine.node-refused"
        asked = Message(RecordDict(), dst_node_id=5, message_type=MessageType.TRAIN)
        compat.set_message_id(asked, "m")
        with pytest.raises(RoundError, match="refuses node 5"):
            node.push(Message(pack(b"x"), reply_to=asked), 0.0)


UNKNOWN = {"send-node-heartbeat": SendNodeHeartbeatResponse(success=False).SerializeToString()}


@pytest.mark.parametrize("refusal", [{}, UNKNOWN], ids=["its signature is refused", "it is not on the books"])
def test_its_heartbeats_go_on_until_it_is_closed(monkeypatch, refusal):
    """Should the clock be set right meanwhile, the next one counts."""
    monkeypatch.setattr("random.uniform", lambda low, high: 0.01)  # of the waits between two
    with superlink(ACTIVE | refusal) as (link, asked), connect(link, key()) as node:
        until = time.monotonic() + LIMIT_S
        while asked.count("send-node-heartbeat") < 3 and time.monotonic() < until:
            time.sleep(0.01)
        node.close()
        assert asked[-1] == "deactivate-node"
        node.close()
        assert asked.count("deactivate-node") == 1
    assert asked.count("send-node-heartbeat") >= 3


def test_a_clock_that_is_off_at_the_start_is_an_error_and_no_signal():
    with superlink({}) as (link, _), pytest.raises(RoundError, match="401") as caught, connect(link, key()):
        pass
    assert caught.value.code == "engine.node-refused"
    assert "clock" in caught.value.allowed
